/**
 * The OpenAPI 3.1 document, made of the routes themselves (surface.md §5).
 */
import { OpenAPIHono } from "@hono/zod-openapi";
import type { RouteConfig } from "@hono/zod-openapi";
import { assertNever } from "../base/assert.ts";
import { errorCodes } from "../base/errors.ts";
import { route } from "./route.ts";
import type { Access, Route } from "./route.ts";
import { Problem } from "./schemas.ts";

/** The route that serves the document of `others` and itself. */
export function documentRoute(others: readonly Route[], version: string): Route {
  let document: object | undefined;
  const own: Route = route({
    method: "get",
    path: "/v1/openapi.json",
    tag: "system",
    summary: "This document",
    access: { kind: "public" },
    answer: { status: 200, description: "OpenAPI 3.1", type: "application/json" },
    handle: () => {
      document ??= openApiDocument([...others, own], version);
      return Promise.resolve(Response.json(document));
    },
  });
  return own;
}

/** The document as plain JSON. */
export function openApiDocument(routes: readonly Route[], version: string): object {
  const app = new OpenAPIHono();
  const registry = app.openAPIRegistry;
  registry.registerComponent("securitySchemes", "token", {
    type: "http",
    scheme: "bearer",
    description: "`ry_…` of a person or program",
  });
  registry.registerComponent("securitySchemes", "leaseToken", {
    type: "http",
    scheme: "bearer",
    description: "`ryl_…` of one lease, as POST /v1/leases answered it",
  });
  for (const route of routes) registry.registerPath(pathOf(route));
  return app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Rackyard",
      version,
      description:
        "Every change gets its own rack. Lists are `{ items, next }`; errors are RFC 9457 " +
        "problems with a stable `code`; times are RFC 3339 in UTC.",
      license: { name: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
  });
}

function pathOf(route: Route): RouteConfig {
  const { answer } = route;
  const headers = [
    ...(route.creates ? [["Idempotency-Key", "makes a second try the same"] as const] : []),
    ...(route.single ? [["If-None-Match", "304 where it is still this version"] as const] : []),
    ...(route.current ? [["If-Match", "412 unless it is still this version"] as const] : []),
  ];
  const content = answer.schema
    ? { "application/json": { schema: answer.schema } }
    : answer.type
      ? { [answer.type]: { schema: { type: "string" as const } } }
      : undefined;
  const config = {
    method: route.method,
    path: route.path,
    tags: [route.tag],
    summary: route.summary,
    description: whoMay(route.access),
    security: securityOf(route.access),
    request: {
      ...(route.params ? { params: route.params as never } : {}),
      ...(route.query ? { query: route.query as never } : {}),
      ...(route.body
        ? { body: { required: true, content: { "application/json": { schema: route.body } } } }
        : {}),
    },
    ...(headers.length === 0
      ? {}
      : {
          parameters: headers.map(([name, description]) => ({
            name,
            in: "header" as const,
            required: false,
            description,
            schema: { type: "string" as const },
          })),
        }),
    responses: {
      [answer.status]: { description: answer.description, ...(content ? { content } : {}) },
      default: {
        description: `a problem; its code is one of: ${Object.keys(errorCodes).join(", ")}`,
        content: { "application/problem+json": { schema: Problem } },
      },
    },
  };
  return config;
}

function whoMay(access: Access): string {
  switch (access.kind) {
    case "public":
      return "Needs no token.";
    case "role":
      return access.role === "reader"
        ? "Needs the role reader; open on loopback unless switched off."
        : `Needs the role ${access.role}.`;
    case "lease":
      return "Needs the lease's own token.";
    case "lease-or-role":
      return `Needs the lease's own token, or the role ${access.role}.`;
    case "socket":
      return "For hosts of this machine, through run/api.sock alone.";
    default:
      return assertNever(access);
  }
}

function securityOf(access: Access): Record<string, string[]>[] {
  switch (access.kind) {
    case "public":
    case "socket":
      return [];
    case "role":
      return access.role === "reader" ? [{}, { token: [] }] : [{ token: [] }];
    case "lease":
      return [{ leaseToken: [] }];
    case "lease-or-role":
      return [{ leaseToken: [] }, { token: [] }];
    default:
      return assertNever(access);
  }
}

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
  const document = app.getOpenAPI31Document({
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
  markTimes(document);
  return document;
}

/** What is called `at` or `…At` is a time (surface.md §5), everywhere. */
function markTimes(node: unknown): void {
  if (typeof node !== "object" || node === null) return;
  const { properties } = node as { readonly properties?: Record<string, JsonSchema> };
  for (const [name, schema] of Object.entries(properties ?? {})) {
    if (/^at$|At$/.test(name)) markTime(schema);
  }
  for (const value of Object.values(node)) markTimes(value);
}

type JsonSchema = {
  readonly type?: string | readonly string[];
  readonly anyOf?: readonly JsonSchema[];
  format?: string;
};

function markTime(schema: JsonSchema): void {
  const types = [schema.type ?? []].flat();
  if (types.includes("string")) schema.format = "date-time";
  for (const one of schema.anyOf ?? []) markTime(one);
}

/**
 * `getLeases`, `getLease`, `postLeaseRenew`, `getLeaseTestenvJson`: method and path, what stands
 * before a parameter in the singular. Clients are generated from it: it is part of the interface.
 */
export function operationId(method: string, path: string): string {
  const parts = path.split("/").filter((part) => part !== "" && part !== "v1");
  const words = parts.flatMap((part, n) => {
    if (part.startsWith("{")) return [];
    const isOne = parts[n + 1]?.startsWith("{") === true;
    return (isOne ? part.replace(/s$/, "") : part).split(/[^A-Za-z0-9]+/).filter(Boolean);
  });
  return method + words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join("");
}

/** Statuses that a client of this route must be ready for (surface.md §5). */
function refusals(route: Route): Record<number, string> {
  const { access, body, params, query, current, method } = route;
  const isOpen = access.kind === "public";
  return {
    ...(body || params || query ? { 400: "malformed" } : {}),
    ...(isOpen ? {} : { 401: "no token, or a dead one", 403: "not yours" }),
    ...(params ? { 404: "there is none" } : {}),
    ...(method === "get" ? {} : { 409: "its state forbids it" }),
    ...(current ? { 412: "it has changed since you looked" } : {}),
    ...(body
      ? { 413: "over 1 MiB", 415: "not application/json", 422: "well-formed but impossible" }
      : {}),
    ...(method === "get" ? {} : { 429: "too many; see Retry-After" }),
    503: "not now; see Retry-After",
  };
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
    operationId: operationId(route.method, route.path),
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
      [answer.status]: {
        description: answer.description,
        ...(content ? { content } : {}),
        ...(route.location ? { headers: { Location: locationHeader } } : {}),
      },
      ...Object.fromEntries(
        Object.entries(refusals(route)).map(([status, description]) => [
          status,
          { description, content: { "application/problem+json": { schema: Problem } } },
        ]),
      ),
      default: {
        description: `a problem; its code is one of: ${Object.keys(errorCodes).join(", ")}`,
        content: { "application/problem+json": { schema: Problem } },
      },
    },
  };
  return config;
}

const locationHeader = {
  description: "what was made",
  schema: { type: "string" as const, format: "uri-reference" },
};

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

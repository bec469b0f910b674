import { expect, test } from "vitest";
import { adminRoutes } from "./admin-routes.ts";
import { buildRoutes, changeRoutes } from "./change-routes.ts";
import { fleetRoutes } from "./fleet-routes.ts";
import { leaseRoutes } from "./lease-routes.ts";
import { openApiDocument, operationId } from "./openapi.ts";
import type { Route } from "./route.ts";
import { sessionRoutes } from "./session-routes.ts";

/** Routes are data: what is behind them is not called. */
const none = {} as never;
const routes: readonly Route[] = [
  ...leaseRoutes(none),
  ...fleetRoutes(none, none),
  ...sessionRoutes(false),
  ...changeRoutes(none),
  ...buildRoutes(none),
  ...adminRoutes(none, none, none),
];

type Schema = {
  readonly type?: string | string[];
  readonly format?: string;
  readonly anyOf?: Schema[];
  readonly example?: unknown;
  readonly properties?: Record<string, Schema>;
};
type Operation = {
  readonly operationId: string;
  readonly responses: Record<string, { headers?: object; content?: object }>;
};
const document = openApiDocument(routes, "0") as {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema> };
};
const operations = routes.map(
  (route) => [route, document.paths[route.path]![route.method]!] as const,
);

test("surface.md §5 every call has a name of its own, made of its method and path", () => {
  const names = operations.map(([, { operationId: name }]) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(name).toMatch(/^[a-z]+([A-Z][A-Za-z0-9]*)+$/);
  expect(operationId("get", "/v1/leases")).toBe("getLeases");
  expect(operationId("get", "/v1/leases/{id}/testenv.json")).toBe("getLeaseTestenvJson");
});

test("surface.md §5 every time is a date-time, and nothing else is", () => {
  const marked: string[] = [];
  const look = (name: string, schema: Schema): void => {
    for (const [property, value] of Object.entries(schema.properties ?? {})) {
      const formats = [value, ...(value.anyOf ?? [])].map(({ format }) => format);
      const isTime = property === "at" || property.endsWith("At");
      expect(formats.includes("date-time"), `${name}.${property}`).toBe(isTime);
      if (isTime) marked.push(`${name}.${property}`);
    }
  };
  for (const [name, schema] of Object.entries(document.components.schemas)) look(name, schema);
  expect(marked).toEqual(expect.arrayContaining(["Lease.createdAt", "Build.endedAt", "Event.at"]));
});

test("surface.md §5 what a call refuses is said, and what it makes has an address", () => {
  for (const [route, { responses }] of operations) {
    const statuses = Object.keys(responses);
    if (route.params) expect(statuses, route.path).toContain("404");
    if (route.body) expect(statuses, route.path).toEqual(expect.arrayContaining(["400", "422"]));
    if (route.access.kind === "role") expect(statuses, route.path).toContain("403");
    expect(responses["400"]?.content ?? {}, route.path).not.toHaveProperty("application/json");
    if (!route.creates) continue;
    expect(responses["201"]!.headers, route.path).toHaveProperty("Location");
  }
});

test("surface.md §5 examples of requests are what the requests' own schemas take", () => {
  const bodies = routes.filter(({ body }) => body && !body.safeParse({}).success);
  const { schemas } = document.components;
  let shown = 0;
  for (const { body, path } of bodies) {
    const examples = Object.values(schemas).flatMap(({ example }) => example ?? []);
    const fitting = examples.filter((example) => body!.safeParse(example).success);
    expect(fitting.length, path).toBeGreaterThan(0);
    shown += fitting.length;
  }
  expect(shown).toBeGreaterThanOrEqual(bodies.length);
});

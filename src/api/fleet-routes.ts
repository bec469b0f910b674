/**
 * The fleet over HTTP: test environments with their certificates and consoles, hosts, nodes and
 * images (lease.md §4, surface.md §5).
 */
import { fail } from "../base/errors.ts";
import { problemOf } from "./problem.ts";
import { route } from "./route.ts";
import type { Route } from "./route.ts";
import * as schemas from "./schemas.ts";
import { eventStream, plainStream } from "./stream.ts";
import type { StreamEvent } from "./stream.ts";
import type { BuildViews, FleetViews } from "./views.ts";

const reader = { kind: "role", role: "reader" } as const;

export function fleetRoutes(fleet: FleetViews, builds: BuildViews): Route[] {
  return [
    ...testenvRoutes(fleet),
    ...testenvOrders(fleet),
    ...hostRoutes(fleet),
    ...nodeRoutes(builds),
  ];
}

const tag = "testenvs";
const testenv = { status: 200, description: "the TE", schema: schemas.Testenv } as const;

function testenvRoutes(fleet: FleetViews): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/testenvs",
      tag,
      summary: "All test environments",
      access: reader,
      query: schemas.None,
      answer: {
        status: 200,
        description: "all, by host and number",
        schema: schemas.pageOf(schemas.Testenv, "TestenvPage"),
      },
      handle: async () => ({ items: await fleet.testenvs(), next: null }),
    }),
    route({
      method: "get",
      path: "/v1/testenvs/{id}",
      tag,
      summary: "One test environment",
      access: reader,
      params: schemas.testenvParams,
      answer: testenv,
      single: true,
      handle: ({ params }) => fleet.testenv(params.id),
    }),
    route({
      method: "get",
      path: "/v1/testenvs/{id}/certificate",
      tag,
      summary: "Its latest reset certificate",
      access: reader,
      params: schemas.testenvParams,
      answer: { status: 200, description: "signed by the host", schema: schemas.Certificate },
      single: true,
      handle: ({ params }) => fleet.certificate(params.id),
    }),
    route({
      method: "get",
      path: "/v1/testenvs/{id}/console/{machine}",
      tag,
      summary: "A machine's serial console; ?follow streams events of base64 with their offset",
      access: reader,
      params: schemas.consoleParams,
      query: schemas.machineConsoleQuery,
      answer: { status: 200, description: "as the machine wrote it", type: "text/plain" },
      handle: async ({ params, query, signal, accepts, header }) => {
        await fleet.testenv(params.id);
        const gone = new AbortController();
        const over = AbortSignal.any([signal, gone.signal]);
        const follow = query.follow ?? false;
        const last = Number(header("last-event-id") ?? Number.NaN);
        const from = Number.isInteger(last) && last >= 0 ? last : query.from;
        const source = fleet.console(params.id, params.machine, from, follow, over);
        if (follow || accepts("text/event-stream")) {
          return eventStream(consoleEvents(source, from), () => gone.abort(), problemOf);
        }
        return plainStream(source, () => gone.abort(), "text/plain; charset=utf-8");
      },
    }),
  ];
}

/** What an operator orders of a rack. */
function testenvOrders(fleet: FleetViews): Route[] {
  const drain = (on: boolean): Route =>
    route({
      method: "post",
      path: `/v1/testenvs/{id}/${on ? "drain" : "undrain"}`,
      tag,
      summary: on ? "Finish the present lease, take no further one" : "Take leases again",
      access: { kind: "role", role: "operator" },
      params: schemas.testenvParams,
      answer: testenv,
      current: ({ id }) => fleet.testenv(id),
      handle: ({ params, caller }) => fleet.drain(params.id, on, caller),
    });
  return [
    drain(true),
    drain(false),
    route({
      method: "post",
      path: "/v1/testenvs/{id}/reset",
      tag,
      summary: "Order a reset of a rack that nobody has; a quarantined one comes back by it",
      access: { kind: "role", role: "operator" },
      params: schemas.testenvParams,
      answer: testenv,
      current: ({ id }) => fleet.testenv(id),
      handle: ({ params, caller }) => fleet.reset(params.id, caller),
    }),
  ];
}

/** The id is the offset after the piece: `Last-Event-ID` goes on from there. */
async function* consoleEvents(
  source: AsyncIterable<Uint8Array>,
  from: number,
): AsyncGenerator<StreamEvent> {
  let offset = from;
  for await (const bytes of source) {
    const data = { offset, base64: Buffer.from(bytes).toString("base64") };
    offset += bytes.length;
    yield { id: offset, event: "console", data };
  }
  yield { id: offset, event: "end", data: { offset } };
}

function hostRoutes(fleet: FleetViews): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/hosts",
      tag: "hosts",
      summary: "All hosts",
      access: reader,
      query: schemas.None,
      answer: {
        status: 200,
        description: "all",
        schema: schemas.pageOf(schemas.Host, "HostPage"),
      },
      handle: async () => ({ items: await fleet.hosts(), next: null }),
    }),
    route({
      method: "get",
      path: "/v1/hosts/{name}",
      tag: "hosts",
      summary: "One host, by its name or id",
      access: reader,
      params: schemas.nameParams,
      answer: { status: 200, description: "the host", schema: schemas.Host },
      single: true,
      handle: async ({ params: { name } }) => {
        const host = (await fleet.hosts()).find((one) => one.name === name || one.id === name);
        return host ?? fail("not-found", `there is no host ${name}`);
      },
    }),
  ];
}

function nodeRoutes(builds: BuildViews): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/nodes",
      tag: "nodes",
      summary: "CI nodes that are there or were lately",
      access: reader,
      query: schemas.None,
      answer: {
        status: 200,
        description: "newest first",
        schema: schemas.pageOf(schemas.Node, "NodePage"),
      },
      handle: async () => ({ items: await builds.nodes(), next: null }),
    }),
    route({
      method: "get",
      path: "/v1/nodes/{id}",
      tag: "nodes",
      summary: "One node",
      access: reader,
      params: schemas.uuidParams,
      answer: { status: 200, description: "the node", schema: schemas.Node },
      single: true,
      handle: async ({ params: { id } }) =>
        (await builds.nodes()).find((node) => node.id === id) ??
        fail("not-found", `there is no node ${id}`),
    }),
    route({
      method: "get",
      path: "/v1/images",
      tag: "nodes",
      summary: "Images of nodes, as the hosts built them",
      access: reader,
      query: schemas.None,
      answer: {
        status: 200,
        description: "all",
        schema: schemas.pageOf(schemas.Image, "ImagePage"),
      },
      handle: async () => ({ items: await builds.images(), next: null }),
    }),
  ];
}

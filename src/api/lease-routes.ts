/**
 * Leases over HTTP (lease.md §4): asking, looking, waiting, the TE data, signs of life, the end,
 * and what is left of one afterwards. Decides nothing: the broker's views do.
 */
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { fail, isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { mayAct } from "../model/identity.ts";
import type { LeaseView } from "../model/lease.ts";
import { etagOf, matches } from "./engine.ts";
import { problemOf } from "./problem.ts";
import { route } from "./route.ts";
import type { Route } from "./route.ts";
import * as schemas from "./schemas.ts";
import { eventStream, sandboxed } from "./stream.ts";
import type { LeaseViews } from "./views.ts";

const tag = "leases";
const lease = { status: 200, description: "the lease", schema: schemas.Lease } as const;
const byToken = { kind: "lease" } as const;
const reader = { kind: "role", role: "reader" } as const;

export function leaseRoutes(leases: LeaseViews): Route[] {
  return [
    ...askingRoutes(leases),
    ...lookingRoutes(leases),
    ...holdingRoutes(leases),
    ...fileRoutes(leases),
  ];
}

function askingRoutes(leases: LeaseViews): Route[] {
  return [
    route({
      method: "post",
      path: "/v1/leases",
      tag,
      summary: "Ask for a test environment",
      access: { kind: "role", role: "holder" },
      body: schemas.LeaseRequest,
      creates: true,
      location: ({ id }: { readonly id: string }) => `/v1/leases/${id}`,
      answer: {
        status: 201,
        description: "recorded; the token is the holder's",
        schema: schemas.LeaseCreated,
      },
      handle: ({ body, caller, header }) => {
        const { group } = body;
        if (group !== undefined && !mayUse(group, caller.role, caller.groups)) {
          fail("not-allowed", `${caller.name} may not lease for the group ${group}`);
        }
        return leases.ask(body, caller, header("idempotency-key"));
      },
    }),
    route({
      method: "patch",
      path: "/v1/leases/{id}",
      tag,
      summary: "Say whether a waiting lease can be taken now, and from where",
      access: byToken,
      params: schemas.uuidParams,
      body: schemas.LeasePatch,
      answer: lease,
      current: ({ id }) => leases.get(id),
      handle: ({ params, body, leaseToken }) => leases.patch(params.id, body, leaseToken ?? ""),
    }),
  ];
}

/** A token without groups, and those who run the system, may lease for any. */
function mayUse(
  group: string,
  role: Parameters<typeof mayAct>[0],
  groups: readonly string[],
): boolean {
  return groups.length === 0 || groups.includes(group) || mayAct(role, "operator");
}

function lookingRoutes(leases: LeaseViews): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/leases",
      tag,
      summary: "Leases, newest first",
      access: reader,
      query: schemas.leasesQuery,
      answer: {
        status: 200,
        description: "a page",
        schema: schemas.pageOf(schemas.Lease, "LeasePage"),
      },
      handle: ({ query: { project, ...query } }) =>
        leases.list({ ...query, group: query.group ?? project }),
    }),
    route({
      method: "get",
      path: "/v1/leases/{id}",
      tag,
      summary: "One lease, by its id or first digits; ?wait= polls long, event-stream streams",
      access: { kind: "lease-or-role", role: "reader" },
      params: schemas.idParams,
      query: schemas.leaseQuery,
      answer: lease,
      single: true,
      handle: async ({ params, query, leaseToken, signal, accepts, header }) => {
        const id = await leases.whole(params.id);
        if (accepts("text/event-stream")) {
          const gone = new AbortController();
          const over = AbortSignal.any([signal, gone.signal]);
          const source = leases.watch(id, leaseToken, over);
          return eventStream(leaseEvents(source), () => gone.abort(), problemOf);
        }
        if (query.wait === undefined) return leases.get(id, leaseToken);
        const seen = header("if-none-match");
        return longPoll(leases, id, leaseToken, { waitMs: query.wait, seen, signal });
      },
    }),
  ];
}

async function* leaseEvents(
  source: AsyncIterable<LeaseView>,
): AsyncGenerator<{ event: string; data: object }> {
  for await (const view of source) yield { event: "lease", data: view };
}

/**
 * Waits for news: with `If-None-Match`, for another version than that one; without, until the
 * lease no longer waits (a change between two polls must not be missed). After the wait, the
 * lease as it is.
 */
async function longPoll(
  leases: LeaseViews,
  id: string,
  token: string | undefined,
  poll: { waitMs: number; seen: string | undefined; signal: AbortSignal },
): Promise<LeaseView> {
  const news = (view: LeaseView): boolean =>
    poll.seen === undefined
      ? view.state !== "waiting" && view.state !== "preparing"
      : !matches(poll.seen, etagOf(JSON.stringify(view)));
  const first = await leases.get(id, token);
  if (news(first)) return first;
  // A poll that ends by its time counts as a look; a caller who goes away has left (L11).
  const over = AbortSignal.any([poll.signal, AbortSignal.timeout(poll.waitMs)]);
  try {
    for await (const view of leases.watch(id, token, over)) if (news(view)) return view;
  } catch (error) {
    if (!over.aborted || isRackyardError(error)) throw error;
  }
  poll.signal.throwIfAborted();
  return leases.get(id, token);
}

function holdingRoutes(leases: LeaseViews): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/leases/{id}/testenv.json",
      tag,
      summary: "The TE data; the first call takes the rack",
      access: byToken,
      params: schemas.uuidParams,
      answer: { status: 200, description: "secret: the rack's keys", schema: schemas.TestenvData },
      handle: ({ params, leaseToken }) => leases.data(params.id, leaseToken ?? ""),
    }),
    route({
      method: "post",
      path: "/v1/leases/{id}/renew",
      tag,
      summary: "A sign of life",
      access: byToken,
      params: schemas.uuidParams,
      answer: lease,
      handle: ({ params, leaseToken }) => leases.renew(params.id, leaseToken ?? ""),
    }),
    route({
      method: "post",
      path: "/v1/leases/{id}/extend",
      tag,
      summary: "Move the deadline, from where it is",
      access: byToken,
      params: schemas.uuidParams,
      body: schemas.Extend,
      answer: lease,
      current: ({ id }) => leases.get(id),
      handle: ({ params, body, leaseToken }) =>
        leases.extend(params.id, body.durationSeconds, leaseToken ?? ""),
    }),
    route({
      method: "delete",
      path: "/v1/leases/{id}",
      tag,
      summary: "Release (by the lease's token), or revoke (by an operator)",
      access: { kind: "lease-or-role", role: "operator" },
      params: schemas.uuidParams,
      answer: lease,
      current: ({ id }) => leases.get(id),
      handle: ({ params, leaseToken, caller }) =>
        leaseToken === undefined
          ? leases.revoke(params.id, caller)
          : leases.release(params.id, leaseToken),
    }),
  ];
}

function fileRoutes(leases: LeaseViews): Route[] {
  return [
    route({
      method: "get",
      path: "/v1/leases/{id}/certificate",
      tag,
      summary: "The proof of the reset after this lease",
      access: reader,
      params: schemas.uuidParams,
      answer: { status: 200, description: "signed by the host", schema: schemas.Certificate },
      single: true,
      handle: ({ params }) => leases.certificate(params.id),
    }),
    route({
      method: "get",
      path: "/v1/leases/{id}/files",
      tag,
      summary: "What the host brought home of it",
      access: reader,
      params: schemas.uuidParams,
      answer: {
        status: 200,
        description: "names and sizes",
        schema: schemas.pageOf(schemas.File, "LeaseFilePage"),
      },
      handle: async ({ params }) => ({ items: await leases.files(params.id), next: null }),
    }),
    route({
      method: "get",
      path: "/v1/leases/{id}/files/{name}",
      tag,
      summary: "One of these files",
      access: reader,
      params: schemas.leaseFileParams,
      answer: { status: 200, description: "as it came", type: "text/plain" },
      handle: async ({ params }) => fileAnswer(await leases.filePath(params.id, params.name)),
    }),
    route({
      method: "put",
      path: "/v1/hosts/leases/{id}/files/{name}",
      tag: "hosts",
      summary: "A host brings a file of a lease home",
      access: { kind: "socket" },
      params: schemas.leaseFileParams,
      query: schemas.hostFileQuery,
      answer: { status: 204, description: "kept" },
      handle: ({ params, query, request }) => {
        if (Number(request.headers["content-length"] ?? 0) > limits.leaseFileBytes) {
          fail("too-large", `a file may have ${limits.leaseFileBytes} bytes at most`);
        }
        return leases.storeFile(params.id, { ...query, name: params.name }, request);
      },
    }),
  ];
}

function fileAnswer(path: string): Response {
  const type = path.endsWith(".json") ? "application/json" : "text/plain; charset=utf-8";
  const body = Readable.toWeb(createReadStream(path)) as ReadableStream<Uint8Array>;
  return new Response(body, { headers: { "content-type": type, ...sandboxed } });
}

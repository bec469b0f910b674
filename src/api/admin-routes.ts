/**
 * The system itself over HTTP: health, metrics, status, tokens, reload, and the stream of events
 * (surface.md §5).
 */
import { isRackyardError } from "../base/errors.ts";
import { within } from "../base/wait.ts";
import { problemOf } from "./problem.ts";
import { route } from "./route.ts";
import type { Route } from "./route.ts";
import * as schemas from "./schemas.ts";
import type { StateReader } from "./event-state.ts";
import { eventStream } from "./stream.ts";
import type { StreamEvent } from "./stream.ts";
import type { AdminViews, ApiEvent, EventViews } from "./views.ts";

const open = { kind: "public" } as const;
const reader = { kind: "role", role: "reader" } as const;
const admin = { kind: "role", role: "admin" } as const;

export function adminRoutes(views: AdminViews, events: EventViews, state: StateReader): Route[] {
  return [...healthRoutes(views), ...tokenRoutes(views), eventRoute(events, state)];
}

function healthRoutes(views: AdminViews): Route[] {
  const tag = "system";
  return [
    route({
      method: "get",
      path: "/healthz",
      tag,
      summary: "The process answers",
      access: open,
      answer: { status: 200, description: "alive", schema: schemas.Health },
      handle: () => Promise.resolve({ ok: true, problems: [] }),
    }),
    route({
      method: "get",
      path: "/readyz",
      tag,
      summary: "It can do its work",
      access: open,
      answer: { status: 200, description: "ready; else 503", schema: schemas.Health },
      handle: async () => {
        const health = await views.ready();
        if (health.ok) return health;
        return Response.json(health, { status: 503, headers: { "retry-after": "1" } });
      },
    }),
    route({
      method: "get",
      path: "/metrics",
      tag,
      summary: "Figures for Prometheus",
      access: reader,
      answer: { status: 200, description: "text format 0.0.4", type: "text/plain" },
      handle: async () =>
        new Response(await views.metrics(), {
          headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
        }),
    }),
    route({
      method: "get",
      path: "/v1/status",
      tag,
      summary: "What `rackyard status --json` prints",
      access: reader,
      answer: { status: 200, description: "surface.md §8", schema: schemas.Status },
      handle: () => views.status(),
    }),
    route({
      method: "post",
      path: "/v1/reload",
      tag,
      summary: "Read configuration and layout again; faulty ones are refused, the old ones stay",
      access: admin,
      answer: { status: 200, description: "what is in force now", schema: schemas.Reloaded },
      handle: () => views.reload(),
    }),
  ];
}

function tokenRoutes(views: AdminViews): Route[] {
  const tag = "tokens";
  return [
    route({
      method: "get",
      path: "/v1/tokens",
      tag,
      summary: "All tokens, without their secrets",
      access: admin,
      query: schemas.None,
      answer: {
        status: 200,
        description: "all",
        schema: schemas.pageOf(schemas.Token, "TokenPage"),
      },
      handle: async () => ({ items: await views.tokens(), next: null }),
    }),
    route({
      method: "post",
      path: "/v1/tokens",
      tag,
      summary: "Make a token; it is shown this once",
      access: admin,
      body: schemas.TokenRequest,
      creates: true,
      location: ({ id }: { readonly id: string }) => `/v1/tokens/${id}`,
      answer: { status: 201, description: "with its secret", schema: schemas.TokenCreated },
      handle: ({ body }) => views.createToken(body),
    }),
    route({
      method: "delete",
      path: "/v1/tokens/{id}",
      tag,
      summary: "Revoke a token",
      access: admin,
      params: schemas.uuidParams,
      answer: { status: 204, description: "revoked" },
      handle: ({ params }) => views.revokeToken(params.id),
    }),
  ];
}

function eventRoute(events: EventViews, state: StateReader): Route {
  return route({
    method: "get",
    path: "/v1/events",
    tag: "events",
    summary: "The state, then what happens: a stream of events; ?after=&wait= gives them as a page",
    access: reader,
    query: schemas.eventsQuery,
    answer: {
      status: 200,
      description: "text/event-stream, or a page whose `next` is the last event's id",
      schema: schemas.pageOf(schemas.Event, "EventPage"),
    },
    handle: async ({ query, signal, accepts, header }) => {
      const last = Number(header("last-event-id") ?? Number.NaN);
      const after = Number.isInteger(last) && last >= 0 ? last : query.after;
      if (query.wait !== undefined && !accepts("text/event-stream")) {
        return pageOfEvents(events, query.topic, after, { waitMs: query.wait, signal });
      }
      const gone = new AbortController();
      const over = AbortSignal.any([signal, gone.signal]);
      const first = after === undefined && query.state !== false ? state : undefined;
      const source = sseOf(events, query.topic, { after, first, signal: over });
      return eventStream(source, () => gone.abort(), problemOf);
    },
  });
}

async function* sseOf(
  events: EventViews,
  topics: readonly ApiEvent["topic"][],
  from: { after: number | undefined; first: StateReader | undefined; signal: AbortSignal },
): AsyncGenerator<StreamEvent> {
  let { after } = from;
  if (from.first) {
    // The place before the state: a change that comes meanwhile is told again, never missed.
    after = await events.newest();
    yield { id: after, event: "state", data: await from.first(topics) };
  }
  for await (const event of events.watch(topics, after, from.signal)) {
    if ("resync" in event) yield { id: event.id, event: "resync", data: {} };
    else yield { id: event.id, event: event.topic, data: event };
  }
}

/** A long poll: waits for one event, then takes those that are there. */
async function pageOfEvents(
  events: EventViews,
  topics: readonly string[],
  after: number | undefined,
  poll: { waitMs: number; signal: AbortSignal },
): Promise<{ items: ApiEvent[]; next: string | null }> {
  const over = new AbortController();
  const signal = AbortSignal.any([poll.signal, over.signal]);
  const iterator = events.watch(topics, after, signal)[Symbol.asyncIterator]();
  const items: ApiEvent[] = [];
  let next = after === undefined ? null : String(after);
  try {
    for (let patienceMs = poll.waitMs; items.length < 500; patienceMs = 20) {
      const got = await within(patienceMs, "an event", iterator.next(), poll.signal);
      if (got.done) break;
      next = String(got.value.id);
      if (!("resync" in got.value)) items.push(got.value);
    }
  } catch (error) {
    if (!isRackyardError(error, "timed-out")) throw error; // else: the wait is over
  } finally {
    over.abort();
  }
  return { items, next };
}

/**
 * Hands the parts of the server to the API in the shapes it asks for (api/views.ts). Joins, and
 * decides nothing.
 */
import type { BuildViews, RawHandlers, Views } from "../../api/views.ts";
import { limits } from "../../base/limits.ts";
import type { FileArchive } from "../../ci/archive/archive.ts";
import { serveLogs } from "../../ci/archive/log-server.ts";
import { buildLife } from "../../ci/builds/record.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import type { BuiltinReview } from "../../review/builtin/builtin.ts";
import type { Store } from "../../store/store.ts";
import type { EventFeed } from "../event-feed.ts";
import type { Tokens } from "../tokens.ts";
import type { Late } from "./late.ts";
import type { Metrics } from "./metrics.ts";

export type ServerParts = {
  readonly broker: Broker;
  readonly review: BuiltinReview;
  readonly archive: FileArchive;
  readonly scheduler: Late<Scheduler>;
  readonly feed: EventFeed;
  readonly metrics: Metrics;
  readonly tokens: Tokens;
  readonly status: () => Promise<object>;
  readonly reload: () => Promise<{ layout: string; projects: number; jobs: number }>;
};

export function viewsOf(parts: ServerParts): Views {
  const { broker, review, scheduler } = parts;
  return {
    leases: broker.leases,
    fleet: broker.fleet,
    changes: review.views,
    builds: buildsOf(scheduler),
    admin: {
      ...parts.tokens,
      reload: parts.reload,
      status: parts.status,
      ready: () =>
        Promise.resolve(
          scheduler.there
            ? { ok: true, problems: [] }
            : { ok: false, problems: ["the scheduler is starting"] },
        ),
      metrics: () => parts.metrics.text(parts),
    },
    events: parts.feed,
    raw: rawOf(parts),
  };
}

function buildsOf(scheduler: Late<Scheduler>): BuildViews {
  const views = (): Scheduler["views"] => scheduler.get().views;
  return {
    list: async (query) => views().list(query),
    whole: async (text) => views().whole(text),
    get: async (id) => views().get(id),
    timeline: async (id) => views().timeline(id),
    async *console(id, afterSeq, signal, follow) {
      try {
        yield* views().console(id, afterSeq, signal, follow);
      } catch (error) {
        // A build that waits has no console yet: it is empty.
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    },
    cancel: async (id, by) => views().cancel(id, by),
    files: async (id) => views().files(id),
    nodes: async () => views().nodes(),
    images: async () => views().images(),
    pipelines: async () => views().pipelines(),
  };
}

function rawOf({ review, archive, broker }: ServerParts): RawHandlers {
  return {
    git: review.git,
    logs: serveLogs(archive),
    hostSession: (request, socket, head) => broker.sessions.accept(request, socket, head),
  };
}

/** Ids of changes' builds, newest first. */
export async function buildsOfChanges(
  store: Store,
  changes: readonly number[],
): Promise<ReadonlyMap<number, string[]>> {
  const ids = await store.newestIdsOfEach(
    buildLife,
    "a",
    changes.map(String),
    limits.buildsPerChange,
  );
  return new Map([...ids].map(([change, of]) => [Number(change), of]));
}

/**
 * `/v1/events` out of the store's life events (lease.md §7): what happened, in the order in which
 * it became durable, from any point of the last 10,000. Shows which life took which step and a
 * few facts to find it by; what a thing is now, its own route says.
 */
import type { ApiEvent, EventViews } from "../api/views.ts";
import { isoTime } from "../base/clock.ts";
import { limits } from "../base/limits.ts";
import type { LifeEvent, Store } from "../store/store.ts";

export type EventFeed = EventViews & {
  /** The store to hand to others: whoever follows is woken after each transaction. */
  readonly store: Store;
};

/** Lives that are shown, and under which topic; others are the program's own. */
const topics: Readonly<Record<string, ApiEvent["topic"]>> = {
  change: "change",
  buildset: "item",
  item: "item",
  build: "build",
  lease: "lease",
  testenv: "testenv",
  host: "host",
  node: "node",
  image: "node",
};

/** Facts of a body that may be shown to all, where they are plain. */
const shown = [
  "number",
  "change",
  "patchset",
  "project",
  "branch",
  "pipeline",
  "job",
  "result",
  "attempt",
  "build",
  "buildset",
  "lease",
  "te",
  "epoch",
  "host",
  "label",
  "address",
  "state",
  "status",
  "reason",
];

/** How many events are read at once. */
const pageSize = 500;

export function openEventFeed(inner: Store): EventFeed {
  const wakers = new Set<() => void>();
  const store: Store = {
    ...inner,
    async transaction(work) {
      const value = await inner.transaction(work);
      for (const wake of wakers) wake();
      return value;
    },
  };
  return {
    store,
    async *watch(wanted, afterId, signal) {
      let missed = true;
      let wake = (): void => undefined;
      const waker = (): void => {
        missed = true;
        wake();
      };
      const stop = (): void => wake();
      wakers.add(waker);
      signal.addEventListener("abort", stop);
      try {
        const newest = await newestSeq(inner);
        let after = afterId ?? newest;
        if (after > newest || after < newest - limits.eventBacklog) {
          after = newest;
          yield { resync: true, id: newest };
        }
        while (!signal.aborted) {
          missed = false;
          const page = await inner.events({ afterSeq: after, limit: pageSize });
          for (const event of page) {
            after = event.seq;
            const topic = topics[event.life];
            if (topic && (wanted.length === 0 || wanted.includes(topic))) {
              yield eventOf(event, topic);
            }
          }
          if (page.length === pageSize || missed) continue;
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (signal.aborted || missed) resolve();
          });
        }
      } finally {
        wakers.delete(waker);
        signal.removeEventListener("abort", stop);
      }
    },
  };
}

async function newestSeq(store: Store): Promise<number> {
  const row = await store.db
    .selectFrom("life_event")
    .select((eb) => eb.fn.max("seq").as("seq"))
    .executeTakeFirst();
  return Number(row?.seq ?? 0);
}

function eventOf(event: LifeEvent, topic: ApiEvent["topic"]): ApiEvent {
  const body = event.body as Record<string, unknown>;
  const facts = shown.flatMap((name) => {
    const value = places.map((place) => valueAt(body, [...place, name])).find(isPlain);
    return value === undefined ? [] : [[name, value] as const];
  });
  const number = body["number"];
  return {
    id: event.seq,
    topic,
    at: isoTime(event.atMs),
    // A change is known by its number; its row's id is longer, to be sorted by.
    subject: topic === "change" && isPlain(number) ? String(number) : event.id,
    event: event.event,
    body: { ...Object.fromEntries(facts), life: event.life, from: event.from, to: event.to },
  };
}

/** Where lives keep their facts: on top, in what was frozen, in the change they are about. */
const places: readonly (readonly (string | number)[])[] = [
  [],
  ["facts"],
  ["facts", "changes", -1],
  ["change"],
  ["rack"],
];

function isPlain(value: unknown): value is string | number | boolean {
  return ["string", "number", "boolean"].includes(typeof value);
}

function valueAt(value: unknown, path: readonly (string | number)[]): unknown {
  let at: unknown = value;
  for (const step of path) {
    if (Array.isArray(at) && typeof step === "number") at = at.at(step);
    else if (typeof at === "object" && at !== null) at = (at as Record<string, unknown>)[step];
    else return undefined;
  }
  return at;
}

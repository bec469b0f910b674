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
    const value = body[name];
    const plain = ["string", "number", "boolean"].includes(typeof value);
    return plain ? [[name, value] as const] : [];
  });
  return {
    id: event.seq,
    topic,
    at: isoTime(event.atMs),
    subject: event.id,
    event: event.event,
    body: { ...Object.fromEntries(facts), life: event.life, from: event.from, to: event.to },
  };
}

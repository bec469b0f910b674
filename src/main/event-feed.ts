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
  /** The store to hand to others: what it commits reaches those who follow. */
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

/** Parts of bodies that no event shows. */
const unread = [
  "facts.repos",
  "facts.job",
  "buildset.merged",
  "buildset.jobs",
  "ahead",
  "patchsets",
];

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

/** The newest events as they are shown, read once for all who follow. */
type Shared = {
  /** Seq of the last event before `events`. */
  from: number;
  /** Seq of the newest one that was looked at, shown or not. */
  to: number;
  readonly events: ApiEvent[];
};

/** A stream that has shown everything up to `after`. */
type Waiter = { readonly topics: readonly string[]; after: number; readonly wake: () => void };

export async function openEventFeed(inner: Store): Promise<EventFeed> {
  const newest = await inner.newestSeq();
  const shared: Shared = { from: newest, to: newest, events: [] };
  const waiting = new Set<Waiter>();
  let followers = 0;
  let reading: Promise<void> | undefined;
  let stale = false;

  /** Reads what came since, once for all who ask meanwhile. */
  function refresh(): Promise<void> {
    stale = true;
    reading ??= readOn().finally(() => {
      reading = undefined;
    });
    return reading;
  }

  async function readOn(): Promise<void> {
    while (stale) {
      stale = false;
      const seq = await inner.newestSeq();
      // Nobody has followed for long: whoever wants the old ones reads them by itself.
      if (seq > shared.to + limits.eventsShared) restart(shared, seq);
      else {
        const page = await readPage(inner, shared.to);
        shared.events.push(...page.events);
        shared.to = page.to;
        trim(shared);
        if (page.isFull) stale = true;
      }
      for (const waiter of waiting) {
        if (isBehind(waiter, shared)) waiter.wake();
        else waiter.after = shared.to;
      }
    }
  }

  const store: Store = {
    ...inner,
    async transaction(work) {
      const value = await inner.transaction(work);
      // A look that fails is made up for by the next; the transaction stands.
      if (followers > 0) refresh().catch(() => undefined);
      return value;
    },
  };

  /** Resolves to the place of the stream when there is something for it, or at the signal. */
  function news(topics: readonly string[], after: number, signal: AbortSignal): Promise<number> {
    return new Promise((resolve) => {
      const waiter: Waiter = {
        topics,
        after,
        wake() {
          waiting.delete(waiter);
          signal.removeEventListener("abort", waiter.wake);
          resolve(waiter.after);
        },
      };
      waiting.add(waiter);
      signal.addEventListener("abort", waiter.wake);
      if (signal.aborted || after < shared.to) waiter.wake();
    });
  }

  return {
    store,
    newest: () => inner.newestSeq(),
    async *watch(wanted, afterId, signal) {
      followers++;
      try {
        await refresh();
        let after = afterId ?? shared.to;
        if (after > shared.to || after < shared.to - limits.eventBacklog) {
          after = shared.to;
          yield { resync: true, id: after };
        }
        while (!signal.aborted) {
          const page = after < shared.from ? await readPage(inner, after) : since(shared, after);
          after = page.to;
          for (const event of page.events) {
            if (wanted.length === 0 || wanted.includes(event.topic)) yield event;
          }
          if (after >= shared.to) after = await news(wanted, after, signal);
        }
      } finally {
        followers--;
      }
    },
  };
}

function isBehind({ topics: wanted, after }: Waiter, shared: Shared): boolean {
  if (after < shared.from) return true;
  const { events } = since(shared, after);
  return events.some(({ topic }) => wanted.length === 0 || wanted.includes(topic));
}

function restart(shared: Shared, seq: number): void {
  shared.events.length = 0;
  shared.from = seq;
  shared.to = seq;
}

type Page = { readonly events: readonly ApiEvent[]; readonly to: number; readonly isFull: boolean };

async function readPage(store: Store, afterSeq: number): Promise<Page> {
  const page = await store.events({ afterSeq, limit: pageSize, without: unread });
  return {
    events: page.flatMap((event) => {
      const topic = topics[event.life];
      return topic ? [eventOf(event, topic)] : [];
    }),
    to: page.at(-1)?.seq ?? afterSeq,
    isFull: page.length === pageSize,
  };
}

/** The events after one, found by halving. */
function since({ events, to }: Shared, after: number): Page {
  let low = 0;
  let high = events.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (events[middle]!.id <= after) low = middle + 1;
    else high = middle;
  }
  return { events: events.slice(low), to, isFull: false };
}

function trim(shared: Shared): void {
  if (shared.events.length < 2 * limits.eventsShared) return;
  const gone = shared.events.splice(0, shared.events.length - limits.eventsShared);
  shared.from = gone.at(-1)!.id;
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
  ["changes", -1],
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

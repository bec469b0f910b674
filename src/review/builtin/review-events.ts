/**
 * What the built-in review system tells the CI: durable, numbered by the store's own sequence,
 * written in the transaction of what they tell of. Listeners get each event in order, after it
 * is durable; who was away asks for what came since.
 */
import type { Log } from "../../base/log.ts";
import type { ReviewEvent } from "../../model/change.ts";
import type { LifeKind, Store } from "../../store/store.ts";

type Without<T, K extends string> = T extends unknown ? Omit<T, K> : never;
/** An event before it is recorded: the record gives it its place and time. */
export type EventFacts = Without<ReviewEvent, "seq" | "at">;
type EventBody = Without<ReviewEvent, "seq">;

/** `a` project, `n` the change's number. */
export const reviewEventLife: LifeKind<EventBody> = {
  life: "review-event",
  columns: (event) => ({ a: event.project, n: event.change }),
};

export type ReviewEvents = {
  since(seq: number, limit: number): Promise<ReviewEvent[]>;
  listen(listener: (event: ReviewEvent) => void): () => void;
  /** Something was recorded: hands it on. */
  wake(): void;
  /** Resolves when all that was woken for is handed over. */
  settled(): Promise<void>;
};

const PAGE = 200;

export async function openReviewEvents(store: Store, log: Log): Promise<ReviewEvents> {
  const listeners = new Set<(event: ReviewEvent) => void>();
  let handedOver = await lastSeq(store);
  let pumping: Promise<void> = Promise.resolve();

  const since = async (seq: number, limit: number): Promise<ReviewEvent[]> => {
    const events = await store.events({ life: reviewEventLife.life, afterSeq: seq, limit });
    return events.map((event) => ({ ...(event.body as EventBody), seq: event.seq }));
  };

  async function pump(): Promise<void> {
    for (;;) {
      const events = await since(handedOver, PAGE);
      for (const event of events) {
        for (const listener of listeners) hand(listener, event, log);
        handedOver = event.seq;
      }
      if (events.length < PAGE) return;
    }
  }

  return {
    since,
    listen(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    wake() {
      pumping = pumping.then(pump).catch((error: unknown) => {
        log.error({ err: error }, "review: events cannot be read");
      });
    },
    settled: () => pumping,
  };
}

/** One listener's failure is not the others'; it asks for what it missed. */
function hand(listener: (event: ReviewEvent) => void, event: ReviewEvent, log: Log): void {
  try {
    listener(event);
  } catch (error) {
    log.error({ err: error, seq: event.seq }, "review: a listener failed on an event");
  }
}

async function lastSeq(store: Store): Promise<number> {
  const row = await store.db
    .selectFrom("life_event")
    .select((eb) => eb.fn.max("seq").as("seq"))
    .executeTakeFirst();
  return Number(row?.seq ?? 0);
}

/**
 * What the built-in review system tells the CI: durable, numbered by the store's own sequence,
 * written in the transaction of what they tell of. Who reads them keeps the place up to which it
 * has; here is only rung that there are more.
 */
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
  /** After `seq`, in order. */
  since(seq: number, limit: number): Promise<ReviewEvent[]>;
  /** Calls after each record; gives back how to stop it. */
  onNews(ring: () => void): () => void;
  /** Something was recorded. */
  wake(): void;
};

export function openReviewEvents(store: Store): ReviewEvents {
  const listeners = new Set<() => void>();
  return {
    async since(seq, limit) {
      const events = await store.events({ life: reviewEventLife.life, afterSeq: seq, limit });
      return events.map((event) => ({ ...(event.body as EventBody), seq: event.seq }));
    },
    onNews(ring) {
      listeners.add(ring);
      return () => void listeners.delete(ring);
    },
    wake() {
      for (const ring of listeners) ring();
    },
  };
}

/**
 * What the built-in review system tells the CI: durable, numbered by the store's own sequence,
 * written in the transaction of what they tell of. Each listener is handed one event after the
 * other, in order, once it is durable, and again until it has taken it.
 */
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { backoffMs } from "../../base/retry.ts";
import { pause } from "../../base/wait.ts";
import type { ReviewEvent } from "../../model/change.ts";
import type { LifeKind, Store } from "../../store/store.ts";
import type { ReviewListener } from "../review-port.ts";

type Without<T, K extends string> = T extends unknown ? Omit<T, K> : never;
/** An event before it is recorded: the record gives it its place and time. */
export type EventFacts = Without<ReviewEvent, "seq" | "at">;
type EventBody = Without<ReviewEvent, "seq">;

/** `a` project, `n` the change's number. */
export const reviewEventLife: LifeKind<EventBody> = {
  life: "review-event",
  columns: (event) => ({ a: event.project, n: event.change }),
};

export type ReviewEvents = AsyncDisposable & {
  since(seq: number, limit: number): Promise<ReviewEvent[]>;
  /** From `afterSeq` on; without it, what comes from now on. */
  listen(listener: ReviewListener, afterSeq?: number): () => void;
  /** Something was recorded: hands it on. */
  wake(): void;
};

const PAGE = 200;

export async function openReviewEvents(store: Store, log: Log): Promise<ReviewEvents> {
  const newest = await store.newestSeq();
  const stop = new AbortController();
  const wakers = new Set<() => void>();
  const loops = new Set<Promise<void>>();

  const since = async (seq: number, limit: number): Promise<ReviewEvent[]> => {
    const events = await store.events({ life: reviewEventLife.life, afterSeq: seq, limit });
    return events.map((event) => ({ ...(event.body as EventBody), seq: event.seq }));
  };

  async function handOver(
    listener: ReviewListener,
    afterSeq: number,
    signal: AbortSignal,
  ): Promise<void> {
    let cursor = afterSeq;
    let failures = 0;
    const news = openBell();
    wakers.add(news.ring);
    signal.addEventListener("abort", news.ring);
    while (!signal.aborted) {
      try {
        const events = await since(cursor, PAGE);
        for (const event of events) {
          if (signal.aborted) break;
          await listener(event);
          cursor = event.seq;
          failures = 0;
        }
        if (events.length === 0) await news.rung();
      } catch (error) {
        log.error({ err: error, seq: cursor }, "review: a listener failed on the next event");
        const waitMs = backoffMs(++failures, limits.pollMs, limits.backoffLastMs);
        await pause(waitMs, signal).catch(() => undefined);
      }
    }
    wakers.delete(news.ring);
  }

  return {
    since,
    listen(listener, afterSeq = newest) {
      const end = new AbortController();
      const signal = AbortSignal.any([stop.signal, end.signal]);
      const loop = handOver(listener, afterSeq, signal).finally(() => loops.delete(loop));
      loops.add(loop);
      return () => end.abort();
    },
    wake() {
      for (const ring of wakers) ring();
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await Promise.allSettled(loops);
    },
  };
}

/** Rung while nobody waits, it is heard by the next who does. */
function openBell(): { readonly ring: () => void; rung(): Promise<void> } {
  let waiting = Promise.withResolvers<void>();
  return {
    ring: () => waiting.resolve(),
    async rung() {
      await waiting.promise;
      waiting = Promise.withResolvers<void>();
    },
  };
}

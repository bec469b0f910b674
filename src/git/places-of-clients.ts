/**
 * Places of clients at a scarce thing: at most so many at once, one source never all of them;
 * who comes when all are taken waits, and a free place goes to the source that has the fewest.
 * Waiting is bounded in number and time, and ends when the client goes.
 */
import { fail } from "../base/errors.ts";

export type Places = {
  /** Resolves with how to give the place back. Throws `too-many`, or the signal's reason. */
  take(source: string, signal: AbortSignal): Promise<() => void>;
  /** Places that are taken now, and clients that wait for one. */
  readonly taken: number;
  readonly waiting: number;
};

export type PlaceLimits = {
  readonly places: number;
  readonly placesPerSource: number;
  readonly waiting: number;
  readonly waitingPerSource: number;
  readonly waitMs: number;
};

type Waiter = { readonly source: string; readonly give: () => void };

export function openPlaces(most: PlaceLimits): Places {
  const held = new Map<string, number>();
  const queue = new Set<Waiter>();
  let taken = 0;
  const of = (source: string): number => held.get(source) ?? 0;

  function take(source: string): () => void {
    taken++;
    held.set(source, of(source) + 1);
    let given = false;
    return () => {
      if (given) return;
      given = true;
      taken--;
      if (of(source) > 1) held.set(source, of(source) - 1);
      else held.delete(source);
      next();
    };
  }

  /** Whoever has the fewest, the longest waiting of these. */
  function next(): void {
    if (taken >= most.places) return;
    let best: Waiter | undefined;
    for (const waiter of queue) {
      if (of(waiter.source) >= most.placesPerSource) continue;
      if (!best || of(waiter.source) < of(best.source)) best = waiter;
    }
    if (!best) return;
    queue.delete(best);
    best.give();
    next();
  }

  return {
    get taken() {
      return taken;
    },
    get waiting() {
      return queue.size;
    },
    async take(source, signal) {
      signal.throwIfAborted();
      if (taken < most.places && of(source) < most.placesPerSource) return take(source);
      const ofSource = [...queue].filter((waiter) => waiter.source === source).length;
      if (queue.size >= most.waiting || ofSource >= most.waitingPerSource) {
        fail("too-many", "too many clients wait already: try again later");
      }
      const turn = Promise.withResolvers<() => void>();
      const waiter: Waiter = { source, give: () => turn.resolve(take(source)) };
      queue.add(waiter);
      const leave = (why: unknown) => {
        if (queue.delete(waiter)) turn.reject(why);
      };
      const gone = (): void => leave(signal.reason);
      signal.addEventListener("abort", gone, { once: true });
      const timer = setTimeout(() => {
        try {
          fail("too-many", `no place became free within ${most.waitMs} ms: try again later`);
        } catch (error) {
          leave(error);
        }
      }, most.waitMs);
      try {
        return await turn.promise;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", gone);
      }
    },
  };
}

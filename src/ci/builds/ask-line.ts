/**
 * The line of a project's builds that ask for a rack: one asks at a time, in the queue's order, so
 * that the broker has them in that order too, and where it takes no more for now (its quota) the
 * first in line is the first that it takes later. A turn is held only while it is asked, or while
 * there is no room.
 */
import { byPlace } from "./pairing.ts";
import type { QueuePlace } from "./record.ts";

type Waiting = { readonly place: QueuePlace; readonly go: () => void };

export type AskLine = ReturnType<typeof openAskLine>;

export function openAskLine() {
  const waiting: Waiting[] = [];
  let taken = false;

  function next(): void {
    if (taken) return;
    const [first] = waiting.toSorted(byPlace);
    if (!first) return;
    taken = true;
    waiting.splice(waiting.indexOf(first), 1);
    first.go();
  }

  return {
    /** Runs `ask` when it is its turn; rejects with the signal's reason when that comes first. */
    async turn<T>(place: QueuePlace, signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
      signal.throwIfAborted();
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const one: Waiting = { place, go: resolve };
      const leave = (): void => {
        const at = waiting.indexOf(one);
        if (at < 0) return;
        waiting.splice(at, 1);
        reject(signal.reason as Error);
      };
      signal.addEventListener("abort", leave, { once: true });
      waiting.push(one);
      // Those who came in the same moment stand in line before the first is chosen.
      setImmediate(next);
      try {
        await promise;
      } finally {
        signal.removeEventListener("abort", leave);
      }
      try {
        return await ask();
      } finally {
        taken = false;
        next();
      }
    },
  };
}

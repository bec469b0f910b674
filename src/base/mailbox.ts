/**
 * One queue into one loop: messages are handled one at a time, in order. The way events reach
 * the broker and the scheduler. Bounded; a full box is the sender's error, never silence.
 */
import { fail } from "./errors.ts";

export type Mailbox<T> = {
  /** Queues a message; throws `too-many` when full, does nothing once closed. */
  post(message: T): void;
  /** Handles messages until the signal aborts; `handle` failing ends the loop with that error. */
  run(handle: (message: T) => Promise<void> | void, signal: AbortSignal): Promise<void>;
  readonly length: number;
};

export function openMailbox<T>(name: string, limit: number): Mailbox<T> {
  const queue: T[] = [];
  let wake: (() => void) | undefined;
  let closed = false;
  return {
    get length() {
      return queue.length;
    },
    post(message) {
      if (closed) return;
      if (queue.length >= limit) fail("too-many", `${name}: more than ${limit} messages wait`);
      queue.push(message);
      wake?.();
    },
    async run(handle, signal) {
      const stop = (): void => wake?.();
      signal.addEventListener("abort", stop);
      try {
        while (!signal.aborted) {
          const message = queue.shift();
          if (message !== undefined) {
            await handle(message);
            continue;
          }
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (signal.aborted || queue.length > 0) resolve();
          });
          wake = undefined;
        }
      } finally {
        closed = true;
        signal.removeEventListener("abort", stop);
      }
    },
  };
}

/**
 * Trying again, where the caller says so: exponential pauses with jitter, bounded in tries.
 * Not for everything: a reconciler's next pass is its retry.
 */
import { limits } from "./limits.ts";
import { pause } from "./wait.ts";

/** Pause before try number `failures + 1`, doubling from first to last. */
export function backoffMs(
  failures: number,
  firstMs: number = limits.backoffFirstMs,
  lastMs: number = limits.backoffLastMs,
): number {
  return Math.min(lastMs, firstMs * 2 ** Math.max(0, Math.min(failures - 1, 30)));
}

export async function retry<T>(
  attempt: (number: number) => Promise<T>,
  options: {
    tries: number;
    firstMs?: number;
    lastMs?: number;
    signal?: AbortSignal | undefined;
    /** Whether this failure is worth another try; by default each is. */
    worth?: (error: unknown) => boolean;
  },
): Promise<T> {
  for (let number = 1; ; number++) {
    options.signal?.throwIfAborted();
    try {
      return await attempt(number);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (number >= options.tries || options.worth?.(error) === false) throw error;
      await pause(backoffMs(number, options.firstMs, options.lastMs), options.signal);
    }
  }
}

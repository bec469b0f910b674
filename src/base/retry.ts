/**
 * Trying again, where the caller says so: exponential pauses with jitter, bounded in tries, or
 * until the world is well again. Not for everything: a reconciler's next pass is its retry.
 */
import { pauseOn } from "./clock.ts";
import type { Clock } from "./clock.ts";
import { describeError } from "./errors.ts";
import { limits } from "./limits.ts";
import { systemRandom } from "./random.ts";
import type { Troubles } from "./troubles.ts";
import { pause } from "./wait.ts";

/**
 * Pause in milliseconds before try number `failures + 1`: doubles from first to last, then is
 * drawn evenly from its upper half, so that many who failed together do not return together.
 * `fraction` (0 ≤ x < 1) is handed in where time is simulated.
 */
export function backoffMs(
  failures: number,
  firstMs: number = limits.backoffFirstMs,
  lastMs: number = limits.backoffLastMs,
  fraction: () => number = () => systemRandom.fraction(),
): number {
  const whole = Math.min(lastMs, firstMs * 2 ** Math.max(0, Math.min(failures - 1, 30)));
  return whole / 2 + (whole / 2) * fraction();
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
    /** Hears of each failure that is tried again. */
    onFailure?: (error: unknown, failures: number) => void;
    /** Whose timers the pauses are, where time may be simulated. */
    clock?: Pick<Clock, "after">;
    /** Of the pauses' jitter, where time is simulated. */
    fraction?: () => number;
  },
): Promise<T> {
  for (let number = 1; ; number++) {
    options.signal?.throwIfAborted();
    try {
      return await attempt(number);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (number >= options.tries || options.worth?.(error) === false) throw error;
      options.onFailure?.(error, number);
      const ms = backoffMs(number, options.firstMs, options.lastMs, options.fraction);
      await (options.clock
        ? pauseOn(options.clock, ms, options.signal)
        : pause(ms, options.signal));
    }
  }
}

/**
 * Tries until it succeeds or the signal aborts: for an effect that must come to its end when the
 * world is well again (a store that is away, a full disk). Alarms once, with `troubles`.
 * `worth` says which failures are final; those are thrown.
 */
export async function untilDone<T>(
  what: string,
  attempt: () => Promise<T>,
  options: {
    readonly signal: AbortSignal;
    readonly troubles: Pick<Troubles, "begin" | "end">;
    readonly firstMs?: number;
    readonly lastMs?: number;
    readonly worth?: (error: unknown) => boolean;
    readonly clock?: Pick<Clock, "after">;
    readonly fraction?: () => number;
  },
): Promise<T> {
  const { troubles } = options;
  try {
    return await retry(attempt, {
      ...options,
      tries: Infinity,
      onFailure: (error) => troubles.begin(what, describeError(error)),
    });
  } finally {
    troubles.end(what);
  }
}

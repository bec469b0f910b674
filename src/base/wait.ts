/**
 * Waiting, always with a limit and always to be cancelled. Code waits for conditions; the one
 * `pause` exists for back-off between tries. Tests use `until` with a condition, never `pause`.
 */
import { setTimeout as timer } from "node:timers/promises";
import { RackyardError } from "./errors.ts";
import { limits } from "./limits.ts";

export type WaitOptions = {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly everyMs?: number;
  /** What is waited for, for the error's sentence: "libvirtd to answer". */
  readonly what: string;
};

/**
 * Polls until `condition` gives something true and returns it. Throws `timed-out` after the
 * limit, or the signal's reason. An exception of the condition counts as "not yet", and the
 * last one becomes the cause.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions,
): Promise<NonNullable<Exclude<T, false | "" | 0>>> {
  const deadline = performance.now() + options.timeoutMs;
  let last: unknown;
  for (;;) {
    options.signal?.throwIfAborted();
    try {
      const value = await condition();
      if (value) return value as NonNullable<Exclude<T, false | "" | 0>>;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= deadline) {
      throw new RackyardError(
        "timed-out",
        `waited ${Math.round(options.timeoutMs / 100) / 10} s for ${options.what}`,
        last === undefined ? {} : { cause: last },
      );
    }
    await pause(options.everyMs ?? limits.pollMs, options.signal);
  }
}

/** A pause between tries; ends early by throwing the signal's reason. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await timer(ms, undefined, signal ? { signal } : {});
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** The promise's value, or `timed-out`; the promise itself goes on and its failure is swallowed. */
export async function within<T>(
  ms: number,
  what: string,
  promise: Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const stop = new AbortController();
  const over = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  promise.catch(() => undefined);
  const limit = timer(ms, undefined, { signal: over }).then(() => {
    throw new RackyardError("timed-out", `${what} took longer than ${ms} ms`);
  });
  limit.catch(() => undefined);
  try {
    return await Promise.race([promise, limit]);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    stop.abort();
  }
}

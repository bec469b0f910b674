/**
 * Time as a port: wall clock for people and records, monotonic clock for spans and deadlines
 * (surface.md §5). Pure folders get `nowMs` as a value; edges get a Clock; the simulator has
 * its own. Timers belong to the clock too, so that simulated time moves them.
 */

export type Timer = { cancel(): void };

export type Clock = {
  /** Milliseconds since 1970, UTC; may jump. */
  wallMs(): number;
  /** Milliseconds since some start; never jumps, survives no reboot. */
  monoMs(): number;
  /** Calls back once after `delayMs` (at once for less than 1). */
  after(delayMs: number, callback: () => void): Timer;
};

/** Node's longest timer; longer delays are cut in pieces. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monoMs: () => performance.now(),
  after(delayMs, callback) {
    let left = delayMs;
    let handle: NodeJS.Timeout;
    const arm = (): void => {
      const piece = Math.min(left, LONGEST_TIMER_MS);
      left -= piece;
      handle = setTimeout(() => (left > 0 ? arm() : callback()), piece);
    };
    arm();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** A pause on this clock; ends early by throwing the signal's reason. */
export async function pauseOn(
  clock: Pick<Clock, "after">,
  ms: number,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = clock.after(ms, resolve);
  const end = (): void => resolve();
  signal?.addEventListener("abort", end, { once: true });
  await promise;
  signal?.removeEventListener("abort", end);
  timer.cancel();
  signal?.throwIfAborted();
}

/** RFC 3339 in UTC with milliseconds, as every `…At` of the API. */
export function isoTime(wallMs: number): string {
  return new Date(wallMs).toISOString();
}

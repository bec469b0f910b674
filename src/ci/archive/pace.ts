/**
 * What output may take of the server in a second: a share for one console and one for all, so
 * that a job that floods is slowed down at its source and nobody else is.
 */
import type { Clock } from "../../base/clock.ts";

export type Pace = {
  /** Notes so many bytes; gives the milliseconds to wait before more are taken, often 0. */
  spend(bytes: number): number;
};

/** A share of `bytesPerSecond`; a second's worth may come at once. */
export function openPace(
  clock: Pick<Clock, "monoMs">,
  bytesPerSecond: number,
  shared?: Pace,
): Pace {
  let paidUntilMs = clock.monoMs();
  return {
    spend(bytes) {
      const nowMs = clock.monoMs();
      paidUntilMs = Math.max(paidUntilMs, nowMs) + (bytes / bytesPerSecond) * 1_000;
      return Math.max(0, paidUntilMs - nowMs - 1_000, shared?.spend(bytes) ?? 0);
    },
  };
}

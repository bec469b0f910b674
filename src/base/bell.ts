/**
 * A bell wakes one loop: rings between two waits are one ring, and none is lost. For loops that
 * look at what is there (a level), not at what happened.
 */
import type { Clock } from "./clock.ts";

export type Bell = {
  /** Wakes whoever waits, or the next who does. */
  readonly ring: () => void;
  /** Resolves at a ring (true), after `atMostMs`, or when the signal aborts; never rejects. */
  wait(signal: AbortSignal, atMostMs?: number): Promise<boolean>;
};

export function openBell(clock: Pick<Clock, "after">): Bell {
  let rung = false;
  let wake: (() => void) | undefined;
  return {
    ring() {
      rung = true;
      wake?.();
    },
    async wait(signal, atMostMs) {
      if (!rung && !signal.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = atMostMs === undefined ? undefined : clock.after(atMostMs, resolve);
        wake = resolve;
        const end = (): void => resolve();
        signal.addEventListener("abort", end, { once: true });
        await promise;
        signal.removeEventListener("abort", end);
        timer?.cancel();
        wake = undefined;
      }
      const was = rung;
      rung = false;
      return was;
    },
  };
}

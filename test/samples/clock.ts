/**
 * A clock that a test moves by hand: timers run in the order of their times, and what they start
 * may set timers of its own.
 */
import type { Clock } from "../../src/base/clock.ts";

export type HandClock = Clock & {
  /** Moves on; gives how many timers ran. */
  advance(ms: number): Promise<number>;
  readonly waiting: number;
};

export function handClock(startMs = Date.parse("2026-01-01T00:00:00Z")): HandClock {
  let nowMs = 0;
  const timers = new Set<{ atMs: number; callback: () => void }>();
  return {
    wallMs: () => startMs + nowMs,
    monoMs: () => nowMs,
    after(delayMs, callback) {
      const timer = { atMs: nowMs + Math.max(0, delayMs), callback };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    get waiting() {
      return timers.size;
    },
    async advance(ms) {
      const untilMs = nowMs + ms;
      let ran = 0;
      for (;;) {
        await settled();
        const next = [...timers].sort((a, b) => a.atMs - b.atMs)[0];
        if (!next || next.atMs > untilMs) break;
        timers.delete(next);
        nowMs = Math.max(nowMs, next.atMs);
        next.callback();
        ran++;
      }
      nowMs = untilMs;
      await settled();
      return ran;
    },
  };
}

/** Whatever was started and waits for no timer has come to rest. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 5; turns++) await new Promise((resolve) => setImmediate(resolve));
}

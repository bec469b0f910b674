/**
 * Whoever waits for a lease to change: woken after each commit, at once when that very lease
 * moved; else a little later, and only where what it would be told is another.
 */
import type { Clock, Timer } from "../../base/clock.ts";
import { limits } from "../../base/limits.ts";

export type Watchers = {
  /**
   * Resolves at the next change of the lease, at the signal, or when `look` gives another text
   * than now: what the watcher shows of the world around the lease. Without `look` any commit is
   * such a change.
   */
  next(lease: string, signal: AbortSignal, look?: () => string): Promise<void>;
  /** After a commit: these leases moved. */
  moved(leases: ReadonlySet<string>): void;
  /** Waits until the condition holds or the time is over; says which. */
  until(lease: string, timeoutMs: number, condition: () => boolean): Promise<boolean>;
};

type Watcher = {
  readonly wake: () => void;
  readonly look: (() => string) | undefined;
  readonly seen: string | undefined;
};

export function openWatchers(clock: Clock): Watchers {
  const watchers = new Map<string, Set<Watcher>>();
  let later: Timer | undefined;

  function next(lease: string, signal: AbortSignal, look?: () => string): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        const same = watchers.get(lease);
        same?.delete(watcher);
        if (same?.size === 0) watchers.delete(lease);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const watcher: Watcher = { wake, look, seen: look?.() };
      watchers.set(lease, (watchers.get(lease) ?? new Set()).add(watcher));
      signal.addEventListener("abort", wake, { once: true });
      if (signal.aborted) wake();
    });
  }

  /** One look at all who wait, however many commits there were. */
  function lookAround(): void {
    later = undefined;
    for (const same of watchers.values()) {
      for (const { wake, look, seen } of same) if (!look || look() !== seen) wake();
    }
  }

  return {
    next,
    moved(leases) {
      if (leases.size === 0) return;
      for (const lease of leases) for (const { wake } of watchers.get(lease) ?? []) wake();
      if (watchers.size > 0) later ??= clock.after(limits.leaseStreamMs, lookAround);
    },
    async until(lease, timeoutMs, condition) {
      const over = new AbortController();
      const timer = clock.after(timeoutMs, () => over.abort());
      try {
        while (!condition()) {
          if (over.signal.aborted) return false;
          await next(lease, over.signal);
        }
        return true;
      } finally {
        timer.cancel();
      }
    },
  };
}

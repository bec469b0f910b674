/**
 * Whoever waits for a lease to change: woken after each commit, at once when that very lease
 * moved, else a little later, since what is around it changes often.
 */
import type { Clock, Timer } from "../../base/clock.ts";
import { limits } from "../../base/limits.ts";

export type Watchers = {
  /** Resolves at the next change of the lease or around it, or at the signal. */
  next(lease: string, signal: AbortSignal): Promise<void>;
  /** After a commit: these leases moved. */
  moved(leases: ReadonlySet<string>): void;
  /** Waits until the condition holds or the time is over; says which. */
  until(lease: string, timeoutMs: number, condition: () => boolean): Promise<boolean>;
};

type Watcher = {
  readonly lease: string;
  readonly wake: () => void;
  later: Timer | undefined;
};

export function openWatchers(clock: Clock): Watchers {
  const watchers = new Set<Watcher>();

  function next(lease: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        watcher.later?.cancel();
        watchers.delete(watcher);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const watcher: Watcher = { lease, wake, later: undefined };
      watchers.add(watcher);
      signal.addEventListener("abort", wake, { once: true });
      if (signal.aborted) wake();
    });
  }

  return {
    next,
    moved(leases) {
      if (leases.size === 0) return;
      for (const watcher of watchers) {
        if (leases.has(watcher.lease)) watcher.wake();
        else watcher.later ??= clock.after(limits.leaseStreamMs, watcher.wake);
      }
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

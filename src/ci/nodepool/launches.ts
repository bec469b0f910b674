/**
 * What became of the launches of each label: tries that failed, with back-off until the next and
 * an end of hope (ci.md N-4), and launches that a host's new beginning ended, which are nobody's
 * fault and have a bound of their own.
 */
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { backoffMs } from "../../base/retry.ts";

export type Launches = ReturnType<typeof openLaunches>;

export function openLaunches(options: {
  readonly log: Log;
  /** A pass of the pool after the pause; gives when that is, as wall time. */
  readonly passAfter: (delayMs: number) => number;
}) {
  const failures = new Map<string, { count: number; retryAtMs: number; detail: string }>();
  const restarts = new Map<string, number>();
  return {
    failed(label: string, node: string, detail: string): void {
      const count = (failures.get(label)?.count ?? 0) + 1;
      failures.set(label, { count, retryAtMs: options.passAfter(backoffMs(count)), detail });
      options.log.warn({ node, label, detail, count }, "node launch failed");
    },
    /** The host began anew under it. */
    interrupted: (label: string): unknown => restarts.set(label, (restarts.get(label) ?? 0) + 1),
    succeeded(label: string): void {
      failures.delete(label);
      restarts.delete(label);
    },
    attempt: (label: string): number => (failures.get(label)?.count ?? 0) + 1,
    /** Label → no launch before this time. */
    retryAtMs: (): Map<string, number> =>
      new Map([...failures].map(([label, { retryAtMs }]) => [label, retryAtMs])),
    /** Why a label is given up, in words; undefined while there is hope. */
    failure(label: string): string | undefined {
      const failed = failures.get(label);
      if (failed && failed.count >= limits.nodeLaunchAttempts) return failed.detail;
      const anew = restarts.get(label) ?? 0;
      if (anew > limits.nodeHostRestarts) return `its host was started anew ${anew} times`;
      return undefined;
    },
  };
}

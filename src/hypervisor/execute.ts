/**
 * Performs planned actions (H-1.2), in order. One that fails backs off for its target, 1 s to
 * 60 s, and later actions on that target wait with it; the others go on. The next pass plans
 * from what is there then: that is the retry.
 */
import { describeError, fail } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/retry.ts";
import type { PlannedAction } from "./hypervisor-port.ts";

export type Failure = {
  readonly action: PlannedAction;
  readonly failures: number;
  readonly error: string;
  /** Monotonic time before which its target is left alone. */
  readonly retryAtMs: number;
};

export type Outcome = {
  readonly done: readonly PlannedAction[];
  readonly failed: readonly PlannedAction[];
  /** Targets that still back off. */
  readonly waiting: readonly PlannedAction[];
};

export type Executor = {
  perform(actions: readonly PlannedAction[], signal?: AbortSignal): Promise<Outcome>;
  /** What failed last, by target; shown to people. */
  failures(): readonly Failure[];
};

/** @param performers by kind; each may be called twice for the same action */
export function openExecutor(
  performers: Readonly<Record<string, (action: PlannedAction) => Promise<void>>>,
  options: { readonly log: Log; readonly monoMs: () => number },
): Executor {
  const failing = new Map<string, Failure>();

  async function one(action: PlannedAction): Promise<"done" | "failed" | "waiting"> {
    const before = failing.get(action.target);
    if (before && options.monoMs() < before.retryAtMs) return "waiting";
    const perform = performers[action.kind];
    try {
      if (!perform) fail("internal", `nobody performs ${action.kind}`);
      await perform(action);
      failing.delete(action.target);
      options.log.info({ action: action.kind, target: action.target, why: action.why }, "done");
      return "done";
    } catch (error) {
      const failures = (before?.failures ?? 0) + 1;
      const retryAtMs = options.monoMs() + backoffMs(failures);
      const text = describeError(error);
      failing.set(action.target, { action, failures, error: text, retryAtMs });
      options.log.error({ action: action.kind, target: action.target, error: text }, "failed");
      return "failed";
    }
  }
  return {
    failures: () => [...failing.values()],
    async perform(actions, signal) {
      const outcome = {
        done: [] as PlannedAction[],
        failed: [] as PlannedAction[],
        waiting: [] as PlannedAction[],
      };
      for (const action of actions) {
        signal?.throwIfAborted();
        outcome[await one(action)].push(action);
      }
      const wanted = new Set(actions.map((action) => action.target));
      for (const target of failing.keys()) if (!wanted.has(target)) failing.delete(target);
      return outcome;
    },
  };
}

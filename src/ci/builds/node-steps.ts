/**
 * One step of a build on its node, with an end whatever the executor does: its own outcome; `lost`
 * where it fails itself or does not end within the step's limits; `aborted` a little after the
 * build was stopped. Never rejects.
 */
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { collectingMs } from "../../model/job-duration.ts";
import type { BuildFacts, StepOutcome } from "./build-ports.ts";

export type NodeStep = "prepare" | "run" | "collect";

/** Outer limit of a step: what the executor's own clocks allow it, and a margin (T-1, T-2). */
export function stepLimitMs(step: NodeStep, { job }: Pick<BuildFacts, "job">): number {
  switch (step) {
    case "prepare":
      return limits.nodeSetupMs + limits.gitMs + limits.leaseMarginMs;
    case "run":
      return job.timeoutSeconds * 1_000 + 2 * limits.commandMs + limits.leaseMarginMs;
    default:
      return collectingMs(job, limits) + limits.leaseMarginMs;
  }
}

export async function stepOnNode(
  { clock, log }: { readonly clock: Pick<Clock, "after">; readonly log: Log },
  of: { readonly build: string; readonly step: NodeStep; readonly limitMs: number },
  act: (signal: AbortSignal) => Promise<StepOutcome>,
  stop: AbortSignal,
): Promise<StepOutcome> {
  const over = new AbortController();
  const signal = AbortSignal.any([stop, over.signal]);
  const { promise: given, resolve: giveUp } = Promise.withResolvers<StepOutcome>();
  const timers = [clock.after(of.limitMs, () => over.abort())];
  const late = (): void => {
    const outcome: StepOutcome = stop.aborted
      ? { kind: "aborted" }
      : { kind: "lost", detail: `the executor did not end ${of.step} within its limits` };
    timers.push(clock.after(limits.stepEndMs, () => giveUp(outcome)));
  };
  if (signal.aborted) late();
  else signal.addEventListener("abort", late, { once: true });
  const own = act(signal).catch((error: unknown): StepOutcome => {
    if (stop.aborted) return { kind: "aborted" };
    log.warn({ build: of.build, step: of.step, err: error }, "the executor failed");
    return { kind: "lost", detail: `the executor failed: ${describeError(error)}` };
  });
  try {
    return await Promise.race([own, given]);
  } finally {
    signal.removeEventListener("abort", late);
    for (const timer of timers) timer.cancel();
  }
}

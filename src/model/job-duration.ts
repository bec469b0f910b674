/**
 * How long a build may need its rack (ci.md T-1, T-2): the sum of the limits of all that happens
 * between the grant and the release. What a lease is asked for, and what a layout is checked
 * against: a rack that expires before its job's own limits would take the blame for the job.
 * Pure.
 */
import type { FrozenJob } from "./job.ts";

/** Limits of the steps that no layout sets: `limits` of base/limits.ts has them. */
export type StepLimits = {
  readonly nodeSetupMs: number;
  readonly gitMs: number;
  readonly commandMs: number;
  readonly cleanupMs: number;
  readonly collectMachineMs: number;
  readonly collectParallel: number;
  readonly machinesPerTestenv: number;
  readonly leaseMarginMs: number;
};

export type TimedJob = Pick<
  FrozenJob,
  "timeoutSeconds" | "postTimeoutSeconds" | "postRun" | "cleanupRun"
>;

/** After the run: each post and cleanup script, then machines and logs. Milliseconds. */
export function collectingMs(job: TimedJob, limits: StepLimits): number {
  const post = job.postRun.length * job.postTimeoutSeconds * 1_000;
  const cleanup = job.cleanupRun.length * limits.cleanupMs;
  const turns = Math.ceil((limits.machinesPerTestenv + 1) / limits.collectParallel);
  const machines = (turns + 1) * limits.collectMachineMs;
  // A script that is stopped at its limit, and the look at the disk after each, are commands too.
  const scripts = (job.postRun.length + job.cleanupRun.length) * 2 * limits.commandMs;
  return limits.nodeSetupMs + post + cleanup + scripts + machines + limits.gitMs;
}

/** Duration of the lease, in seconds: preparation, run, all that follows, and a margin. */
export function leaseSeconds(job: TimedJob, limits: StepLimits): number {
  const preparing = limits.nodeSetupMs + limits.gitMs;
  const running = job.timeoutSeconds * 1_000 + 2 * limits.commandMs;
  const whole = preparing + running + collectingMs(job, limits) + limits.leaseMarginMs;
  return Math.ceil(whole / 1_000);
}

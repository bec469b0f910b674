/**
 * One hourly job forgets what is old: logs, leases' files, steps and lives in the store, reports,
 * kept answers; git repositories are packed. Each sweep works in small steps, says what it freed,
 * and fails alone: the others go on, it is tried again with the next round, and health says so.
 */
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Troubles } from "../../base/troubles.ts";
import { pause } from "../../base/wait.ts";
import type { Config } from "../../model/config.ts";
import { forgetAnswers, forgetLives, forgetReports, forgetSteps } from "../../store/retention.ts";
import type { Swept } from "../../store/retention.ts";
import type { Store } from "../../store/store.ts";

export type Sweep = {
  readonly name: string;
  run(signal: AbortSignal): Promise<Swept>;
};

const A_DAY_MS = 24 * 3600_000;

/** Lives of the store that end, and the states in which they are over. */
const endingLives: Readonly<Record<string, readonly string[]>> = {
  build: ["reported"],
  buildset: ["reported", "dequeued"],
  lease: ["ended"],
  certificate: ["valid"],
  node: ["gone"],
  "review-event": ["told"],
};

export function storeSweeps(
  store: Store,
  wallMs: () => number,
  { keepDays, keepStepsDays }: Config["store"],
): Sweep[] {
  const before = (days: number): number => wallMs() - days * A_DAY_MS;
  return [
    { name: "steps", run: (signal) => forgetSteps(store, before(keepStepsDays), signal) },
    ...Object.entries(endingLives).map(([life, states]) => ({
      name: `${life}s`,
      run: (signal: AbortSignal) => forgetLives(store, life, states, before(keepDays), signal),
    })),
    { name: "reports", run: (signal) => forgetReports(store, before(keepStepsDays), signal) },
    {
      name: "answers",
      run: (signal) => forgetAnswers(store, wallMs() - limits.idempotencyKeepMs, signal),
    },
  ];
}

/** Runs until the signal aborts; the first round soon after the start. */
export async function keepRetention(
  sweeps: readonly Sweep[],
  log: Log,
  troubles: Pick<Troubles, "begin" | "end">,
  signal: AbortSignal,
): Promise<void> {
  let waitMs: number = limits.housekeepingFirstMs;
  for (;;) {
    await pause(waitMs, signal);
    waitMs = limits.housekeepingMs;
    await sweepOnce(sweeps, log, troubles, signal);
  }
}

export async function sweepOnce(
  sweeps: readonly Sweep[],
  log: Log,
  troubles: Pick<Troubles, "begin" | "end">,
  signal: AbortSignal,
): Promise<void> {
  for (const sweep of sweeps) {
    const { name } = sweep;
    const fromMs = performance.now();
    try {
      const { removed, freedBytes } = await sweep.run(signal);
      const ms = Math.round(performance.now() - fromMs);
      troubles.end(`removing old ${name}`);
      if (removed > 0) log.info({ sweep: name, removed, freedBytes, ms }, "old things removed");
    } catch (error) {
      signal.throwIfAborted();
      troubles.begin(`removing old ${name}`, describeError(error));
    }
  }
}

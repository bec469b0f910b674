/**
 * The one ordered pass of a host (H-1.2, H-1.4): the hypervisor's plan, then the racks', then
 * the nodes', each planned when the former is done. Runs at start, every 30 s, and 200 ms after
 * whatever happened; takes no input. `plan` shows the same actions and touches nothing.
 */
import { openBell } from "../../base/bell.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { openExecutor } from "../../hypervisor/execute.ts";
import { pause } from "../../base/wait.ts";
import type { Failure } from "../../hypervisor/execute.ts";
import type { Hypervisor, PlannedAction } from "../../hypervisor/hypervisor-port.ts";

/** What racks and nodes bring to a pass. */
export type PartOfPass = {
  plan(): Promise<readonly PlannedAction[]>;
  readonly performers: Readonly<Record<string, (action: PlannedAction) => Promise<void>>>;
};

export type Passes = {
  /** One pass soon; calls while one runs make one more. */
  wake(): void;
  /** Runs passes until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
  /** Targets that failed last: each is its own trouble. */
  failures(): readonly Failure[];
  /** Why no pass comes to its end; undefined: the last one did. */
  trouble(): string | undefined;
};

export function openPasses(options: {
  readonly hypervisor: Hypervisor;
  readonly parts: readonly PartOfPass[];
  /** What is done after every pass: housekeeping that no plan shows. */
  readonly after: () => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}): Passes {
  const { hypervisor, parts, clock, log } = options;
  const performers = Object.assign({}, ...parts.map((part) => part.performers)) as Record<
    string,
    (action: PlannedAction) => Promise<void>
  >;
  const executor = openExecutor(performers, { log, monoMs: () => clock.monoMs() });
  const bell = openBell(clock);
  let first = true;
  let beganMs: number | undefined;
  let failed: string | undefined;

  async function pass(signal: AbortSignal): Promise<void> {
    await hypervisor.mend();
    const planned = [];
    for (const part of parts) planned.push(...(await part.plan()));
    const outcome = await executor.perform(planned, signal);
    if (outcome.failed.length > 0) clock.after(limits.backoffFirstMs, bell.ring);
    await options.after();
  }

  /** Resolves when a pass is due, or the signal aborts. */
  async function due(signal: AbortSignal): Promise<void> {
    if (first) {
      first = false;
      return;
    }
    const rung = await bell.wait(signal, limits.reconcileMs);
    // What comes in a burst is one pass.
    if (rung) await pause(limits.reconcileAfterEventMs, signal).catch(() => undefined);
  }

  return {
    wake: bell.ring,
    failures: () => executor.failures(),
    trouble() {
      const forMs = beganMs === undefined ? 0 : clock.monoMs() - beganMs;
      const stuck = `a pass has been running for ${Math.round(forMs / 1000)} s`;
      return forMs > limits.passMs ? stuck : failed;
    },
    async run(signal) {
      while (!signal.aborted) {
        await due(signal);
        if (signal.aborted) return;
        beganMs = clock.monoMs();
        await pass(signal).then(
          () => (failed = undefined),
          (error: unknown) => {
            if (signal.aborted) return;
            failed = describeError(error);
            log.error({ why: failed }, "a pass failed");
          },
        );
        beganMs = undefined;
      }
    },
  };
}

/** All that a pass would do, in order. */
export async function planAll(
  hypervisor: Hypervisor,
  parts: readonly PartOfPass[],
): Promise<PlannedAction[]> {
  const planned = [...(await hypervisor.plan())];
  for (const part of parts) planned.push(...(await part.plan()));
  return planned;
}

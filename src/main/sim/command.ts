/**
 * `rackyard sim`: whole worlds on a bad day, one a seed (lease.md §8). A seed that fails is told
 * with the line that repeats it and the end of its trace.
 */
import type { CliContext } from "../../cli/context.ts";
import { runWorld } from "../../sim/world.ts";
import type { Outcome } from "../../sim/world.ts";

type Sum = { seeds: number; failed: number[]; events: number; leases: number; kills: number };

/** Exit code: 0 iff no seed failed. */
export async function runSim(
  { out }: Pick<CliContext, "out">,
  { seeds, from }: { seeds: number; from: number },
): Promise<number> {
  const sum: Sum = { seeds: 0, failed: [], events: 0, leases: 0, kills: 0 };
  for (let seed = from; seed < from + seeds; seed++) {
    const outcome = await runWorld(seed);
    sum.seeds++;
    sum.events += outcome.events;
    sum.leases += outcome.leases;
    sum.kills += outcome.kills;
    if (outcome.violations.length > 0) {
      sum.failed.push(seed);
      tell(outcome);
    }
    if (sum.seeds % PROGRESS === 0) say(`${sum.seeds} of ${seeds}, ${sum.failed.length} failed`);
  }
  out.result(sum, () => {
    const { failed, events, leases, kills } = sum;
    const what = `${events} events, ${leases} leases, ${kills} kills`;
    return `${sum.seeds} seeds, ${failed.length} failed (${what})`;
  });
  return sum.failed.length === 0 ? 0 : 1;
}

const PROGRESS = 100;

function tell({ seed, violations, tail }: Outcome): void {
  for (const line of tail) say(`  ${line}`);
  for (const violation of violations) say(`seed ${seed}: ${violation}`);
  say(`repeat it: rackyard sim --from ${seed} --seeds 1`);
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

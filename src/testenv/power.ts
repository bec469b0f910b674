/**
 * Turning a TE's machines on and off (H-3.7), for whichever protocol asks: within the kind's
 * `running` and the host's memory (H-1.8), one command of a TE after another, and each known to
 * the time line. The boot order is the plan's; overrides are the BMC's.
 */
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { mayPowerOn } from "../hypervisor/capacity-plan.ts";
import { memoryAvailableMiB } from "../hypervisor/capacity.ts";
import type { Domains } from "../hypervisor/hypervisor-port.ts";
import type { MachinePart, TestenvParts } from "./parts.ts";
import type { PowerVerb } from "./gate/verb-codec.ts";

export type Power = {
  /** "was-so": nothing had to be done. Throws `unavailable` where it is refused. */
  act(
    parts: TestenvParts,
    machine: MachinePart,
    verb: PowerVerb,
    signal: AbortSignal,
  ): Promise<"done" | "was-so">;
  /** Names of this TE's domains that are on. */
  running(parts: TestenvParts): Promise<Set<string>>;
};

export function openPower(
  domains: Domains,
  memoryAvailable: () => Promise<number> = memoryAvailableMiB,
): Power {
  const turns = new Map<number, Promise<unknown>>();

  async function running(parts: TestenvParts): Promise<Set<string>> {
    const own = new Set(parts.all.map(({ spec }) => spec.uuid));
    const all = await domains.list();
    return new Set(all.filter((d) => own.has(d.uuid) && d.power !== "off").map((d) => d.name));
  }

  async function start(parts: TestenvParts, machine: MachinePart): Promise<"done" | "was-so"> {
    const on = await running(parts);
    if (on.has(machine.spec.name)) return "was-so";
    const allowed = mayPowerOn({
      name: machine.name,
      memoryMiB: machine.spec.memoryMiB,
      runningNow: [...on].filter((name) => name !== parts.seed.spec.name).length,
      runningLimit: machine.index === "seed" ? Infinity : limitOf(parts),
      memoryAvailableMiB: await memoryAvailable(),
    });
    if (allowed.kind === "no") fail("unavailable", allowed.why);
    return (await domains.start(machine.spec.uuid)) === "started" ? "done" : "was-so";
  }

  return {
    running,
    act(parts, machine, verb, signal) {
      const before = turns.get(parts.number) ?? Promise.resolve();
      const done = before.then(async () => {
        signal.throwIfAborted();
        if (verb === "start") return start(parts, machine);
        if (verb === "destroy") {
          const was = await domains.destroy(machine.spec.uuid);
          return was === "destroyed" ? ("done" as const) : ("was-so" as const);
        }
        if (!(await running(parts)).has(machine.spec.name)) return "was-so" as const;
        await domains.reset(machine.spec.uuid);
        return "done" as const;
      });
      turns.set(
        parts.number,
        done.catch(() => undefined),
      );
      return done;
    },
  };
}

/**
 * Names of a TE's domains that were on when last seen; undefined: that is too long ago. A
 * hypervisor that hangs keeps no report and no sign of life waiting (H-4.5).
 */
export function lastPower(
  { domains }: { readonly domains: Pick<Domains, "lastList"> },
  parts: TestenvParts,
): ReadonlySet<string> | undefined {
  const last = domains.lastList();
  if (!last || last.ageMs > limits.powerKeepMs) return undefined;
  const own = new Set(parts.all.map(({ spec }) => spec.uuid));
  const on = last.domains.filter(({ uuid, power }) => own.has(uuid) && power !== "off");
  return new Set(on.map(({ name }) => name));
}

function limitOf({ kind: { machines } }: TestenvParts): number {
  return machines.running ?? machines.count;
}

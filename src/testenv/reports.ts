/**
 * Tells the broker of each TE as it is (lease.md §6): a level, not steps. Reports of one TE go out
 * one after another, each made of what is true when it is sent, so that the latest is the truth;
 * what changed several times meanwhile is told once. The TE data of a leased one go along, and are
 * kept nowhere but in the rack's own file.
 */
import type { Log } from "../base/log.ts";
import { describeError } from "../base/errors.ts";
import type { TestenvReport } from "../model/testenv.ts";
import type { FromHost } from "../session/session-port.ts";
import type { Actor } from "./actor.ts";
import type { RackPort } from "./rack-port.ts";
import { reportOf } from "./report.ts";
import type { Registry } from "./registry.ts";
import { openTerms } from "./testenv-state.ts";

export type Reports = {
  /** The broker is to hear of this TE as it is by then. */
  changed(number: number): void;
  /** For a hello: all that are there. */
  all(): TestenvReport[];
  /** Racks that are faulty or quarantined, a sentence each. */
  faults(): string[];
};

export function openReports(options: {
  readonly registry: Pick<Registry, "actor" | "actors" | "partsOf">;
  readonly rack: Pick<RackPort, "data" | "power">;
  readonly send: (message: FromHost) => void;
  readonly log: Log;
}): Reports {
  const { registry, rack, send, log } = options;
  const dirty = new Set<number>();
  const sending = new Set<number>();

  async function tell(actor: Actor): Promise<void> {
    const { number } = actor.testenv;
    while (dirty.delete(number)) {
      const data = await rack.data(actor.told).catch(() => undefined);
      // No wait from here on: what is told must be true when it is sent.
      const te = actor.told;
      const terms = te.phase.state === "leased" ? openTerms(te) : null;
      const own = terms && leaseOf(data) === `${terms.lease} ${terms.epoch}`;
      const { phase } = te;
      if (phase.state === "faulty" || phase.state === "quarantined") {
        log.warn({ testenv: number, detail: phase.detail }, `the TE is ${phase.state}`);
      }
      const report = reportOf(te, registry.partsOf(te), rack.power(te));
      send({ kind: "testenv", report, data: own ? (data ?? null) : null });
    }
  }

  return {
    changed(number) {
      const actor = registry.actor(number);
      dirty.add(number);
      if (!actor || sending.has(number)) return;
      sending.add(number);
      tell(actor)
        .catch((error: unknown) => {
          log.error({ testenv: number, why: describeError(error) }, "a TE could not be told of");
        })
        .finally(() => sending.delete(number));
    },
    all: () =>
      registry
        .actors()
        .filter(({ told }) => told.phase.state !== "removed")
        .map(({ told }) => reportOf(told, registry.partsOf(told), rack.power(told))),
    faults: () =>
      registry.actors().flatMap(({ told: { number, phase } }) => {
        const faulty = phase.state === "faulty" || phase.state === "quarantined";
        return faulty ? [`te${number} is ${phase.state}: ${phase.detail}`] : [];
      }),
  };
}

/** Lease and epoch that TE data were made for. */
function leaseOf(data: object | undefined): string | undefined {
  const lease = data && (Reflect.get(data, "lease") as { id?: unknown; epoch?: unknown });
  return lease ? `${String(lease.id)} ${String(lease.epoch)}` : undefined;
}

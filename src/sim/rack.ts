/**
 * The racks of a simulated host as things: what lets in, what is on their disks. They outlive the
 * agent, which works on them through the real port; each work takes time, may fail, and at the
 * agent's kill is done or not done.
 */
import { RackyardError } from "../base/errors.ts";
import type { TestenvReport } from "../model/testenv.ts";
import { signCertificate } from "../model/certificate.ts";
import type { RackPort } from "../testenv/rack-port.ts";
import type { Terms, Testenv } from "../testenv/testenv-state.ts";
import type { Clock } from "../base/clock.ts";
import { limits } from "../base/limits.ts";
import { never } from "./clock.ts";
import type { Life, Timeline } from "./clock.ts";
import type { Faults } from "./faults.ts";
import type { Machine, Rack } from "./machine.ts";
import type { SeededRandom } from "./random.ts";

export type Seen = {
  /** A key is about to be installed. */
  opening(machine: Machine, rack: Rack, terms: Terms): void;
  /** The broker is about to be told of a TE. */
  telling(machine: Machine, report: TestenvReport): void;
};

export function rackPort(options: {
  readonly machine: Machine;
  readonly life: Life;
  readonly timeline: Timeline;
  readonly clock: Clock;
  readonly random: SeededRandom;
  readonly faults: Faults;
  readonly seen: Seen;
}): RackPort {
  const { machine, life, timeline, clock, random, faults, seen } = options;
  const rackOf = (te: Pick<Testenv, "number">): Rack => machine.racks.get(te.number)!;

  /** A piece of work: done at its end, or, if the agent is killed meanwhile, done or not. */
  function work(ms: number, act: () => void): Promise<void> {
    if (!life.alive) return never();
    return new Promise((resolve, reject) => {
      const fails = random.chance(faults.rackChance);
      const forget = life.onKill(() => {
        if (!fails && random.chance(0.5)) act();
      });
      timeline.at(ms, () => {
        if (!life.alive) return;
        forget();
        if (fails) return reject(new RackyardError("unavailable", "a simulated fault"));
        act();
        resolve();
      });
    });
  }

  return {
    async open(te, terms, signal) {
      const rack = rackOf(te);
      await work(random.between(2, 60), () => undefined);
      // what runs already is not always stopped in time
      if (random.chance(0.5)) signal.throwIfAborted();
      await work(random.between(2, 120), () => {
        seen.opening(machine, rack, terms);
        rack.keys.set(`${terms.lease} ${terms.epoch}`, terms);
        rack.dirtyOf = terms.lease;
        rack.data = { lease: { id: terms.lease, epoch: String(terms.epoch) } };
      });
      const leftMs = terms.durationMs + limits.deadlineSlackMs;
      const at = new Date(clock.wallMs() + leftMs).toISOString();
      return { bootId: machine.bootId, monoMs: clock.monoMs() + leftMs, at };
    },
    extend: () => work(random.between(1, 20), () => undefined),
    async fence(te) {
      const rack = rackOf(te);
      try {
        await work(random.between(1, 30), () => rack.keys.clear());
      } catch (error) {
        rack.gateFailedMs = timeline.nowMs;
        throw error;
      }
    },
    async reset(te, signal) {
      const { phase, number, epoch } = te;
      const rack = rackOf(te);
      const began = new Date(clock.wallMs()).toISOString();
      for (let part = 0; part < 3; part++) {
        signal.throwIfAborted();
        await work(random.between(5, 120), () => part === 1 && (rack.dirtyOf = null));
      }
      signal.throwIfAborted();
      rack.data = undefined;
      if (random.chance(faults.rackChance)) {
        throw new RackyardError("no-space", "the host's disk is full");
      }
      const body = {
        schema: "reset/1" as const,
        host: machine.name,
        te: number,
        epoch,
        lease: "terms" in phase ? (phase.terms?.lease ?? null) : null,
        reason: "reason" in phase ? phase.reason : "ordered",
        began,
        ended: new Date(clock.wallMs()).toISOString(),
        durationMs: 1,
      };
      return signCertificate(body, machine.keys.privateKey);
    },
    remove: () => work(5, () => undefined),
    data: (te) => {
      const made = rackOf(te).data;
      const nothing = {
        "env-num": "1",
        "host-ip": "",
        "seed-ip": "",
        "ssh-user": "",
        "ssh-key": "",
      };
      return Promise.resolve(made && { ...nothing, nodes: [], ...made });
    },
    power: () => new Set<string>(),
    console: () => undefined,
  };
}

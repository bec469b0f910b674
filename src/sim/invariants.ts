/**
 * lease.md §3 as a check of a whole world, made after every event: what may never be seen, on the
 * racks as things, in the agents, in the ledger, and in what was answered to holders. Each fault
 * begins with the id of what it breaks.
 */
import type { TestenvReport } from "../model/testenv.ts";
import type { LeaseView } from "../model/lease.ts";
import { limits } from "../base/limits.ts";
import { grantOf } from "../lease/ledger/ledger-state.ts";
import type { Ledger } from "../lease/ledger/ledger-state.ts";
import { openTerms } from "../testenv/testenv-state.ts";
import type { Terms } from "../testenv/testenv-state.ts";
import type { BrokerRun } from "./broker-program.ts";
import { policy } from "./broker-program.ts";
import type { Disk } from "./disk.ts";
import type { Timeline } from "./clock.ts";
import type { Holder } from "./holder.ts";
import type { Machine, Rack } from "./machine.ts";

export type Watched = {
  readonly timeline: Timeline;
  readonly machines: readonly Machine[];
  readonly holders: readonly Holder[];
  readonly brokerDisk: Disk;
  readonly broker: () => BrokerRun | undefined;
  readonly violated: (what: string) => void;
};

/** L4's second. */
const FENCE_MS = 1_000;
/** A broker that is well is never so late with what is due; its back-off ends by any message. */
const LATE_MS = 7_000;
/** After a store that failed the broker may pause so long. */
const STORE_MS = limits.backoffLastMs + LATE_MS;

export function openInvariants(world: Watched) {
  const { timeline, machines, holders } = world;
  /** Since when a key lets somebody in that its host knows to be over. */
  const overSince = new Map<string, number>();
  /** By rack: what was last opened on it. */
  const opened = new Map<string, Terms>();
  /** Epochs per TE as the present database has shown them. */
  const epochs = new Map<string, { epoch: number; hostEpoch: number }>();
  const orders = new Map<string, number>();
  const taken = new Set<string>();
  /** Steps of each lease that were acted upon. */
  const told = new Map<string, number>();
  const requeued = new Set<string>();
  let dueSince = Infinity;

  function fault(what: string): void {
    world.violated(what);
  }

  function checkRack(machine: Machine, rack: Rack): void {
    const { agent } = machine;
    const name = `${machine.name}:${rack.number}`;
    if (rack.keys.size > 1) fault(`L1 ${name} lets ${rack.keys.size} leases in at once`);
    const actor = agent?.life.alive && agent.ready ? agent.registry.actor(rack.number) : undefined;
    if (!agent || !actor) return void overSince.delete(name);
    const { testenv } = actor;
    const own = openTerms(testenv);
    for (const key of rack.keys.values()) {
      const present = own?.lease === key.lease && own.epoch === key.epoch;
      const { phase } = testenv;
      const monoMs = timeline.nowMs - machine.bootedMs;
      const overMs =
        present && phase.state === "leased" ? Math.max(0, monoMs - phase.deadline.monoMs) : 0;
      if (present && overMs === 0) {
        overSince.delete(name);
        continue;
      }
      const sinceMs = Math.max(overSince.get(name) ?? timeline.nowMs, agent.readyMs);
      overSince.set(name, sinceMs);
      const fairMs = Math.max(sinceMs, rack.gateFailedMs + limits.fenceRetryLastMs);
      if (timeline.nowMs - fairMs > FENCE_MS) {
        const id = overMs > 0 ? "L7" : "L4";
        fault(`${id} ${name} still lets in lease ${key.lease} of epoch ${key.epoch}`);
      }
    }
    if (rack.keys.size === 0) overSince.delete(name);
    if (testenv.phase.state !== "ready") return;
    const { certificate } = testenv.phase;
    if (certificate.epoch !== testenv.epoch) {
      fault(`L5 ${name} is ready by a certificate of ${certificate.epoch}`);
    }
    if (rack.dirtyOf !== null) fault(`L5 ${name} is ready with traces of ${rack.dirtyOf}`);
    if (rack.keys.size > 0) fault(`L5 ${name} is ready and lets somebody in`);
  }

  function checkLedger(run: BrokerRun, ledger: Ledger): void {
    const { nowMs } = timeline;
    const on = new Map<string, string>();
    for (const lease of ledger.leases.values()) {
      const te = grantOf(lease.state)?.te;
      if (te !== undefined) {
        if (on.has(te)) fault(`L1 ${te} has leases ${on.get(te)} and ${lease.id}`);
        on.set(te, lease.id);
      }
      if ((orders.get(lease.id) ?? lease.order) !== lease.order) {
        fault(`L6 lease ${lease.id} lost its place ${orders.get(lease.id)}: ${lease.order}`);
      }
      orders.set(lease.id, lease.order);
    }
    for (const te of ledger.testenvs.values()) {
      const before = epochs.get(te.id);
      if (before && (te.epoch < before.epoch || te.hostEpoch < before.hostEpoch)) {
        fault(
          `L2 ${te.id} fell to epoch ${te.epoch}/${te.hostEpoch} from ${JSON.stringify(before)}`,
        );
      }
      epochs.set(te.id, { epoch: te.epoch, hostEpoch: te.hostEpoch });
      if (te.life.kind !== "ready") continue;
      if (te.certificate?.epoch !== te.hostEpoch) {
        fault(`L5 ${te.id} is ready by a certificate of ${te.certificate?.epoch}`);
      }
      if (on.has(te.id)) fault(`L1 ${te.id} is ready and in the hands of ${on.get(te.id)}`);
    }
    checkQueue(ledger);
    // what is due is done, while the store lets it be
    const well = nowMs - world.brokerDisk.failedMs > STORE_MS;
    const due = ledger.dueMs < run.broker!.nowMs();
    dueSince = due && well ? Math.min(dueSince, nowMs) : Infinity;
    if (nowMs - dueSince > LATE_MS) fault("L8 the broker sleeps over what is due");
    for (const holder of holders) if (well) checkHolder(run, ledger, holder);
  }

  /** L9: first come, first served, within a class; all are one group here. */
  function checkQueue({ index }: Ledger): void {
    const last = new Map<string, number>();
    const places = new Set<number>();
    for (const lease of index.queue) {
      const { priority } = lease.request;
      if (places.has(lease.order)) fault(`L6 two waiters have the place ${lease.order}`);
      places.add(lease.order);
      if (lease.order < (last.get(priority) ?? 0))
        fault(`L6 the queue is out of order at ${lease.id}`);
      last.set(priority, lease.order);
    }
  }

  /** L11, L14: who is gone has nothing for long. L8: who does not take it, neither. */
  function checkHolder(run: BrokerRun, ledger: Ledger, holder: Holder): void {
    const lease = holder.lease === undefined ? undefined : ledger.leases.get(holder.lease);
    if (!lease || holder.void) return;
    const { nowMs } = timeline;
    const { kind } = lease.state;
    // its time to take what is offered begins with the offer, whoever is there
    const agoMs = kind === "active" ? run.broker!.nowMs() - lease.alive.sinceMs : Infinity;
    const sinceMs = Math.max(holder.goneMs, run.readyMs, nowMs - agoMs);
    if (kind !== "ending" && nowMs - sinceMs > policy.holderTtlMs + LATE_MS) {
      fault(`${kind === "active" ? "L14" : "L11"} ${holder.name} is gone and its lease is ${kind}`);
    }
    const up = nowMs - run.readyMs > LATE_MS;
    if (up && kind === "active" && run.broker!.nowMs() > lease.state.deadlineMs + LATE_MS) {
      fault(`L8 ${lease.id} is active after its deadline`);
    }
    if (kind === "active" && !lease.state.taken) {
      const offeredMs = Math.max(nowMs - agoMs, run.readyMs);
      if (nowMs - offeredMs > limits.takenMs + LATE_MS) fault(`L8 ${lease.id} is not taken`);
    }
    if (holder.over && (kind === "active" || kind === "preparing")) {
      fault(`L6 the end of ${lease.id} was answered, and it is ${kind}`);
    }
  }

  return {
    check(): void {
      for (const machine of machines) {
        for (const rack of machine.racks.values()) checkRack(machine, rack);
      }
      const run = world.broker();
      const ledger = run?.life.alive ? run.ledger() : undefined;
      if (run && ledger) checkLedger(run, ledger);
    },

    /** A key is about to be installed. */
    opening(machine: Machine, rack: Rack, terms: Terms): void {
      const name = `${machine.name}:${rack.number}`;
      const last = opened.get(name);
      const again = last?.lease === terms.lease && last.epoch === terms.epoch;
      if (last && !again && terms.epoch <= last.epoch) {
        fault(`L2 ${name} is opened in epoch ${terms.epoch} after ${last.epoch}`);
      }
      opened.set(name, terms);
      if (rack.dirtyOf !== null && rack.dirtyOf !== terms.lease) {
        fault(`L5 ${name} is opened for ${terms.lease} with traces of ${rack.dirtyOf}`);
      }
    },

    /** L6: nothing that gives is told before it is durable. */
    telling(machine: Machine, report: TestenvReport): void {
      const { number, state, epoch } = report;
      if (state !== "preparing" && state !== "leased" && state !== "ready") return;
      if (machine.disk.held.has(`testenv ${number} ${state} ${epoch}`)) return;
      fault(`L6 ${machine.name}:${number} is told ${state} in epoch ${epoch}, unrecorded`);
    },

    /** What the broker recorded of a lease, before anybody is answered. */
    onLease(id: string, event: string, view: LeaseView): void {
      const steps = (told.get(id) ?? 0) + 1;
      told.set(id, steps);
      if (steps > (world.brokerDisk.steps.get(`lease ${id}`) ?? 0)) {
        fault(`L6 ${event} of lease ${id} is acted upon before it is recorded`);
      }
      const holder = holders.find((one) => one.lease === id);
      const { nowMs } = timeline;
      const [te] = view.testenvs;
      if (event === "fenced" && te) {
        const machine = machines.find(({ name }) => te.id.startsWith(`${name}:`));
        const rack = machine?.racks.get(Number(te.id.split(":")[1]));
        const open = [...(rack?.keys.values() ?? [])].some((key) => key.lease === id);
        if (open) fault(`L6 lease ${id} is told to be over, and ${te.id} lets it in`);
      }
      if (!holder || holder.void) return;
      if (event === "holder-gone" && holder.goneMs > nowMs) {
        const heardMs = Math.max(holder.signMs, world.broker()?.readyMs ?? 0);
        const cutMs = nowMs - holder.streamLostMs;
        const late = nowMs - heardMs >= policy.holderTtlMs - 10;
        const left = cutMs >= limits.streamLossMs - 10 && holder.streamLostMs >= holder.signMs;
        if (!late && !left)
          fault(`L14 ${holder.name} is there, and its lease ended as without holder`);
        if (holder.streaming && view.testenvs.length === 0)
          fault(`L11 ${holder.name} lost its place with its stream open`);
      }
      if (view.reason === "te-lost" && holder.requeue && event === "rack-lost") {
        const row = world.broker()?.ledger()?.leases.get(id);
        const first = row === undefined && !requeued.has(id) && !taken.has(id);
        if (first) fault(`L13 ${id} was to be put back once, and ended te-lost`);
      }
      if (event === "taken") taken.add(id);
      if (event === "rack-lost" && view.state === "waiting") requeued.add(id);
    },

    /** Another run of the broker: nothing that was answered is missing (L6). */
    onReady(run: BrokerRun): void {
      const ledger = run.ledger()!;
      for (const holder of holders) {
        const { lease: id } = holder;
        if (id === undefined || holder.void) continue;
        const row = world.brokerDisk.contents.rows.get(`lease ${id}`);
        if (!row) fault(`L6 lease ${id} was answered and is gone`);
        else if (row.state !== "ended" && !ledger.leases.has(id)) fault(`L6 lease ${id} was lost`);
      }
    },

    /** The broker's database is yesterday's from here on. */
    onRestored(): void {
      epochs.clear();
      orders.clear();
      for (const holder of holders) {
        const known = world.brokerDisk.contents.rows.has(`lease ${holder.lease}`);
        if (holder.lease !== undefined) holder.void = true;
        if (holder.lease !== undefined && !known) holder.over = false;
      }
    },

    /** All is quiet: what is not at rest yet, or undefined. */
    unrest(): string | undefined {
      const ledger = world.broker()?.ledger();
      if (!ledger) return "no broker";
      const [lease] = ledger.leases.values();
      if (lease) return `lease ${lease.id} of ${lease.request.holder.name} is ${lease.state.kind}`;
      for (const machine of machines) {
        for (const rack of machine.racks.values()) {
          const name = `${machine.name}:${rack.number}`;
          const here = machine.agent?.registry.actor(rack.number)?.testenv.phase.state;
          if (here !== "ready") return `${name} is ${here} on its host`;
          const there = ledger.testenvs.get(name);
          if (there?.life.kind !== "ready") return `${name} is ${there?.life.kind} at the broker`;
          if (there.draining) return `${name} drains`;
        }
      }
      return undefined;
    },
  };
}

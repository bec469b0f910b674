/**
 * A whole world from one seed (lease.md §8): the real broker, sessions and agents over simulated
 * time, network, disks and racks, on a bad day. After every event the invariants are checked; at
 * the end all faults stop, and everything must come to rest.
 */
import { createHash } from "node:crypto";
import type { Log } from "../base/log.ts";
import type { LeaseView } from "../model/lease.ts";
import type { Wire } from "../session/wire-port.ts";
import { startBroker } from "./broker-program.ts";
import type { BrokerMachine, BrokerRun } from "./broker-program.ts";
import { openTimeline } from "./clock.ts";
import type { Timeline } from "./clock.ts";
import { copyOf, emptyDisk } from "./disk.ts";
import type { Disk } from "./disk.ts";
import { noFaults } from "./faults.ts";
import type { Faults } from "./faults.ts";
import { liveHolder, newHolder } from "./holder.ts";
import type { Holder, HolderWorld } from "./holder.ts";
import { newMachine, startAgent } from "./host.ts";
import type { Surroundings } from "./host.ts";
import { openInvariants } from "./invariants.ts";
import type { Machine } from "./machine.ts";
import { openNetwork } from "./network.ts";
import { seededRandom } from "./random.ts";
import type { SeededRandom } from "./random.ts";

export type Outcome = {
  readonly seed: number;
  /** Empty: all invariants held. */
  readonly violations: readonly string[];
  readonly events: number;
  readonly leases: number;
  readonly kills: number;
  /** SHA-256 over the whole trace: the same seed gives the same. */
  readonly digest: string;
  readonly tail: readonly string[];
};

/** Simulated: how long it is bad, then how long everything may take to come to rest. */
const BAD_MS = 150_000;
const REST_MS = 150_000;
/** One rack may serve all who still wait, one after another. */
const REST_EACH_MS = 70_000;
const TAIL = 80;
/** More is a loop that never ends. */
const MOST_EVENTS = 400_000;

function drawFaults(random: SeededRandom): Faults {
  return {
    killChance: random.pick([0, 0.002, 0.01]),
    rackChance: random.pick([0, 0.02, 0.1]),
    answerChance: random.pick([0, 0.05]),
  };
}

function drawMachines(random: SeededRandom): Machine[] {
  return Array.from({ length: random.between(1, 2) }, (_, at) =>
    newMachine(`h${at + 1}`, random.between(1, 3), random.fork(`host ${at}`)),
  );
}

/** Yesterday's copies, put back before the next start; one disk a world, never both ends (L2). */
function openBackups(note: (text: string) => void) {
  const owed = new Map<Disk, Disk["contents"]>();
  return {
    owe: (disk: Disk, contents: Disk["contents"]) => void owed.set(disk, contents),
    restore(disk: Disk, then: () => void): boolean {
      const contents = owed.get(disk);
      if (!contents) return false;
      owed.delete(disk);
      disk.contents = contents;
      note("a disk is restored from yesterday");
      then();
      return true;
    },
  };
}

function listenerOf(run: BrokerRun | undefined) {
  if (!run?.life.alive || !run.broker) return undefined;
  return { life: run.life, take: (wire: Wire): void => run.sessions.take(wire) };
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : "?";
}

/** What must hold and did not, and programs that crashed by themselves. */
function openViolations(timeline: Pick<Timeline, "nowMs">, note: (text: string) => void) {
  const violations: string[] = [];
  const violated = (what: string): void => {
    note(`VIOLATED ${what}`);
    violations.push(`${Math.round(timeline.nowMs)} ms: ${what}`);
  };
  const crashed = (who: string, error: unknown): void =>
    violated(`${who} crashed: ${stackOf(error)}`);
  return { violations, violated, crashed };
}

function makeWorld(seed: number) {
  const random = seededRandom(`world ${seed}`);
  const timeline = openTimeline();
  const faults = drawFaults(random);
  const trace = openTrace(() => timeline.nowMs);
  const backups = openBackups(trace.note);
  const { violations, violated, crashed } = openViolations(timeline, trace.note);
  let kills = 0;
  let broker: BrokerRun | undefined;
  const holders: Holder[] = [];
  const brokerMachine: BrokerMachine = { disk: emptyDisk(), bootedMs: 0, wallOffMs: 0 };
  const machines = drawMachines(random);
  const invariants = openInvariants({
    timeline,
    machines,
    holders,
    brokerDisk: brokerMachine.disk,
    broker: () => broker,
    violated,
  });
  const network = openNetwork({
    timeline,
    random: random.fork("network"),
    listening: () => listenerOf(broker),
  });

  function beginBroker(): void {
    broker = startBroker({
      machine: brokerMachine,
      timeline,
      random,
      faults,
      log: trace.log("broker"),
      onLease: (id, event, view) => {
        trace.note(`lease ${id.slice(0, 8)} ${event}`);
        if ("state" in view) invariants.onLease(id, event, view as LeaseView);
      },
      onReady: (run) => invariants.onReady(run),
      died() {
        kills++;
        timeline.at(random.between(50, 4_000), () => {
          backups.restore(brokerMachine.disk, () => invariants.onRestored());
          beginBroker();
        });
      },
      crashed,
    });
  }

  const surroundings: Surroundings = {
    timeline,
    network,
    random,
    faults,
    seen: invariants,
    log: trace.log("host"),
    crashed,
    died(machine) {
      kills++;
      timeline.at(random.between(50, 3_000), () => {
        const restored = backups.restore(machine.disk, () => undefined);
        const boots = restored || rebooting.delete(machine);
        if (boots) bootAgain(machine, random);
        startAgent(machine, surroundings, boots);
      });
    },
  };
  const rebooting = new Set<Machine>();

  timeline.at(0, () => {
    beginBroker();
    for (const machine of machines) startAgent(machine, surroundings, true);
  });
  const bad: BadDay = {
    timeline,
    random: random.fork("faults"),
    machines,
    brokerMachine,
    broker: () => broker,
    network,
    note: trace.note,
    rebooting,
    restore(disk, contents, kill) {
      backups.owe(disk, contents);
      kill();
    },
  };
  const asked = planHolders(holders, {
    timeline,
    random,
    faults,
    broker: () => broker,
    note: trace.note,
  });
  planBadDay(bad);

  return {
    ...bad,
    holders,
    asked,
    faults,
    invariants,
    trace,
    violations,
    violated,
    crashed,
    kills: () => kills,
  };
}

export async function runWorld(seed: number): Promise<Outcome> {
  const world = makeWorld(seed);
  const { timeline, holders, invariants, violations, violated, trace } = world;
  let events = 0;
  const run = async (untilMs: number, over: () => boolean): Promise<void> => {
    while (violations.length === 0 && !over() && (await timeline.step(untilMs))) {
      invariants.check();
      if (++events > MOST_EVENTS) violated("a loop that never ends");
    }
  };
  const uncaught = (error: unknown): void => world.crashed("a program", error);
  process.on("unhandledRejection", uncaught);
  try {
    await run(BAD_MS, () => false);
    trace.note("all faults stop");
    Object.assign(world.faults, noFaults);
    heal(world);
    keepInOrder(world);
    const atRest = (): boolean =>
      holders.every(({ done }) => done) && invariants.unrest() === undefined;
    await run(BAD_MS + REST_MS + world.asked * REST_EACH_MS, atRest);
    if (violations.length === 0 && !atRest()) {
      const who = holders.find(({ done }) => !done)?.name;
      violated(`no rest: ${invariants.unrest() ?? `${who} goes on`}`);
    }
  } finally {
    process.off("unhandledRejection", uncaught);
  }
  const leases = holders.filter(({ lease }) => lease !== undefined).length;
  const kills = world.kills();
  return { seed, violations, events, leases, kills, digest: trace.digest(), tail: trace.tail() };
}

/** Gives how many there will be. */
function planHolders(holders: Holder[], world: HolderWorld): number {
  const asked = world.random.between(6, 22);
  for (let n = 0; n < asked; n++) {
    world.timeline.at(world.random.between(500, BAD_MS * 0.8), () => {
      const holder = newHolder(`p${n + 1}`);
      holders.push(holder);
      void liveHolder(holder, world);
    });
  }
  return asked;
}

type BadDay = {
  readonly timeline: ReturnType<typeof openTimeline>;
  readonly random: SeededRandom;
  readonly machines: readonly Machine[];
  readonly brokerMachine: BrokerMachine;
  readonly broker: () => BrokerRun | undefined;
  readonly network: ReturnType<typeof openNetwork>;
  readonly note: (text: string) => void;
  /** Killed now, booted before the next start. */
  readonly rebooting: Set<Machine>;
  readonly restore: (disk: Disk, contents: Disk["contents"], kill: () => void) => void;
};

/** What happens to this world, and when. */
function planBadDay(day: BadDay): void {
  const { timeline, random, machines, brokerMachine } = day;
  const killBroker = (): void => day.broker()?.life.kill();
  const machine = (): Machine => random.pick(machines);
  for (let n = random.between(3, 25); n > 0; n--) {
    timeline.at(random.between(1_000, BAD_MS), () => {
      const what = random.pick(happenings);
      day.note(what.name);
      what.act(day, machine());
    });
  }
  const yesterdayMs = random.between(5_000, BAD_MS / 2);
  const one = random.fraction();
  const host = machine();
  const disk = one < 0.25 ? brokerMachine.disk : one < 0.5 ? host.disk : undefined;
  if (!disk) return;
  timeline.at(yesterdayMs, () => {
    const contents = copyOf(disk);
    timeline.at(random.between(2_000, BAD_MS / 2), () => {
      const kill = disk === host.disk ? (): void => host.agent?.life.kill() : killBroker;
      day.restore(disk, contents, kill);
    });
  });
}

const operator = { name: "operator", role: "operator", groups: [] } as const;

const happenings: readonly { name: string; act(day: BadDay, machine: Machine): void }[] = [
  { name: "kill -9 of the broker", act: ({ broker }) => broker()?.life.kill() },
  { name: "kill -9 of an agent", act: (_day, machine) => machine.agent?.life.kill() },
  {
    name: "a host boots",
    act({ rebooting }, machine) {
      rebooting.add(machine);
      machine.agent?.life.kill();
    },
  },
  { name: "a connection is cut", act: ({ network }, { name }) => network.cut(name, false) },
  { name: "a connection swallows all", act: ({ network }, { name }) => network.cut(name, true) },
  {
    name: "a host is apart",
    act({ network, timeline, random }, { name }) {
      network.apart.add(name);
      network.cut(name, random.chance(0.5));
      timeline.at(random.between(1_000, 70_000), () => void network.apart.delete(name));
    },
  },
  { name: "a host's disk is full", act: (day, machine) => fill(day, machine.disk) },
  { name: "the broker's disk is full", act: (day) => fill(day, day.brokerMachine.disk) },
  {
    name: "a wall clock jumps",
    act({ random, brokerMachine }, machine) {
      const of = random.chance(0.5) ? machine : brokerMachine;
      of.wallOffMs += random.between(-3_600_000, 3_600_000);
    },
  },
  {
    name: "the operator revokes a lease",
    act({ broker, random }) {
      const run = broker();
      const ids = [...(run?.ledger()?.leases.keys() ?? [])];
      if (ids.length === 0) return;
      run?.broker?.leases.revoke(random.pick(ids), operator).catch(() => undefined);
    },
  },
  {
    name: "the operator drains or undrains a rack",
    act({ broker, random }) {
      const run = broker();
      const ids = [...(run?.ledger()?.testenvs.keys() ?? [])];
      if (ids.length === 0) return;
      run?.broker?.fleet
        .drain(random.pick(ids), random.chance(0.5), operator)
        .catch(() => undefined);
    },
  },
];

function fill({ timeline, random }: BadDay, disk: Disk): void {
  disk.full = true;
  const spans = [300, 300, 300, 5_000, 15_000, 60_000] as const;
  const forMs = random.between(1, random.pick(spans));
  timeline.at(forMs, () => void (disk.full = false));
}

function heal({ machines, brokerMachine, network }: BadDay): void {
  network.apart.clear();
  for (const { disk } of [...machines, brokerMachine]) disk.full = false;
}

/** What an operator does for racks that are out of service. */
function keepInOrder(day: BadDay): void {
  const run = day.broker();
  for (const te of run?.ledger()?.testenvs.values() ?? []) {
    if (te.draining) run?.broker?.fleet.drain(te.id, false, operator).catch(() => undefined);
    if (te.life.kind !== "quarantined" || !run?.sessions.connected(te.hostId)) continue;
    run.sessions.send(te.hostId, { kind: "reset", testenv: te.number });
  }
  // whoever has said in a lost database that it may be taken says so no more
  for (const lease of run?.ledger()?.leases.values() ?? []) {
    if (lease.takeable || lease.state.kind !== "waiting") continue;
    const forMs = run!.broker!.nowMs() - lease.createdAtMs;
    if (forMs > BAD_MS) run!.broker!.leases.revoke(lease.id, operator).catch(() => undefined);
  }
  day.timeline.at(5_000, () => keepInOrder(day));
}

function bootAgain(machine: Machine, random: SeededRandom): void {
  machine.bootId = random.uuid4();
  for (const rack of machine.racks.values()) rack.keys.clear();
}

function openTrace(nowMs: () => number) {
  const hash = createHash("sha256");
  const tail: string[] = [];
  const note = (text: string): void => {
    const line = `${nowMs().toFixed(1)} ${text}`;
    hash.update(line).update("\n");
    tail.push(line);
    if (tail.length > 2 * TAIL) tail.splice(0, TAIL);
  };
  const log = (who: string): Log => {
    const say = (facts: object, text: string): void =>
      note(`${who}: ${text} ${JSON.stringify(facts)}`);
    const made: Log = {
      debug: () => undefined,
      info: say,
      warn: say,
      error: say,
      child: () => made,
    };
    return made;
  };
  return { note, log, digest: () => hash.copy().digest("hex"), tail: () => tail.slice(-TAIL) };
}

/**
 * A simulated machine with racks, and the real agent's parts on it: actors, orders, reports and
 * the host's end of the session. The machine outlives the agent: its disk, its racks, its clock.
 */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { openTroubles } from "../base/troubles.ts";
import type { FromHost } from "../session/session-port.ts";
import { dialBroker } from "../session/broker-session.ts";
import { openActor } from "../testenv/actor.ts";
import { openOrders } from "../testenv/orders.ts";
import type { TestenvParts } from "../testenv/parts.ts";
import { testenvRecords } from "../testenv/record.ts";
import { openRegistry } from "../testenv/registry.ts";
import { openReports } from "../testenv/reports.ts";
import { newTestenv } from "../testenv/testenv-state.ts";
import { clockOf, openLife } from "./clock.ts";
import type { Timeline } from "./clock.ts";
import { emptyDisk, storeOn } from "./disk.ts";
import type { Faults } from "./faults.ts";
import type { Network } from "./network.ts";
import { newRack } from "./machine.ts";
import type { Agent, Machine } from "./machine.ts";
import { rackPort } from "./rack.ts";
import type { Seen } from "./rack.ts";
import type { SeededRandom } from "./random.ts";

export type Surroundings = {
  readonly timeline: Timeline;
  readonly network: Network;
  readonly random: SeededRandom;
  readonly faults: Faults;
  readonly seen: Seen;
  readonly log: Log;
  /** A program ended by its own mistake. */
  readonly crashed: (who: string, error: unknown) => void;
  /** A program is gone: somebody starts it again. */
  readonly died: (machine: Machine) => void;
};

const PASS_MS = 400;
const HEARTBEAT = {
  kind: "heartbeat" as const,
  load: 0,
  freeMemoryMiB: 1_024,
  health: "ok" as const,
  problems: [],
  processes: [],
};

export function newMachine(name: string, racks: number, random: SeededRandom): Machine {
  // PKCS #8 of an Ed25519 key is this head and the seed (RFC 8410 §7)
  const head = Buffer.from("302e020100300506032b657004220420", "hex");
  const der = Buffer.concat([head, random.bytes(32)]);
  const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const publicPem = createPublicKey(privateKey).export({ type: "spki", format: "pem" }).toString();
  const numbers = Array.from({ length: racks }, (_, at) => at + 1);
  return {
    name,
    id: random.uuid4(),
    keys: { privateKey, publicPem },
    disk: emptyDisk(),
    racks: new Map(numbers.map((number) => [number, newRack(number)])),
    bootId: random.uuid4(),
    bootedMs: 0,
    wallOffMs: 0,
    agent: undefined,
  };
}

const KIND = { labels: [], machines: { count: 2, memoryMiB: 256, cpus: 1, diskGiB: 4 } };

function partsOf(te: { readonly number: number }): TestenvParts {
  const parts = { number: te.number, kindName: "two", kind: KIND, all: [], seedIp: "10.99.0.11" };
  return parts as unknown as TestenvParts;
}

/** Starts the agent; `newWorld`: the machine was booted since the last one. */
export function startAgent(machine: Machine, world: Surroundings, newWorld: boolean): void {
  const { timeline, network, faults, log } = world;
  const life = openLife();
  const random = world.random.fork(`${machine.name} ${timeline.nowMs}`);
  const clock = clockOf(timeline, life, machine);
  const store = storeOn(machine.disk, {
    life,
    timeline,
    random,
    killChance: () => faults.killChance,
    kill: () => life.kill(),
  });
  const registry = openRegistry(partsOf, () => undefined);
  const agent: Agent = { life, registry, ready: false, readyMs: Infinity };
  machine.agent = agent;
  life.onKill(() => world.died(machine));
  const records = testenvRecords(store, () => clock.wallMs());
  const rack = rackPort({ machine, life, timeline, clock, random, faults, seen: world.seen });
  const troubles = openTroubles({ log, wallMs: () => clock.wallMs() });
  let session: ReturnType<typeof dialBroker> | undefined;
  const send = (message: FromHost): void => {
    if (message.kind === "testenv") world.seen.telling(machine, message.report);
    session?.send(message);
  };
  const reports = openReports({ registry, rack, send, log });
  const parts = { registry, rack, send, log };
  const orders = openOrders({
    ...parts,
    recorder: { folder: () => "" },
    consoles: { open: () => undefined, credit: () => undefined, close: () => undefined } as never,
  });

  const pass = (): void => {
    for (const actor of registry.actors()) {
      if (actor.testenv.phase.state === "provisioning") void actor.post({ kind: "parts-ready" });
    }
    clock.after(PASS_MS, pass);
  };

  async function begin(): Promise<void> {
    const known = await records.all();
    for (const { number } of machine.racks.values()) {
      if (known.some((te) => te.number === number)) continue;
      const te = newTestenv(number, "two");
      await records.save([{ before: null, event: "carved", after: te }]);
      known.push(te);
    }
    for (const testenv of known) {
      const work = {
        ...rack,
        wantPass: () => undefined,
        report: () => reports.changed(testenv.number),
        handOver: () => undefined,
      };
      const onCrash = (error: unknown): void => world.crashed(`agent of ${machine.name}`, error);
      registry.add(openActor({ testenv, records, work, clock, random, troubles, onCrash }));
    }
    const started = registry.actors().map((actor) => actor.start(newWorld));
    agent.ready = true;
    agent.readyMs = timeline.nowMs;
    await Promise.all(started);
    pass();
    session = dialBroker({
      url: "ws://simulated",
      connect: network.connectFrom(machine.name, life),
      log,
      clock,
      random,
      heartbeat: () => HEARTBEAT,
      handler: {
        async nextSessionNumber() {
          const number = Number((await store.fact("session-number")) ?? 0) + 1;
          await store.transaction((tx) => store.setFact(tx, "session-number", String(number), 0));
          return number;
        },
        hello: async (sessionNumber) => ({
          kind: "hello",
          hostId: machine.id,
          name: machine.name,
          version: "0",
          sessionNumber,
          bootId: machine.bootId,
          labels: [],
          accelerator: "tcg",
          capacity: { memoryMiB: 1, cpus: 1, diskGiB: 1 },
          certificateKey: machine.keys.publicPem,
          ca: null,
          testNetwork: { cidr: "10.99.0.0/24", hostIp: "10.99.0.1", machineIp: "10.99.0.2" },
          ssh: { host: "10.99.0.1", port: 22, hostKey: "ssh-ed25519 AAAA" },
          cell: null,
          libvirt: null,
          draining: false,
          testenvs: reports.all(),
          nodes: [],
          images: [],
          processes: [],
        }),
        onWelcome: ({ testenvs }) => orders.onWelcome(testenvs),
        async onMessage(message) {
          if (message.kind.startsWith("node-") || message.kind === "image-build") return;
          await orders.onMessage(message as Parameters<typeof orders.onMessage>[0]);
        },
      },
    });
  }

  begin().catch((error: unknown) => {
    log.warn({ why: describeError(error) }, "an agent could not start");
    life.kill();
  });
}

/**
 * A rack's agent for tests: its actor, rack, reset and passes over the hypervisor in memory, with a
 * fate: it may die at any call, have a call fail, or hold one. What outlives it is the host's.
 */
import { generateKeyPairSync } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import type { Clock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { openTroubles } from "../../src/base/troubles.ts";
import type { Trouble } from "../../src/base/troubles.ts";
import { until } from "../../src/base/wait.ts";
import { verifyCertificate } from "../../src/model/certificate.ts";
import { kindSchema } from "../../src/model/machine.ts";
import { emptyWorld, simHypervisor } from "../../src/sim/hypervisor.ts";
import type { SimWorld } from "../../src/sim/hypervisor.ts";
import { openActor } from "../../src/testenv/actor.ts";
import type { Actor } from "../../src/testenv/actor.ts";
import { newTestenv } from "../../src/testenv/testenv-state.ts";
import type { Terms, Testenv, TestenvEvent } from "../../src/testenv/testenv-state.ts";
import { partsOf } from "../../src/testenv/parts.ts";
import { openProvision } from "../../src/testenv/provision.ts";
import { makeRackFolders, openRack } from "../../src/testenv/rack.ts";
import type { RackTools, RuleBook } from "../../src/testenv/rack.ts";
import { openRecorder } from "../../src/testenv/recorder/recorder.ts";
import type { TestenvStep } from "../../src/testenv/record.ts";
import { resetRack } from "../../src/testenv/reset.ts";

const hostId = "11111111-2222-4333-8444-555555555555";
export const lease = "00000000-0000-4000-8000-000000000001";
export const terms: Terms = {
  lease,
  epoch: 7,
  durationMs: 3_600_000,
  holderName: "build",
  holderAddresses: ["10.99.0.180"],
  tokenHash: "",
  compat: "2014",
};
const { privateKey: certificateKey, publicKey } = generateKeyPairSync("ed25519");
const publicPem = publicKey.export({ type: "spki", format: "pem" }).toString();
const kind = kindSchema.parse({});

export let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-crash-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** What outlives an agent: the machine's world, the keys in the gate, the record. */
export type Host = {
  readonly world: SimWorld;
  readonly keys: Map<number, string>;
  readonly connections: Set<string>;
  record: Testenv | undefined;
  /** States that were reported, and the details of faults. */
  readonly told: { state: string; detail: string }[];
};
export const newHost = (): Host => ({
  world: emptyWorld(),
  keys: new Map(),
  connections: new Set(),
  record: undefined,
  told: [],
});

/** How often a process may call before it dies, or which of its calls fails. */
export type Fate = {
  readonly holds?: (call: string) => Promise<void>;
  readonly diesAt?: number;
  readonly fails?: (call: string) => boolean | string;
};

const ground = () => ({
  hostId,
  macKey: "key",
  disksFolder: join(directory, "disks"),
  consolesFolder: join(directory, "consoles"),
  socketsFolder: "/s",
  mtu: 1500,
  testBridge: "br-ctlplane",
  seedIp: (number: number) => `10.99.0.${10 + number}`,
});
export const parts = () => partsOf(ground(), 1, "two", kind);
const secrets = () => join(directory, "keys", "te1.json");

/** Time that only timers of retries use, and those fire at once. */
const clock: Clock = {
  wallMs: () => Date.now(),
  monoMs: () => performance.now(),
  after(delayMs, callback) {
    const handle = delayMs > 60_000 ? undefined : setImmediate(callback);
    return { cancel: () => clearImmediate(handle) };
  },
};

export type Process = {
  readonly actor: Actor;
  readonly dead: () => boolean;
  readonly troubles: () => readonly Trouble[];
  /** Throws what a broken record would have ended the program with. */
  readonly idle: () => boolean;
};

export async function startAgent(host: Host, fate: Fate, newWorld = false): Promise<Process> {
  let calls = 0;
  let dead = false;
  let crash: unknown;
  const pass = async (call: string): Promise<void> => {
    if (!dead && ++calls === fate.diesAt) dead = true;
    if (dead) await new Promise(() => undefined); // for ever: nothing of it goes on
    await fate.holds?.(call);
    const failure = fate.fails?.(call);
    if (failure) throw new Error(failure === true ? `${call} fails` : failure);
  };
  const hypervisor = simHypervisor(pass, host.world);
  const recorder = await openRecorder(join(directory, "recorder"), clock);
  const rules: RuleBook = {
    async set(rule) {
      const others = host.world.rules.filter(({ tap }) => tap !== rule.tap);
      await hypervisor.portRules.apply([...others, rule]);
    },
    async remove(tap) {
      await hypervisor.portRules.apply(host.world.rules.filter((rule) => rule.tap !== tap));
    },
  };
  const tools: RackTools = {
    hypervisor,
    rules,
    gate: {
      async open({ number, lease: of }) {
        await pass("gate.open");
        host.keys.set(number, of);
        await pass("gate.open done");
      },
      async close(number) {
        await pass("gate.close");
        host.keys.delete(number);
        host.connections.clear();
        await pass("gate.close done");
      },
      settled: async () => pass("gate.settled"),
      async facts(number) {
        await pass("gate.facts");
        const sshKeys = host.keys.has(number) ? 1 : 0;
        return { sshKeys, openConnections: host.connections.size, processes: 0 };
      },
    },
    images: { find: async () => undefined, pathOf: (digest) => digest },
    recorder,
    takeKey: async () => ({ privateKey: "PEM", publicKey: "ssh-rsa AAAA" }),
    clock,
    world: "w",
    host: { id: hostId, name: "here", sshPort: 22, sshHostKey: "ssh-ed25519 AAAA" },
    secretsFolder: join(directory, "keys"),
    partsOf: parts,
  };
  const rack = openRack(tools);
  const records = {
    all: async () => (host.record ? [host.record] : []),
    async save(steps: readonly TestenvStep[]) {
      const name = steps.map(({ event }) => event).join(" ");
      await pass(`save ${name}`);
      const { after } = steps.at(-1)!;
      if (after.phase.state === "preparing") expect(dirt(host)).toEqual([]);
      host.record = after;
      await pass(`saved ${name}`);
    },
  };
  const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
  const actor = openActor({
    troubles,
    testenv: host.record ?? newTestenv(1, "two"),
    records,
    clock,
    onCrash: (error) => (crash = error),
    work: {
      open: rack.open,
      extend: rack.extend,
      fence: rack.fence,
      reset: (te, signal) =>
        resetRack(
          { ...tools, certificateKey, filesComplete: async () => pass("files") },
          te,
          rack.record(te),
          signal,
        ),
      remove: rack.remove,
      wantPass: () => void provisionUntilDone(),
      handOver: () => undefined,
      report: () => {
        const { phase } = actor.told;
        const detail = "detail" in phase ? phase.detail : "";
        host.told.push({ state: phase.state, detail });
        if (phase.state === "leased" || phase.state === "ready") {
          expect(host.record?.phase, "L6 told before it was recorded").toEqual(phase);
        }
      },
    },
  });
  const provisioning = openProvision({
    hostId,
    hypervisor,
    rules,
    setAccounts: async () => void host.world.accounts.add("te1"),
    accounts: () => (host.world.accounts.has("te1") ? [1] : []),
    testenvs: () => [actor.testenv],
    partsOf: parts,
    post: (_, event) => actor.post(event),
  });
  async function provision(): Promise<void> {
    for (const action of await provisioning.plan()) {
      await provisioning.performers[action.kind](action);
    }
  }
  /** The host's passes try again what failed (passes.ts). */
  async function provisionUntilDone(): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      if (dead) return;
      const done = await provision().then(
        () => true,
        () => false,
      );
      if (done) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  await actor.start(newWorld);
  return {
    troubles: () => troubles.list(),
    actor,
    dead: () => dead,
    idle() {
      expect(crash).toBeUndefined();
      return true;
    },
  };
}

/** Everything that a next holder must not find. */
export function dirt(host: Host): string[] {
  const { world } = host;
  const found: string[] = [];
  for (const { spec, power } of world.domains.values()) {
    if (power === "on") found.push(`${spec.name} is on`);
    if (existsSync(spec.consoleLog)) found.push(`${spec.name} has a console`);
  }
  for (const { disk } of parts().all) {
    const facts = world.disks.get(disk.path);
    if (!facts || facts.base !== null || facts.bytes > 1e6) found.push(`${disk.path} is not empty`);
  }
  if (world.bridges.get("brbm1")?.ports.length !== 0) found.push("the bridge has ports");
  if (world.leases.size > 0) found.push("the seed has a lease");
  if (host.keys.size > 0) found.push("a key is installed");
  if (host.connections.size > 0) found.push("a connection is open");
  if (existsSync(secrets())) found.push("secrets are there");
  const open = world.rules.flatMap((rule) => (rule.kind === "seed" ? rule.open : []));
  if (open.length > 0) found.push("the seed's port is open");
  return found;
}

/** What a job does to its rack. */
export async function soil(host: Host): Promise<void> {
  for (const domain of host.world.domains.values()) {
    domain.power = "on";
    await writeFile(domain.spec.consoleLog, "booted\n");
  }
  for (const { disk } of parts().all)
    host.world.disks.set(disk.path, { bytes: 5e8, base: "/seed" });
  const bridge = host.world.bridges.get("brbm1")!;
  host.world.bridges.set("brbm1", { ...bridge, ports: ["te1n0p0"] });
  host.world.leases.set(parts().seed.spec.nics[0]!.mac, "10.99.0.11");
  host.connections.add("copyseed");
}

export const stateOf = (host: Host): string => host.record?.phase.state ?? "none";
/** Nothing is under way and the TE is in one of these states; or the agent died. */
export const settle = (host: Host, process: Process, states: readonly string[]): Promise<unknown> =>
  until(() => process.dead() || (process.idle() && states.includes(stateOf(host))), {
    timeoutMs: 5_000,
    everyMs: 1,
    what: `${states.join(" or ")}, and not ${JSON.stringify(host.record)}`,
  });
export const rest = ["ready", "quarantined"];

export async function makeReady(host: Host): Promise<void> {
  await makeRackFolders({
    secrets: join(directory, "keys"),
    disks: join(directory, "disks"),
    consoles: join(directory, "consoles"),
  });
  const agent = await startAgent(host, {});
  await settle(host, agent, ["ready"]);
  await agent.actor.close();
}

export function expectProved(host: Host, epoch: number): void {
  expect(dirt(host)).toEqual([]);
  expect(host.record?.epoch).toBe(epoch);
  const phase = host.record?.phase;
  expect(phase).toMatchObject({ state: "ready", certificate: { epoch } });
  const proof = phase?.state === "ready" ? phase.certificate : {};
  expect(verifyCertificate(proof, publicPem)).toBe(true);
}

/** One lease from grant to proof, by an agent with this fate; a new one takes over if it dies. */
export async function liveLease(host: Host, fate: Fate, newWorld: boolean): Promise<boolean> {
  let agent = await startAgent(host, fate);
  let died = false;
  const replaceIfDead = async (): Promise<void> => {
    if (!agent.dead()) return;
    died = true;
    agent = await startAgent(host, {}, newWorld);
  };
  /** Posts what the broker sends, and again to the next agent if this one died over it. */
  const insist = async (event: TestenvEvent, states: readonly string[]): Promise<void> => {
    for (let again = true; again; again = agent.dead()) {
      await replaceIfDead();
      await Promise.race([agent.actor.post(event), settle(host, agent, [])]).catch(() => undefined);
      await settle(host, agent, states);
    }
  };
  await settle(host, agent, rest);
  await insist({ kind: "prepare", terms }, ["leased", ...rest]);
  if (stateOf(host) === "leased") await soil(host);
  await insist({ kind: "end", lease, epoch: 7, reason: "released" }, rest);
  await agent.actor.close();
  return died;
}

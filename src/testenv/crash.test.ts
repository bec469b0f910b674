/**
 * The agent killed at every step of prepare and reset: the process stops there for good, a new
 * one starts from the record, and the TE always ends ready, proved for its present epoch, or
 * faulty; it is never lent while anything of the last lease is left.
 */
import { generateKeyPairSync } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { openTroubles } from "../base/troubles.ts";
import type { Trouble } from "../base/troubles.ts";
import { until } from "../base/wait.ts";
import { verifyCertificate } from "../model/certificate.ts";
import { kindSchema } from "../model/machine.ts";
import { emptyWorld, simHypervisor } from "../sim/hypervisor.ts";
import type { SimWorld } from "../sim/hypervisor.ts";
import { openActor } from "./actor.ts";
import type { Actor } from "./actor.ts";
import { newTestenv } from "./testenv-state.ts";
import type { Terms, Testenv, TestenvEvent } from "./testenv-state.ts";
import { partsOf, seedRule } from "./parts.ts";
import { openProvision } from "./provision.ts";
import { makeRackFolders, openRack } from "./rack.ts";
import type { RackTools, RuleBook } from "./rack.ts";
import { openRecorder } from "./recorder/recorder.ts";
import type { TestenvStep } from "./record.ts";
import { resetRack } from "./reset.ts";

const hostId = "11111111-2222-4333-8444-555555555555";
const lease = "00000000-0000-4000-8000-000000000001";
const terms: Terms = {
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

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-crash-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** What outlives an agent: the machine's world, the keys in the gate, the record. */
type Host = {
  readonly world: SimWorld;
  readonly keys: Map<number, string>;
  readonly connections: Set<string>;
  record: Testenv | undefined;
  /** States that were reported, and the details of faults. */
  readonly told: { state: string; detail: string }[];
};
const newHost = (): Host => ({
  world: emptyWorld(),
  keys: new Map(),
  connections: new Set(),
  record: undefined,
  told: [],
});

/** How often a process may call before it dies, or which of its calls fails. */
type Fate = { readonly diesAt?: number; readonly fails?: (call: string) => boolean | string };

const ground = () => ({
  hostId,
  disksFolder: join(directory, "disks"),
  consolesFolder: join(directory, "consoles"),
  socketsFolder: "/s",
  mtu: 1500,
  testBridge: "br-ctlplane",
  seedIp: (number: number) => `10.99.0.${10 + number}`,
});
const parts = () => partsOf(ground(), 1, "two", kind);
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

type Process = {
  readonly actor: Actor;
  readonly dead: () => boolean;
  readonly troubles: () => readonly Trouble[];
  /** Throws what a broken record would have ended the program with. */
  readonly idle: () => boolean;
};

async function startAgent(host: Host, fate: Fate, newWorld = false): Promise<Process> {
  let calls = 0;
  let dead = false;
  let crash: unknown;
  const pass = async (call: string): Promise<void> => {
    if (!dead && ++calls === fate.diesAt) dead = true;
    if (dead) await new Promise(() => undefined); // for ever: nothing of it goes on
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
    power: { running: async () => new Set() },
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
function dirt(host: Host): string[] {
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
async function soil(host: Host): Promise<void> {
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

const stateOf = (host: Host): string => host.record?.phase.state ?? "none";
/** Nothing is under way and the TE is in one of these states; or the agent died. */
const settle = (host: Host, process: Process, states: readonly string[]): Promise<unknown> =>
  until(() => process.dead() || (process.idle() && states.includes(stateOf(host))), {
    timeoutMs: 5_000,
    everyMs: 1,
    what: `${states.join(" or ")}, and not ${JSON.stringify(host.record)}`,
  });
const rest = ["ready", "quarantined"];

async function makeReady(host: Host): Promise<void> {
  await makeRackFolders({
    secrets: join(directory, "keys"),
    disks: join(directory, "disks"),
    consoles: join(directory, "consoles"),
  });
  const agent = await startAgent(host, {});
  await settle(host, agent, ["ready"]);
  await agent.actor.close();
}

function expectProved(host: Host, epoch: number): void {
  expect(dirt(host)).toEqual([]);
  expect(host.record?.epoch).toBe(epoch);
  const phase = host.record?.phase;
  expect(phase).toMatchObject({ state: "ready", certificate: { epoch } });
  const proof = phase?.state === "ready" ? phase.certificate : {};
  expect(verifyCertificate(proof, publicPem)).toBe(true);
}

/** One lease from grant to proof, by an agent with this fate; a new one takes over if it dies. */
async function liveLease(host: Host, fate: Fate, newWorld: boolean): Promise<boolean> {
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

test.each([false, true])(
  "L5 L6 H-8.1 killed at every step of prepare and reset (new world: %s), the TE is proved clean",
  async (newWorld) => {
    let deaths = 0;
    for (let diesAt = 1; ; diesAt++) {
      const host = newHost();
      await makeReady(host);
      const died = await liveLease(host, { diesAt }, newWorld);
      if (!died) break;
      deaths++;
      expectProved(host, 7);
      await rm(join(directory, "recorder"), { recursive: true, force: true });
    }
    expect(deaths).toBeGreaterThan(60);
  },
  120_000,
);

/** All calls of one lease's life, records included. */
async function callsOfLease(): Promise<Set<string>> {
  const names = new Set<string>();
  const quiet = newHost();
  await makeReady(quiet);
  await liveLease(quiet, { fails: (call) => (names.add(call), false) }, false);
  await rm(join(directory, "recorder"), { recursive: true, force: true });
  return names;
}

test.each([1, 2])(
  "H-8.5 H-13.3 L6 whichever call or record fails %s times, the reset is tried again and the TE proved",
  async (times) => {
    const names = await callsOfLease();
    expect([...names].filter((name) => name.startsWith("save ")).length).toBeGreaterThan(4);
    for (const name of names) {
      const host = newHost();
      await makeReady(host);
      let failed = 0;
      expect(host.record?.epoch).toBe(0);
      const some = (call: string): boolean => {
        const armed = host.record?.epoch === 7 || call === "save prepare";
        if (failed >= times || call !== name || !armed) return false;
        failed++;
        return true;
      };
      await liveLease(host, { fails: some }, false);
      expectProved(host, 7);
      await rm(join(directory, "recorder"), { recursive: true, force: true });
    }
  },
  60_000,
);

test("L4 L6 no record can be written: the fence is raised all the same, told as a trouble, and the rest follows by itself", async () => {
  for (const event of ["end", "deadline", "parts-broken"] as const) {
    const host = newHost();
    await makeReady(host);
    let full = false;
    const agent = await startAgent(host, { fails: (call) => full && call.startsWith("save") });
    await agent.actor.post({ kind: "prepare", terms });
    await settle(host, agent, ["leased"]);
    await soil(host);
    full = true;
    const posted =
      event === "end"
        ? agent.actor.post({ kind: event, lease, epoch: 7, reason: "released" })
        : event === "deadline"
          ? agent.actor.post({ kind: event, epoch: 7 })
          : agent.actor.post({ kind: event, detail: "x" });
    await until(() => host.keys.size === 0 && host.connections.size === 0, {
      timeoutMs: 1_000,
      everyMs: 1,
      what: "the fence",
    });
    expect(agent.actor.testenv.phase.state).toBe("resetting");
    await until(() => agent.troubles().length > 0, { timeoutMs: 1_000, what: "a trouble" });
    expect(agent.troubles()[0]?.what).toBe("the record of te1");
    // it goes no further: the reset would destroy what a record of a lease still speaks of
    expect(host.record?.phase.state).toBe("leased");
    expect(host.world.domains.values().next().value?.power).toBe("on");
    full = false;
    await posted;
    await settle(host, agent, ["ready"]);
    expectProved(host, 7);
    expect(agent.troubles()).toEqual([]);
    await agent.actor.close();
    await rm(join(directory, "recorder"), { recursive: true, force: true });
  }
});

test("L4 an end overtakes records that cannot be written, and what they would have opened stays shut", async () => {
  const host = newHost();
  await makeReady(host);
  let full = true;
  const agent = await startAgent(host, { fails: (call) => full && call.startsWith("save") });
  const prepared = agent.actor.post({ kind: "prepare", terms });
  const ended = agent.actor.post({ kind: "end", lease, epoch: 7, reason: "released" });
  await until(() => agent.troubles().length > 0, { timeoutMs: 1_000, what: "a trouble" });
  full = false;
  await Promise.all([prepared, ended]);
  await settle(host, agent, ["ready"]);
  expectProved(host, 7);
  expect(host.told.map(({ state }) => state)).not.toContain("leased");
});

test("L4 T8 a fence that fails is raised until it stands; a full disk of the host counts no try", async () => {
  const host = newHost();
  await makeReady(host);
  let closes = 0;
  let makes = 0;
  const agent = await startAgent(host, {
    fails: (call) =>
      (call === "gate.close" && ++closes <= 8) ||
      (call === "disks.createOverlay" && ++makes <= 8 && "No space left on device"),
  });
  await agent.actor.post({ kind: "prepare", terms });
  await settle(host, agent, ["leased"]);
  await soil(host);
  closes = 0;
  makes = 0;
  await agent.actor.post({ kind: "end", lease, epoch: 7, reason: "released" });
  await settle(host, agent, ["ready"]);
  expectProved(host, 7);
  expect(closes).toBeGreaterThan(8);
  expect(makes).toBeGreaterThan(8);
  expect(host.told.map(({ state }) => state)).not.toContain("quarantined");
});

test("H-8.5 a reset that keeps failing leaves the TE quarantined, without a certificate", async () => {
  const host = newHost();
  await makeReady(host);
  await liveLease(host, { fails: (call) => call === "bridges.remakePrivate" }, false);
  expect(host.record?.phase.state).toBe("quarantined");
  const states = host.told.map(({ state }) => state);
  expect(states.filter((state) => state === "faulty")).toHaveLength(2);
  expect(states.filter((state) => state === "quarantined")).toHaveLength(1);
  expect(states.filter((state) => state === "ready")).toHaveLength(1);
  // an operator orders it back once it is mended
  const agent = await startAgent(host, {});
  await agent.actor.post({ kind: "order-reset" });
  await settle(host, agent, ["ready"]);
  expectProved(host, 7);
});

test("H-8.5 the proof finds what a step left behind", async () => {
  const spoilt: [string, (host: Host) => void][] = [
    ["a port on the bridge", spoilBridge],
    ["an ssh key", (host) => void host.keys.set(1, "old")],
    ["an open connection", (host) => void host.connections.add("ssh")],
    ["a lease", (host) => void host.world.leases.set(parts().seed.spec.nics[0]!.mac, "10.99.0.11")],
    ["an open port", (host) => void (host.world.rules = [seedRule(parts(), ["10.99.0.9"])])],
  ];
  for (const [what, spoil] of spoilt) {
    const host = newHost();
    await makeReady(host);
    // somebody dirties the rack again between the steps and the proof
    const meddle = (call: string): boolean => (call === "gate.facts" && spoil(host), false);
    const late = (call: string): boolean => (call === "bridges.facts" && spoil(host), false);
    const agent = await startAgent(host, { fails: (call) => meddle(call) || late(call) });
    await agent.actor.post({ kind: "order-reset" });
    await settle(host, agent, ["faulty", "quarantined", "ready"]);
    expect(host.told.map(({ detail }) => detail).join(), what).toContain("proof of 1");
    await agent.actor.close();
  }
});

/** Fields of the certificate, and what somebody did past us between the steps and the proof. */
const planted: [string, (host: Host) => void, RegExp][] = [
  ["media", (host) => void (seedOf(host).media = ["/evil.iso"]), /evil\.iso in its drive/],
  ["bootDevice", (host) => spoilBoot(host), /boots from cdrom/],
  ["nvram", (host) => void (seedOf(host).nvram = "/x.fd"), /has an NVRAM/],
  ["definition", (host) => void (seedOf(host).unlike = ["nics"]), /has another nics/],
  ["disks.overlayNew", (host) => oldDisk(host), /is the last lease's/],
  ["disks.base", (host) => spoilDisk(host, { base: "/seed" }), /is not empty/],
  ["disks.overlayBytes", (host) => spoilDisk(host, { bytes: 5e8 }), /has data/],
  ["credentials.sshKeys, probe.oldSshKey", (host) => void host.keys.set(1, "x"), /ssh key is left/],
];
const seedOf = (host: Host) => [...host.world.domains.values()][0]!;
function spoilBoot(host: Host): void {
  Object.assign(seedOf(host), { boot: ["cdrom", "hd"], unlike: ["boot"] });
}
function spoilDisk(host: Host, change: { base?: string; bytes?: number }): void {
  const { path } = parts().seed.disk;
  host.world.disks.set(path, { ...host.world.disks.get(path)!, ...change });
}
let kept: string | undefined;
/** The file of before the reset is put back in the place of the new one. */
function oldDisk(host: Host): void {
  const { path } = parts().seed.disk;
  host.world.disks.set(path, { ...host.world.disks.get(path)!, identity: kept! });
}

test.each(planted)(
  "H-8.2 H-8.5 a planted defect in %s: no certificate is given",
  async (_field, plant, told) => {
    const host = newHost();
    await makeReady(host);
    kept = host.world.disks.get(parts().seed.disk.path)!.identity;
    const late = (call: string): boolean => (
      call === "bridges.remakePrivate done" && plant(host),
      false
    );
    const agent = await startAgent(host, { fails: late });
    await agent.actor.post({ kind: "order-reset" });
    await settle(host, agent, ["faulty", "quarantined", "ready"]);
    expect(stateOf(host)).not.toBe("ready");
    expect(host.told.map(({ detail }) => detail).join()).toMatch(told);
    await agent.actor.close();
  },
);

test("H-8.2 a certificate says what nobody looked at", async () => {
  const host = newHost();
  await makeReady(host);
  const phase = host.record?.phase;
  const certificate = phase?.state === "ready" ? phase.certificate : undefined;
  expect(certificate).toMatchObject({ notChecked: ["probe.login"], media: "empty", nvram: null });
  expect(certificate?.["disks"]).toMatchObject([{ overlayNew: true, base: null }, {}, {}]);
});

function spoilBridge(host: Host): void {
  host.world.bridges.set("brbm1", { exists: true, ports: ["x"], flows: "default", addresses: 0 });
}

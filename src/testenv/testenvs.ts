/**
 * All racks of this host (te-host.md §§1, 6–8, 11, 12): joins records, actors, gate, resets and
 * recorder, answers the broker's messages, and offers its part of a pass. The life itself is
 * life.ts', what a message does to a TE is the table's; here is who calls whom.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { KeyObject } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import type { Endpoint } from "../base/http-client.ts";
import type { Log } from "../base/log.ts";
import type { Troubles } from "../base/troubles.ts";
import { keepConsoleSmall } from "../hypervisor/console-log.ts";
import type { DomainEvent, Hypervisor } from "../hypervisor/hypervisor-port.ts";
import type { ImageStore } from "../image/content-store.ts";
import type { Config } from "../model/config.ts";
import type { TestenvReport } from "../model/testenv.ts";
import type { FromHost } from "../session/session-port.ts";
import type { SshKeyPair } from "../ssh/keys.ts";
import type { Store } from "../store/store.ts";
import { openActor } from "./actor.ts";
import type { ActorWork } from "./actor.ts";
import type { Wanted } from "./carve.ts";
import { openConsoleStreams } from "./recorder/consoles.ts";
import { openGate } from "./gate/gate.ts";
import { followRefusals, openRefusals } from "./gate/refusals.ts";
import { openVerbs } from "./gate/verbs.ts";
import { openUpload } from "./recorder/upload.ts";
import { openKeyPool } from "./key-pool.ts";
import { openLeaseWatch } from "./recorder/lease-watch.ts";
import type { Watched } from "./recorder/lease-watch.ts";
import { openOrders } from "./orders.ts";
import type { Orders, TestenvMessage } from "./orders.ts";
import { newTestenv } from "./testenv-state.ts";
import type { Testenv } from "./testenv-state.ts";
import { accountName, partsOf } from "./parts.ts";
import type { HostGround, TestenvParts } from "./parts.ts";
import { openPower } from "./power.ts";
import { openProvision } from "./provision.ts";
import type { Provision } from "./provision.ts";
import { makeRackFolders, openRack } from "./rack.ts";
import type { RackTools, RuleBook } from "./rack.ts";
import { testenvRecords } from "./record.ts";
import type { RecordedGrant } from "./recorder/recorder.ts";
import { openRecorder } from "./recorder/recorder.ts";
import { openRegistry } from "./registry.ts";
import type { Registry } from "./registry.ts";
import { resetRack } from "./reset.ts";
import { openReports } from "./reports.ts";
import type { Reports } from "./reports.ts";

export type TestenvsOptions = {
  /** `<state>/te`. */
  readonly folder: string;
  readonly binFolder: string;
  readonly hostId: string;
  readonly macKey: string;
  readonly config: Config["teHost"];
  readonly hypervisor: Hypervisor;
  readonly rules: RuleBook;
  readonly images: ImageStore;
  readonly store: Store;
  /** Its monotonic time is the machine's, the same for every agent of one boot. */
  readonly clock: Clock;
  readonly world: string;
  readonly sshHostKey: SshKeyPair;
  readonly certificateKey: KeyObject;
  readonly broker: Endpoint;
  readonly send: (message: FromHost) => void;
  readonly wantPass: () => void;
  readonly troubles: Troubles;
  readonly onCrash: (error: unknown) => void;
  readonly log: Log;
};

export type Testenvs = AsyncDisposable & {
  /** Adopts the record, carves as wanted, and takes up what every TE still needs. */
  start(wanted: readonly Wanted[], newWorld: boolean): Promise<void>;
  /** Resolves when what it asks is recorded. */
  onMessage(message: TestenvMessage): Promise<void>;
  /** What the broker wants of each TE as a session begins. */
  onWelcome: Orders["onWelcome"];
  /** Without a wait: power is told as it was last seen. */
  reports(): TestenvReport[];
  /** Racks that are faulty or quarantined, a sentence each. */
  faults(): string[];
  readonly provision: Provision;
  onDomainEvent(event: DomainEvent): void;
  onAck(mac: string): void;
  /** A login at the gate is really made; throws why there is none. */
  probeGate(signal: AbortSignal): Promise<void>;
  /** A daemon, or this agent, was started again: leased racks may have felt it. */
  onInterruption(code: string, text: string): void;
  /** Digests that a TE's disk stands on: never collected (H-7.7). */
  imagesInUse(): ReadonlySet<string>;
  /** Is a machine of a rack on, and not yet known to be up? (H-17.4) */
  booting(): boolean;
  /** Keeps the consoles of leased machines within their limit (H-11.4). */
  keepConsolesSmall(): Promise<void>;
};

export async function openTestenvs(options: TestenvsOptions): Promise<Testenvs> {
  const { hypervisor, clock, send, troubles, onCrash, log } = options;
  const inner = await openInner(options);
  const { registry, rack, recorder, upload, consoles, watch, gate, records } = inner;
  const reports = openReports({ registry, rack, send, log });
  const orders = openOrders({ registry, rack, recorder, consoles, send, log });
  const work = workOf(options, inner, reports);
  const addActor = (testenv: Testenv): void =>
    registry.add(openActor({ testenv, records, work, clock, troubles, onCrash }));

  async function adopt(wanted: readonly Wanted[], newWorld: boolean): Promise<void> {
    for (const te of await records.all()) addActor(te);
    for (const { number, kind } of wanted) {
      if (registry.actor(number)) continue;
      const te = newTestenv(number, kind);
      await records.save([{ before: null, event: "carved", after: te }]);
      addActor(te);
    }
    if (!newWorld) registry.eachLent((found) => watch.begin(found));
    await gate.setTestenvs(present(registry).map(({ number }) => number));
    for (const actor of registry.actors()) await actor.start(newWorld);
    await carveAgain(new Map(wanted.map(({ number, kind }) => [number, kind])));
  }

  async function carveAgain(kinds: ReadonlyMap<number, string>): Promise<void> {
    for (const actor of registry.actors()) {
      const { number, kind, phase } = actor.testenv;
      const wanted = kinds.get(number);
      const fits = wanted === kind || phase.state === "removed";
      if (wanted !== undefined && fits) await actor.post({ kind: "want", testenvKind: wanted });
      else await actor.post({ kind: "unwant" });
    }
  }

  const provision = openProvision({
    hostId: options.hostId,
    hypervisor,
    rules: options.rules,
    setAccounts: (numbers) => gate.setTestenvs(numbers),
    accounts: cellAccounts,
    testenvs: registry.testenvs,
    partsOf: registry.partsOf,
    post: (number, event) => registry.post(number, event),
  });

  const refusals = openRefusals({
    find: (account) => registry.testenvs().find(({ number }) => accountName(number) === account),
    publicKey: (te) => rack.publicKey(te),
    onFault(te, why) {
      watch.interrupt(registry.watched(te), "gate-refused", why);
      options.wantPass();
    },
    log,
  });
  const closing = new AbortController();
  const sshdLog = hypervisor.daemons.logOf({ name: "sshd" });
  const following = followRefusals(sshdLog, refusals, troubles, closing.signal);

  return {
    provision,
    onMessage: (message) => orders.onMessage(message),
    onWelcome: (wanted) => orders.onWelcome(wanted),
    async start(wanted, newWorld) {
      await adopt(wanted, newWorld);
      await upload.resume();
    },
    reports: () => reports.all(),
    faults: () => reports.faults(),
    onDomainEvent: (event) => registry.eachLent((found) => onDomainEvent(event, found, inner)),
    onAck: (mac) => registry.eachLent((found) => watch.onAck(mac, found)),
    onInterruption: (code, text) =>
      registry.eachLent((found) => watch.interrupt(found, code, text)),
    probeGate: (signal) => gate.probe(signal),
    imagesInUse: () => new Set(registry.testenvs().flatMap(({ seedImage }) => seedImage ?? [])),
    booting: () => watch.booting(),
    keepConsolesSmall: () => keepConsolesSmall(inner),
    async [Symbol.asyncDispose]() {
      closing.abort();
      await following;
      watch.close();
      await Promise.all(registry.actors().map((actor) => actor.close()));
      await consoles[Symbol.asyncDispose]();
      await gate[Symbol.asyncDispose]();
      await upload[Symbol.asyncDispose]();
    },
  };
}

type Inner = Awaited<ReturnType<typeof openInner>>;

/** All that the racks share, opened in order: what stands behind needs what stands before. */
async function openInner(options: TestenvsOptions) {
  const { hypervisor, config, clock, log } = options;
  const folders = foldersIn(options.folder);
  await makeRackFolders(folders);
  const recorder = await openRecorder(folders.recorder, clock);
  const { broker } = options;
  const recorderRoot = folders.recorder;
  const upload = openUpload({ broker, hostName: config.name, recorder, recorderRoot, clock, log });
  const partsOf = partsIn(options);
  const registry: Registry = openRegistry(partsOf, (te) => rack.record(te));
  const power = openPower(hypervisor.domains);
  const watch = openLeaseWatch(clock, options.send);
  const verbs = openVerbs({
    power,
    registry,
    images: options.images,
    domains: hypervisor.domains,
    disks: hypervisor.disks,
    maxVirtualGiB: config.images.maxVirtualGiB,
    told(number, command, answer) {
      const found = registry.find(number);
      if (!found) return;
      watch.tell(registry.watched(found.te), "verb", `${command}: exit ${answer.exitCode}`);
    },
    monoMs: () => clock.monoMs(),
  });
  const gate = await openGate({
    hypervisor,
    address: hypervisor.testNetwork.hostIp,
    port: config.ssh.port,
    hostKey: options.sshHostKey,
    clock,
    binFolder: options.binFolder,
    answer: verbs,
    log,
  });
  const keys = openKeyPool(KEYS_AHEAD);
  const tools: RackTools = {
    hypervisor,
    gate,
    recorder,
    clock,
    partsOf,
    rules: options.rules,
    images: options.images,
    takeKey: () => keys.take(),
    world: options.world,
    host: {
      id: options.hostId,
      name: config.name,
      sshPort: config.ssh.port,
      sshHostKey: options.sshHostKey.publicKey,
    },
    secretsFolder: folders.secrets,
  };
  const rack = openRack(tools);
  const consoles = openConsoleStreams((message) => options.send(message));
  const records = testenvRecords(options.store, () => clock.wallMs());
  const shared = { registry, rack, tools, power, gate, records };
  return { ...shared, recorder, upload, consoles, watch };
}

/** How the effects of a life are done here (actor.ts). */
function workOf(options: TestenvsOptions, inner: Inner, reports: Reports): ActorWork {
  const { rack, tools, recorder, upload, registry, watch } = inner;
  const { certificateKey, clock } = options;
  const filesComplete = (grant: RecordedGrant): Promise<void> => upload.send(grant, clock.wallMs());
  return {
    wantPass: options.wantPass,
    report: (te) => reports.changed(te.number),
    handOver: (te) => watch.begin(registry.watched(te)),
    open: rack.open,
    extend: rack.extend,
    async fence(te) {
      watch.end(te.number);
      await rack.fence(te);
    },
    async reset(te, signal) {
      const all = { ...tools, certificateKey, filesComplete };
      const certificate = await resetRack(all, te, rack.record(te), signal);
      await recorder.prune();
      return certificate;
    },
    remove: rack.remove,
  };
}

/** A machine that the host itself stopped is the host's fault: the rack is lost (H-1.12). */
function onDomainEvent(event: DomainEvent, found: Watched, { watch, registry }: Inner): void {
  watch.onDomainEvent(event, found);
  const machine = found.parts.all.find(({ spec }) => spec.uuid === event.uuid);
  if (!machine || event.what !== "host-killed") return;
  const detail = `${machine.name} was stopped by the host: ${event.detail}`;
  watch.interrupt(found, "machine-stopped", detail, machine.name);
  void registry.post(found.te.number, { kind: "parts-broken", detail });
}

async function keepConsolesSmall({ registry }: Inner): Promise<void> {
  const lent: Watched[] = [];
  registry.eachLent((found) => void lent.push(found));
  for (const { parts, record } of lent) {
    for (const { name, spec } of parts.all) {
      const bytes = await keepConsoleSmall(spec.consoleLog);
      if (bytes > 0) record?.write("console-dropped", { bytes }, name);
    }
  }
}

function present(registry: Registry): Testenv[] {
  return registry.testenvs().filter(({ phase }) => phase.state !== "removed");
}

function foldersIn(folder: string) {
  return {
    secrets: join(folder, "keys"),
    disks: join(folder, "disks"),
    consoles: join(folder, "consoles"),
    recorder: join(folder, "recorder"),
  };
}

/** A kind that the configuration no longer knows is taken down by its parts alone. */
export function partsIn({ hypervisor, hostId, macKey, folder, config }: PartsGround) {
  const { disks, consoles } = foldersIn(folder);
  const ground: HostGround = {
    hostId,
    macKey,
    disksFolder: disks,
    consolesFolder: consoles,
    socketsFolder: consoleSockets,
    mtu: hypervisor.testNetwork.mtu,
    testBridge: hypervisor.testNetwork.bridge,
    seedIp: (number) => hypervisor.testNetwork.seedIp(number),
  };
  const kindOf = (name: string) => config.kinds[name] ?? Object.values(config.kinds)[0]!;
  return (te: Pick<Testenv, "number" | "kind">): TestenvParts =>
    partsOf(ground, te.number, te.kind, kindOf(te.kind));
}
export type PartsGround = Pick<
  TestenvsOptions,
  "hypervisor" | "hostId" | "macKey" | "folder" | "config"
>;

/** Grants that may come at once without waiting for a key (H-6.4). */
const KEYS_AHEAD = 3;
/** In the cell's own /run: a short path, seen by nobody outside. */
export const consoleSockets = "/run/rackyard-console";

/** The TEs that have an account in this cell, whoever made it. */
export function cellAccounts(): number[] {
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  return lines.flatMap((line) => {
    const number = Number(/^te(\d{1,3}):x:62\d{3}:/.exec(line)?.[1] ?? 0);
    return number > 0 && line.startsWith(`${accountName(number)}:`) ? [number] : [];
  });
}

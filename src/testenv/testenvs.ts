/**
 * All racks of this host (te-host.md §§1, 6–8, 11, 12): joins records, actors, gate, resets and
 * recorder, answers the broker's messages, and offers its part of a pass. The life itself is
 * life.ts', what a message does to a TE is the table's; here is who calls whom.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { KeyObject } from "node:crypto";
import { assertNever } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Endpoint } from "../base/http-client.ts";
import type { Log } from "../base/log.ts";
import type { DomainEvent, Hypervisor } from "../hypervisor/hypervisor-port.ts";
import { keepConsoleSmall } from "../hypervisor/console-log.ts";
import type { ImageStore } from "../image/content-store.ts";
import type { Config } from "../model/config.ts";
import type { ToHost } from "../model/session.ts";
import type { TestenvReport } from "../model/testenv.ts";
import type { FromHost } from "../session/session-port.ts";
import type { SshKeyPair } from "../ssh/keys.ts";
import type { Store } from "../store/store.ts";
import { openActor } from "./actor.ts";
import type { Actor, RackWork } from "./actor.ts";
import type { Wanted } from "./carve.ts";
import { openConsoleStreams } from "./consoles.ts";
import { openGate } from "./gate.ts";
import { openVerbs } from "./gate-verbs.ts";
import { openHomecoming } from "./homecoming.ts";
import { openKeyPool } from "./key-pool.ts";
import { openLeaseWatch } from "./lease-watch.ts";
import type { Watched } from "./lease-watch.ts";
import { newTestenv, openTerms } from "./life.ts";
import type { Effect, Terms, Testenv } from "./life.ts";
import { accountName, partsOf } from "./parts.ts";
import type { HostGround, TestenvParts } from "./parts.ts";
import { openPower } from "./power.ts";
import { openProvision } from "./provision.ts";
import type { Provision } from "./provision.ts";
import { makeRackFolders, openRack } from "./rack.ts";
import type { RackTools, RuleBook } from "./rack.ts";
import { openRecorder } from "./recorder.ts";
import { testenvRecords } from "./record.ts";
import { reportOf } from "./report.ts";
import { resetRack } from "./reset.ts";

export type TestenvsOptions = {
  /** `<state>/te`. */
  readonly folder: string;
  readonly binFolder: string;
  readonly hostId: string;
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
  readonly onCrash: (error: unknown) => void;
  readonly log: Log;
};

/** The messages of lease.md §6 that are about racks. */
export type TestenvMessage = Extract<
  ToHost,
  | { kind: "prepare" | "taken" | "end" | "extend" | "drain" | "reset" | "testenv-data" }
  | { kind: "console-open" | "console-credit" | "console-close" }
>;

export type Testenvs = AsyncDisposable & {
  /** Adopts the record, carves as wanted, and takes up what every TE still needs. */
  start(wanted: readonly Wanted[], newWorld: boolean): Promise<void>;
  /** Resolves when what it asks is recorded. */
  onMessage(message: TestenvMessage): Promise<void>;
  reports(): Promise<TestenvReport[]>;
  readonly provision: Provision;
  onDomainEvent(event: DomainEvent): void;
  onAck(mac: string): void;
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
  const { hypervisor, config, clock, log, send } = options;
  const folders = {
    secrets: join(options.folder, "keys"),
    disks: join(options.folder, "disks"),
    consoles: join(options.folder, "consoles"),
    recorder: join(options.folder, "recorder"),
  };
  await makeRackFolders(folders);
  const recorder = await openRecorder(folders.recorder, clock);
  const homecoming = openHomecoming({
    broker: options.broker,
    recorder,
    recorderRoot: folders.recorder,
    clock,
    log,
  });
  const keys = openKeyPool(KEYS_AHEAD);
  const records = testenvRecords(options.store, () => clock.wallMs());
  const actors = new Map<number, Actor>();
  const power = openPower(hypervisor.domains);
  const consoles = openConsoleStreams((message) => send(message));
  const watch = openLeaseWatch(clock, send);
  const ground: HostGround = {
    hostId: options.hostId,
    disksFolder: folders.disks,
    consolesFolder: folders.consoles,
    socketsFolder: CONSOLE_SOCKETS,
    mtu: hypervisor.testNetwork.mtu,
    testBridge: hypervisor.testNetwork.bridge,
    seedIp: (number) => hypervisor.testNetwork.seedIp(number),
  };
  const partsFor = (te: Pick<Testenv, "number" | "kind">): TestenvParts =>
    // a kind that the configuration no longer knows is taken down by its parts alone
    partsOf(ground, te.number, te.kind, config.kinds[te.kind] ?? Object.values(config.kinds)[0]!);
  const find = (number: number): { te: Testenv; parts: TestenvParts } | undefined => {
    const te = actors.get(number)?.testenv;
    return te && { te, parts: partsFor(te) };
  };
  const watched = (te: Testenv): Watched => ({
    te,
    parts: partsFor(te),
    record: rack.record(te),
  });
  const testenvs = (): Testenv[] => [...actors.values()].map((actor) => actor.testenv);

  const each = (act: (found: Watched) => void): void => {
    for (const te of testenvs()) if (openTerms(te)) act(watched(te));
  };

  const verbs = openVerbs({
    power,
    domains: hypervisor.domains,
    disks: hypervisor.disks,
    images: options.images,
    maxVirtualGiB: config.images.maxVirtualGiB,
    testenv: find,
    post: async (number, event) => actors.get(number)?.post(event),
    record: (te) => rack.record(te),
    told(number, command, answer) {
      const found = find(number);
      if (found) watch.tell(watched(found.te), "verb", `${command}: exit ${answer.exitCode}`);
    },
    monoMs: () => clock.monoMs(),
  });
  const gate = await openGate({
    hypervisor,
    address: hypervisor.testNetwork.hostIp,
    port: config.ssh.port,
    hostKey: options.sshHostKey.privateKey,
    binFolder: options.binFolder,
    answer: verbs,
    log,
  });
  const tools: RackTools = {
    hypervisor,
    rules: options.rules,
    gate,
    images: options.images,
    recorder,
    takeKey: () => keys.take(),
    clock,
    world: options.world,
    host: {
      id: options.hostId,
      name: config.name,
      sshPort: config.ssh.port,
      sshHostKey: options.sshHostKey.publicKey,
    },
    secretsFolder: folders.secrets,
    partsOf: partsFor,
  };
  const rack = openRack(tools);
  const filesComplete = (lease: string): Promise<void> => homecoming.send(lease, clock.wallMs());

  const work: RackWork = {
    wantPass: options.wantPass,
    open: (te, terms) => rack.open(te, terms),
    async extend(te, terms, deadline) {
      await rack.extend(te, terms, deadline);
      const { lease, epoch } = terms;
      send({ kind: "extended", ...about(te, epoch), lease, deadlineAt: deadline.at });
    },
    async fence(te) {
      watch.end(te.number);
      await rack.fence(te);
    },
    async reset(te, signal) {
      const parts = { ...tools, certificateKey: options.certificateKey, filesComplete };
      const certificate = await resetRack(parts, te, rack.record(te), signal);
      await recorder.prune();
      return certificate;
    },
    remove: (te) => rack.remove(te),
    tell,
  };

  async function tell(te: Testenv, effect: Parameters<RackWork["tell"]>[1]): Promise<void> {
    switch (effect.kind) {
      case "hand-over":
        return handOver(te, effect);
      case "report":
        if (te.phase.state === "removed")
          return send({ kind: "testenv-removed", testenv: te.number });
        return send({ kind: "testenv", report: await report(te) });
      case "tell-too-low": {
        const { lease, offered, highest } = effect;
        const epochs = { offered: String(offered), highest: String(highest) };
        return send({ kind: "epoch-too-low", testenv: te.number, lease, ...epochs });
      }
      case "tell-resetting": {
        const { terms, epoch, endedAt } = effect;
        const lease = terms?.lease ?? null;
        const reason = toldReason(effect.reason);
        return send({ kind: "resetting", ...about(te, epoch), lease, reason, endedAt });
      }
      case "tell-ready": {
        const { certificate } = effect;
        return send({ kind: "ready", ...about(te, certificate.epoch), certificate });
      }
      case "tell-faulty": {
        const { lease, epoch, detail } = effect;
        log.warn({ testenv: te.number, detail }, "the TE is faulty");
        return send({ kind: "faulty", ...about(te, epoch), lease, detail });
      }
      default:
        return assertNever(effect, "effect");
    }
  }

  async function handOver(te: Testenv, effect: Extract<Effect, { kind: "hand-over" }>) {
    const { terms, deadline } = effect;
    const data = await rack.data(te);
    if (!data) return; // fenced meanwhile
    watch.begin(watched(te));
    const { lease, epoch } = terms;
    send({ kind: "prepared", ...about(te, epoch), lease, deadlineAt: deadline.at, data });
  }

  const report = async (te: Testenv): Promise<TestenvReport> => {
    const on = await power.running(partsFor(te)).catch(() => undefined);
    return reportOf(te, partsFor(te), on);
  };

  function addActor(testenv: Testenv): Actor {
    const { onCrash } = options;
    const actor = openActor({ testenv, records, work, clock, onCrash });
    actors.set(testenv.number, actor);
    return actor;
  }

  async function adopt(wanted: readonly Wanted[], newWorld: boolean): Promise<void> {
    for (const te of await records.all()) addActor(te);
    const kinds = new Map(wanted.map(({ number, kind }) => [number, kind]));
    for (const [number, kind] of kinds) {
      if (actors.has(number)) continue;
      const te = newTestenv(number, kind);
      await records.save(null, "carved", te);
      addActor(te);
    }
    for (const { number, kind, phase } of testenvs()) {
      if (phase.state === "removed") continue;
      if (openTerms({ ...newTestenv(number, kind), phase }) && !newWorld) {
        watch.begin(watched(actors.get(number)!.testenv));
      }
    }
    await gate.setTestenvs(
      testenvs().flatMap(({ number, phase }) => (phase.state === "removed" ? [] : [number])),
    );
    for (const actor of actors.values()) await actor.start(newWorld);
    await carveAgain(kinds);
  }

  async function carveAgain(kinds: ReadonlyMap<number, string>): Promise<void> {
    for (const actor of actors.values()) {
      const { number, kind, phase } = actor.testenv;
      const wantedKind = kinds.get(number);
      const fits = wantedKind === kind || phase.state === "removed";
      if (wantedKind !== undefined && fits) {
        await actor.post({ kind: "want", testenvKind: wantedKind });
      } else await actor.post({ kind: "unwant" });
    }
  }

  async function onMessage(message: TestenvMessage): Promise<void> {
    switch (message.kind) {
      case "prepare": {
        const terms = termsOf(message);
        const actor = actors.get(message.testenv);
        if (actor) return actor.post({ kind: "prepare", terms });
        const detail = `this host has no TE ${message.testenv}`;
        const { testenv, lease, epoch } = message;
        return send({ kind: "faulty", testenv, lease, epoch, detail });
      }
      case "taken":
        each(({ te, record }) => {
          if (te.number === message.testenv) record?.write("taken", {});
        });
        return undefined;
      case "end": {
        const { lease, reason } = message;
        const event = { kind: "end" as const, lease, epoch: Number(message.epoch), reason };
        return actors.get(message.testenv)?.post(event);
      }
      case "extend": {
        const { lease, durationMs } = message;
        const event = { kind: "extend" as const, lease, epoch: Number(message.epoch), durationMs };
        return actors.get(message.testenv)?.post(event);
      }
      case "drain": {
        const some = message.testenv === null ? actors.keys() : [message.testenv];
        for (const number of some) {
          await actors.get(number)?.post({ kind: "drain", on: message.on });
        }
        return undefined;
      }
      case "reset":
        return actors.get(message.testenv)?.post({ kind: "order-reset" });
      case "testenv-data":
        return answerData(message);
      case "console-open": {
        const { stream, fromByte, credit } = message;
        return consoles.open({ stream, fromByte, credit, file: consoleFile(message) });
      }
      case "console-credit":
        return consoles.credit(message.stream, message.credit);
      case "console-close":
        return consoles.close(message.stream);
      default:
        return assertNever(message, "message");
    }
  }

  async function answerData(message: Extract<TestenvMessage, { kind: "testenv-data" }>) {
    const te = actors.get(message.testenv)?.testenv;
    const terms = te && openTerms(te);
    const own = terms?.lease === message.lease && String(terms.epoch) === message.epoch;
    const data = te && own ? ((await rack.data(te)) ?? null) : null;
    const { request } = message;
    const refusal = { code: "lease-over", detail: "the lease is not this one" };
    send({
      kind: "answer",
      request,
      data,
      ...(data === null ? refusal : { code: null, detail: null }),
    });
  }

  function consoleFile(message: Extract<TestenvMessage, { kind: "console-open" }>) {
    const found = find(message.testenv);
    const machine = found?.parts.all.find(({ name }) => name === message.machine);
    if (!found || !machine) return undefined;
    const present = openTerms(found.te)?.lease;
    if (message.lease === null || message.lease === present) {
      return { path: machine.spec.consoleLog, live: true };
    }
    const path = join(recorder.folder(message.lease), `console-${machine.name}.log`);
    return { path, live: false };
  }

  const provision = openProvision({
    hostId: options.hostId,
    hypervisor,
    rules: options.rules,
    setAccounts: (numbers) => gate.setTestenvs(numbers),
    accounts: cellAccounts,
    testenvs,
    partsOf: partsFor,
    post: async (number, event) => actors.get(number)?.post(event),
  });
  return {
    provision,
    onMessage,
    async start(wanted, newWorld) {
      await adopt(wanted, newWorld);
      await homecoming.resume();
    },
    reports: () =>
      Promise.all(testenvs().flatMap((te) => (te.phase.state === "removed" ? [] : [report(te)]))),
    onDomainEvent: (event) =>
      each((found) => {
        watch.onDomainEvent(event, found);
        const machine = found.parts.all.find(({ spec }) => spec.uuid === event.uuid);
        if (!machine || event.what !== "host-killed") return;
        const text = `${machine.name} was stopped by the host: ${event.detail}`;
        watch.interrupt(found, "machine-stopped", text, machine.name);
        const broken = { kind: "parts-broken" as const, detail: text };
        void actors.get(found.te.number)?.post(broken);
      }),
    onAck: (mac) => each((found) => watch.onAck(mac, found)),
    onInterruption: (code, text) => each((found) => watch.interrupt(found, code, text)),
    imagesInUse: () =>
      new Set(testenvs().flatMap(({ seedImage }) => (seedImage === null ? [] : [seedImage]))),
    booting: () => watch.booting(),
    async keepConsolesSmall() {
      for (const te of testenvs()) {
        if (!openTerms(te)) continue;
        for (const { name, spec } of partsFor(te).all) {
          const dropped = await keepConsoleSmall(spec.consoleLog);
          if (dropped > 0) rack.record(te)?.write("console-dropped", { bytes: dropped }, name);
        }
      }
    },
    async [Symbol.asyncDispose]() {
      watch.close();
      await Promise.all([...actors.values()].map((actor) => actor.close()));
      await consoles[Symbol.asyncDispose]();
      await gate[Symbol.asyncDispose]();
      await homecoming[Symbol.asyncDispose]();
    },
  };
}

/** Grants that may come at once without waiting for a key (H-6.4). */
const KEYS_AHEAD = 3;
/** In the cell's own /run: a short path, seen by nobody outside. */
const CONSOLE_SOCKETS = "/run/rackyard-console";

function about(te: Testenv, epoch: number): { testenv: number; epoch: string } {
  return { testenv: te.number, epoch: String(epoch) };
}

/** The broker knows reasons of leases; a reset of the host's own is none's fault. */
function toldReason(reason: Extract<Effect, { kind: "tell-resetting" }>["reason"]) {
  const own = reason === "provisioned" || reason === "repaired" || reason === "ordered";
  return own ? ("released" as const) : reason;
}

function termsOf(message: Extract<ToHost, { kind: "prepare" }>): Terms {
  const { lease, durationMs, holderName, holderAddresses, tokenHash, needs } = message;
  const epoch = Number(message.epoch);
  return { lease, epoch, durationMs, holderName, holderAddresses, tokenHash, compat: needs.compat };
}

/** The TEs that have an account in this cell, whoever made it. */
export function cellAccounts(): number[] {
  const lines = readFileSync("/etc/passwd", "utf8").split("\n");
  return lines.flatMap((line) => {
    const number = Number(/^te(\d{1,3}):x:62\d{3}:/.exec(line)?.[1] ?? 0);
    return number > 0 && line.startsWith(`${accountName(number)}:`) ? [number] : [];
  });
}

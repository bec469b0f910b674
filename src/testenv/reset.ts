/**
 * Steps 2–7 of a reset (te-host.md §8), each with its check, and the certificate of the proof.
 * Every step may run twice; after a crash the whole begins again. The proof looks at everything
 * afresh; what it finds wrong is thrown, and no part of a certificate is ever given (H-8.5).
 */
import { createHash } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { copyFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { isoTime } from "../base/clock.ts";
import { describeError, fail, RackyardError } from "../base/errors.ts";
import { isNoSpace, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import { signCertificate } from "../model/certificate.ts";
import type { DomainSpec } from "../hypervisor/hypervisor-port.ts";
import type { Certificate } from "../model/testenv.ts";
import type { Testenv } from "./testenv-state.ts";
import type { TestenvParts } from "./parts.ts";
import { seedRule } from "./parts.ts";
import type { RackTools } from "./rack.ts";
import type { LeaseRecord, RecordedGrant } from "./recorder/recorder.ts";

export type ResetTools = RackTools & {
  readonly certificateKey: KeyObject;
  /** The machines are off and their consoles whole: the lease's files may go home. */
  readonly filesComplete: (grant: RecordedGrant) => Promise<void>;
};

type Destroyed = { readonly domain: string; readonly wasRunning: boolean };

/**
 * Runs all steps; `record` is the ended lease's time line. Throws what failed; `no-space` where
 * the host's disk is full, which is no fault of the rack's.
 */
export async function resetRack(
  tools: ResetTools,
  te: Testenv,
  record: LeaseRecord | undefined,
  signal: AbortSignal,
): Promise<Certificate> {
  try {
    return await runReset(tools, te, record, signal);
  } catch (error) {
    if (!isNoSpace(error)) throw error;
    throw new RackyardError("no-space", describeError(error), { cause: error });
  }
}

async function runReset(
  tools: ResetTools,
  te: Testenv,
  record: LeaseRecord | undefined,
  signal: AbortSignal,
): Promise<Certificate> {
  const { clock } = tools;
  const parts = tools.partsOf(te);
  const beganMono = clock.monoMs();
  const began = isoTime(clock.wallMs());
  const timed = async <T>(step: string, run: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    const from = clock.monoMs();
    const value = await run();
    record?.write("reset-step", { step, ms: Math.round(clock.monoMs() - from) });
    return value;
  };
  const destroyed = await timed("stop", () => stop(tools, te, parts));
  await timed("consoles", () => cutConsoles(parts, record));
  if (record) await tools.filesComplete(record.grant);
  const before = await identities(tools, parts);
  await timed("wipe", () => wipe(tools, parts));
  await timed("network", () => remakeNetwork(tools, parts));
  const proof = await timed("proof", () => prove(tools, te, parts, before));
  const phase = te.phase.state === "resetting" ? te.phase : undefined;
  const certificate = signCertificate(
    {
      schema: "reset/1" as const,
      host: tools.host.name,
      te: te.number,
      epoch: te.epoch,
      lease: phase?.terms?.lease ?? null,
      reason: phase?.reason ?? "ordered",
      began,
      ended: isoTime(clock.wallMs()),
      destroyed,
      ...proof,
      durationMs: Math.round(clock.monoMs() - beganMono),
    },
    tools.certificateKey,
  );
  if (record) {
    const text = `${JSON.stringify(certificate, undefined, 1)}\n`;
    // The certificate itself goes with the report; without its file the evidence lacks a page.
    await writeFileAtomic(join(record.folder, "certificate.json"), text, 0o600).catch(
      (error: unknown) => record.write("certificate-file", { why: describeError(error) }),
    );
    record.write("certificate", { epoch: te.epoch, durationMs: certificate.durationMs });
    await tools.filesComplete(record.grant);
  }
  return certificate;
}

/** Step 2: no command is under way, all domains are off, no QEMU of theirs is left. */
async function stop(tools: ResetTools, te: Testenv, parts: TestenvParts): Promise<Destroyed[]> {
  const { domains } = tools.hypervisor;
  await tools.gate.settled(te.number);
  const known = new Set((await domains.list()).map((domain) => domain.uuid));
  return Promise.all(
    parts.all.map(async ({ spec }) => {
      const wasRunning = known.has(spec.uuid) && (await domains.destroy(spec.uuid)) === "destroyed";
      await until(async () => (await domains.processesOf(spec.uuid)).length === 0, {
        timeoutMs: limits.virshActMs,
        everyMs: 20,
        what: `the process of ${spec.name} to end`,
      });
      return { domain: spec.name, wasRunning };
    }),
  );
}

/** The consoles of this lease become its files; the next one's begin empty. */
async function cutConsoles(parts: TestenvParts, record: LeaseRecord | undefined): Promise<void> {
  for (const { name, spec } of parts.all) {
    if (record) await moveIfAny(spec.consoleLog, join(record.folder, `console-${name}.log`));
    await rm(spec.consoleLog, { force: true });
  }
}

async function moveIfAny(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EXDEV") await copyFile(from, to);
    else if (code !== "ENOENT") throw error;
  }
}

/** Which files the disks are; what is new is none of them. */
async function identities(tools: ResetTools, parts: TestenvParts): Promise<ReadonlySet<string>> {
  const { disks } = tools.hypervisor;
  const found = await Promise.all(parts.all.map(({ disk }) => disks.facts(disk.path)));
  return new Set(found.flatMap((facts) => facts?.identity ?? []));
}

/** Step 3: fresh overlays, and definitions as planned. */
async function wipe(tools: ResetTools, parts: TestenvParts): Promise<void> {
  const { domains, disks } = tools.hypervisor;
  const defined = new Map((await domains.list()).map((domain) => [domain.uuid, domain.plan]));
  const asPlanned = async (spec: DomainSpec): Promise<boolean> =>
    defined.get(spec.uuid) === domains.digest(spec) &&
    (await domains.look(spec)).unlike.length === 0;
  await Promise.all(
    parts.all.map(async ({ spec, disk }) => {
      // What a tenant filled the host's disk with goes first, or there is no room for the new one.
      await disks.remove(disk.path);
      await disks.createOverlay({ ...disk, base: null });
      if (!(await asPlanned(spec))) await domains.define(spec);
    }),
  );
}

/** Step 4: the private bridge is made anew, the seed's DHCP lease released. */
async function remakeNetwork(tools: ResetTools, parts: TestenvParts): Promise<void> {
  const { bridges, testNetwork } = tools.hypervisor;
  const seedMac = parts.seed.spec.nics[0]!.mac;
  await Promise.all([
    bridges.remakePrivate(parts.bridge),
    testNetwork.reserve(seedMac, parts.seedIp, parts.seed.name),
    testNetwork.releaseLease(seedMac),
    tools.rules.set(seedRule(parts, [])),
  ]);
}

/**
 * Steps 6 and 7: each item looked at afresh; throws what is not as it must be. What is attested was
 * seen; what nobody looked at is named under `notChecked`. `before`: the disks of the last lease.
 */
async function prove(
  tools: ResetTools,
  te: Testenv,
  parts: TestenvParts,
  before: ReadonlySet<string>,
): Promise<object> {
  const { bridges, testNetwork, portRules } = tools.hypervisor;
  const wrong: string[] = [];
  const holds = (condition: boolean, what: string): boolean => {
    if (!condition) wrong.push(what);
    return condition;
  };
  const machines = await proveMachines(tools, parts, before, holds);
  let { processes } = machines;
  const bridge = await bridges.facts(parts.bridge);
  holds(bridge.exists && bridge.ports.length === 0, `${parts.bridge} has ports`);
  holds(bridge.flows === "default", `${parts.bridge} has flows`);
  holds(bridge.addresses === 0, `${parts.bridge} has addresses`);
  const seedNic = parts.seed.spec.nics[0]!;
  const leases = (await testNetwork.leases()).filter(({ mac }) => mac === seedNic.mac);
  holds(leases.length === 0, "the seed has a DHCP lease");
  const rules = (await portRules.current()).filter(({ tap }) => tap === seedNic.tap);
  const open = rules.flatMap((rule) => (rule.kind === "seed" ? rule.open : []));
  holds(open.length === 0, "the seed's port is open to a holder");
  const gate = await tools.gate.facts(te.number);
  processes += gate.processes;
  holds(processes === 0, `${processes} processes are left`);
  holds(gate.sshKeys === 0, "an ssh key is left");
  holds(gate.openConnections === 0, "a connection to the gate is open");
  if (wrong.length > 0) fail("command-failed", `proof of ${te.number}: ${wrong.join("; ")}`);
  return {
    disks: machines.disks,
    nvram: machines.nvram,
    bootDevice: "plan",
    definition: `sha256:${machines.definition}`,
    media: "empty",
    bridges: [{ name: parts.bridge, ports: 0, flows: "default", addresses: 0 }],
    processes,
    dhcpLeases: leases.length,
    credentials: {
      sshKeys: gate.sshKeys,
      principals: null,
      bmcUsers: null,
      tokens: null,
      openConnections: gate.openConnections,
    },
    probe: {
      oldBmcUser: null,
      oldToken: null,
      oldSshKey: gate.sshKeys === 0 ? "absent" : "present",
    },
    // nobody tried to log in with the old key: that its line is gone was seen
    notChecked: ["probe.login"],
  };
}

type Holds = (condition: boolean, what: string) => boolean;

/** Domains as they are defined, their disks and processes. */
async function proveMachines(
  tools: ResetTools,
  parts: TestenvParts,
  before: ReadonlySet<string>,
  holds: Holds,
): Promise<{ processes: number; disks: object[]; definition: string; nvram: string | null }> {
  const { domains, disks } = tools.hypervisor;
  const found = new Map((await domains.list()).map((domain) => [domain.uuid, domain]));
  const definitions = [];
  const proved = [];
  const nvrams = [];
  let processes = 0;
  for (const { spec, disk } of parts.all) {
    const domain = found.get(spec.uuid);
    if (!holds(domain !== undefined, `${spec.name} is not defined`)) continue;
    holds(domain?.power === "off", `${spec.name} is ${domain?.power}`);
    holds(domain?.plan === domains.digest(spec), `${spec.name} is not defined as planned`);
    const look = await domains.look(spec);
    definitions.push(look.definition);
    holds(look.media.length === 0, `${spec.name} has ${look.media.join(", ")} in its drive`);
    holds(look.nvram === null, `${spec.name} has an NVRAM`);
    if (look.nvram !== null) nvrams.push(look.nvram);
    holds(!look.unlike.includes("boot"), `${spec.name} boots from ${look.boot.join(", ")}`);
    holds(look.unlike.length === 0, `${spec.name} has another ${look.unlike.join(", ")}`);
    processes += (await domains.processesOf(spec.uuid)).length;
    const facts = await disks.facts(disk.path);
    holds(facts !== null && facts.base === null, `the disk of ${spec.name} is not empty`);
    holds((facts?.bytes ?? 0) <= limits.emptyDiskBytes, `the disk of ${spec.name} has data`);
    const overlayNew = facts !== null && !before.has(facts.identity);
    holds(overlayNew, `the disk of ${spec.name} is the last lease's`);
    const overlayBytes = facts?.bytes ?? 0;
    proved.push({ domain: spec.name, base: facts?.base ?? null, overlayNew, overlayBytes });
  }
  const definition = createHash("sha256").update(definitions.join("\n")).digest("hex");
  return { processes, disks: proved, definition, nvram: nvrams[0] ?? null };
}

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
  await timed("wipe", () => wipe(tools, parts));
  await timed("network", () => remakeNetwork(tools, parts));
  const proof = await timed("proof", () => prove(tools, te, parts));
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

/** Step 3: fresh overlays, and definitions as planned. */
async function wipe(tools: ResetTools, parts: TestenvParts): Promise<void> {
  const { domains, disks } = tools.hypervisor;
  const defined = new Map((await domains.list()).map((domain) => [domain.uuid, domain.plan]));
  await Promise.all(
    parts.all.map(async ({ spec, disk }) => {
      // What a tenant filled the host's disk with goes first, or there is no room for the new one.
      await disks.remove(disk.path);
      await disks.createOverlay({ ...disk, base: null });
      if (defined.get(spec.uuid) !== domains.digest(spec)) await domains.define(spec);
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

/** Steps 6 and 7: each item looked at afresh; throws what is not as it must be. */
async function prove(tools: ResetTools, te: Testenv, parts: TestenvParts): Promise<object> {
  const { domains, disks, bridges, testNetwork, portRules } = tools.hypervisor;
  const wrong: string[] = [];
  const holds = (condition: boolean, what: string): void => {
    if (!condition) wrong.push(what);
  };
  const found = new Map((await domains.list()).map((domain) => [domain.uuid, domain]));
  let processes = 0;
  const proved = [];
  for (const { spec, disk } of parts.all) {
    const domain = found.get(spec.uuid);
    holds(domain !== undefined, `${spec.name} is not defined`);
    holds(domain?.power === "off", `${spec.name} is ${domain?.power}`);
    holds(domain?.plan === domains.digest(spec), `${spec.name} is not defined as planned`);
    processes += (await domains.processesOf(spec.uuid)).length;
    const facts = await disks.facts(disk.path);
    holds(facts !== null && facts.base === null, `the disk of ${spec.name} is not empty`);
    holds((facts?.bytes ?? 0) <= limits.emptyDiskBytes, `the disk of ${spec.name} has data`);
    proved.push({
      domain: spec.name,
      base: null,
      overlayNew: true,
      overlayBytes: facts?.bytes ?? 0,
    });
  }
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
  const digests = parts.all.map(({ spec }) => domains.digest(spec)).join("\n");
  return {
    disks: proved,
    nvram: null,
    bootDevice: "plan",
    definition: `sha256:${createHash("sha256").update(digests).digest("hex")}`,
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
    probe: { oldBmcUser: null, oldToken: null, oldSshKey: "absent" },
  };
}

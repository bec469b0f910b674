/**
 * A rack lent and taken back on real parts: the te-host program in its cell, real sshd, libvirt
 * and Open vSwitch, an emulated seed, and a broker that the test plays. Must-hold rows 6–8 of
 * the rack's side: the agent killed under a lease, a dead lease's key, a stale epoch.
 */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, run } from "../../src/base/command.ts";
import type { Child, CommandResult } from "../../src/base/command.ts";
import { systemRandom } from "../../src/base/random.ts";
import { until } from "../../src/base/wait.ts";
import { verifyCertificate } from "../../src/model/certificate.ts";
import { processesWith } from "../../src/hypervisor/process-scan.ts";
import type { Wanted } from "../../src/model/session.ts";
import type { Certificate, TestenvData } from "../../src/model/testenv.ts";
import { sshArgs, writeKnownHosts } from "../../src/ssh/client.ts";
import type { SshTarget } from "../../src/ssh/client.ts";
import { guestMark, prepareGuest } from "./guest.ts";
import type { Guest } from "./guest.ts";
import { makeTestHost, playBroker } from "./te-host-process.ts";
import type { PlayedBroker, TestHost } from "./te-host-process.ts";

let host: TestHost;
let broker: PlayedBroker;
let agent: Child;
let guest: Guest;
let epoch = 0;
beforeAll(async () => {
  guest = await prepareGuest();
  host = await makeTestHost({ accelerator: "tcg", kinds: { two: { count: 1 } } });
  broker = await playBroker(host.socket);
  agent = await host.start();
  await broker.reported("ready", undefined, 120_000);
});
afterAll(async () => {
  await broker?.[Symbol.asyncDispose]();
  await host?.[Symbol.asyncDispose]();
});

type Lease = {
  readonly id: string;
  readonly epoch: number;
  readonly data: TestenvData;
  readonly target: SshTarget;
  readonly preparedMs: number;
  readonly deadlineAt: string;
};

type Offer = NonNullable<Wanted["lease"]>;
function want(lease: Wanted["lease"], ended: Wanted["ended"] = null): void {
  const wanted = { testenv: 1, epoch: "0", draining: false, lease, ended };
  broker.send({ kind: "wanted", wanted });
}

function offer(of: Pick<Offer, "id" | "epoch" | "durationMs">): void {
  const needs = { machines: 2, compat: "2014" as const };
  want({ ...of, needs, holderName: "test", holderAddresses: [], tokenHash: "" });
}

/** What the rack was last told to be. */
function atRest(): boolean {
  const told = broker.messages.findLast((message) => message.kind === "testenv");
  const report = told?.kind === "testenv" ? told.report : broker.hello?.testenvs[0];
  return report?.state === "ready";
}

async function lend(durationMs = 3_600_000): Promise<Lease> {
  const id = systemRandom.uuid4();
  const own = ++epoch;
  // a test that failed before this one may have left it lent, or in its reset
  if (!atRest()) want(null);
  await until(() => atRest(), { timeoutMs: 60_000, what: "the rack to be clean" });
  broker.forget();
  const began = performance.now();
  offer({ id, epoch: String(own), durationMs });
  const { data, report } = await broker.reported("leased");
  const deadlineAt = report.deadlineAt!;
  if (data === null) throw new Error("leased without its data");
  const preparedMs = performance.now() - began;
  const identityFile = join(host.state, `${id}.key`);
  const knownHostsFile = join(host.state, `${id}.hosts`);
  await writeFile(identityFile, data["ssh-key"], { mode: 0o600 });
  const hostIp = data["host-ip"];
  await writeKnownHosts(knownHostsFile, { host: hostIp }, String(data["ssh-host-key"]));
  const target = { host: hostIp, user: data["ssh-user"], identityFile, knownHostsFile };
  return { id, epoch: own, data, target, preparedMs, deadlineAt };
}

function end(lease: Lease): void {
  want(null, { lease: lease.id, epoch: String(lease.epoch), reason: "released" });
}

async function proved(timeoutMs?: number): Promise<Certificate> {
  const { report } = await broker.reported("ready", undefined, timeoutMs);
  return report.certificate!;
}

async function giveBack(lease: Lease): Promise<void> {
  broker.forget();
  end(lease);
  const certificate = await proved();
  expect(certificate.epoch).toBe(lease.epoch);
  expect(certificate.lease).toBe(lease.id);
  expect(verifyCertificate(certificate, broker.hello!.certificateKey)).toBe(true);
}

const gate = (lease: Lease, command: string): Promise<CommandResult> =>
  run("ssh", sshArgs(lease.target, command), { accept: "any", timeoutMs: 60_000 });

/** `copyseed` with the file; gives the exit code. */
async function copySeed(lease: Lease, file: string): Promise<number | null> {
  const child = launch("ssh", sshArgs(lease.target, "copyseed 1"), {
    stdio: ["pipe", "ignore", "inherit"],
  });
  child.stdin!.on("error", () => undefined); // what is refused is not read to its end
  createReadStream(file).pipe(child.stdin!);
  return (await child.exited).code;
}

test("H-1.14 H-6.4 a grant takes no longer than 300 ms; its key opens the gate, and no more", async () => {
  const lease = await lend();
  expect(lease.preparedMs).toBeLessThan(1_000); // 300 ms on an idle machine
  expect(lease.data["ssh-key"]).toMatch(/^-----BEGIN RSA PRIVATE KEY-----/);
  const list = await gate(lease, "virsh list --all");
  expect(list.stdout).toContain("baremetalbrbm1_1");
  expect(await gate(lease, "id")).toMatchObject({ exitCode: 1, stderr: "Unknown command\n" });
  expect((await gate(lease, "virsh start seed_2")).exitCode).toBe(1);
  expect((await gate(lease, "virsh list\n")).stderr).toBe("Unknown command\n");
  const shell = await run("ssh", sshArgs(lease.target), { accept: "any", stdin: "id\n" });
  expect(shell).toMatchObject({ exitCode: 1, stdout: "" });
  await giveBack(lease);
});

test("H-6.1 H-6.2 H-6.3 an sshd of our own, and no shell behind it: no words, no subsystem, no tunnel", async () => {
  const lease = await lend();
  const outcome = (words: readonly string[]): Promise<CommandResult> =>
    run("ssh", words, { accept: "any", timeoutMs: 60_000 });
  // its host key is the one of the TE data, its account the TE's
  expect((await gate(lease, "virsh list")).exitCode).toBe(0);
  const stranger = { ...lease.target, user: "root" };
  expect((await outcome(sshArgs(stranger, "virsh list"))).exitCode).toBe(255);
  for (const words of [
    "virsh list; id",
    "virsh list && id",
    "virsh list | cat",
    "$(id)",
    "`id`",
    "virsh list > /tmp/x",
    "sh -c id",
    "te-shell --lease x --epoch 1",
    "/bin/sh",
  ]) {
    expect(await gate(lease, words), words).toMatchObject({
      exitCode: 1,
      stdout: "",
      stderr: "Unknown command\n",
    });
  }
  const sftp = await outcome(["-s", ...sshArgs(lease.target, "sftp")]);
  expect(sftp.exitCode).not.toBe(0);
  expect(sftp.stdout).toBe("");
  const tunnel = await outcome(["-W", "127.0.0.1:22", ...sshArgs(lease.target)]);
  expect(tunnel.exitCode).toBe(255);
  expect(tunnel.stdout).toBe("");
  await giveBack(lease);
});

test("H-7.4 H-7.5 H-11.2 copyseed takes a bootable image, and refuses what is dangerous", async () => {
  const lease = await lend();
  const evil = join(host.state, "evil.qcow2");
  await run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", guest.disk, evil]);
  expect(await copySeed(lease, evil)).toBe(1);
  expect(await copySeed(lease, guest.disk)).toBe(0);
  expect((await gate(lease, "virsh start seed_1")).stdout).toContain("Domain seed_1 started");
  expect((await gate(lease, "virsh start seed_1")).exitCode).toBe(1);
  expect(await copySeed(lease, guest.disk)).toBe(1); // it runs
  await broker.heard("event", (event) => event.what === "seed-up", 60_000);
  await until(() => consoleText().then((text) => text.includes(guestMark)), {
    timeoutMs: 60_000,
    what: "the seed's mark in its console",
  });
  expect((await gate(lease, "virsh start baremetalbrbm1_0")).exitCode).toBe(0);
  await broker.heard("event", (event) => event.what === "power-on" && event.machine === "te1-n0");
  await giveBack(lease);
  await until(() => broker.files.has(`${lease.id}/certificate.json`), {
    timeoutMs: 10_000,
    what: "the certificate to come home",
  });
  expect(broker.files.get(`${lease.id}/console-te1-seed.log`)).toContain(guestMark);
  const kinds = (broker.files.get(`${lease.id}/timeline.jsonl`) ?? "")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { kind: string }).kind);
  for (const kind of ["prepare", "verb", "power", "dhcp", "mark", "fence", "reset-step"]) {
    expect(kinds).toContain(kind);
  }
});

async function consoleText(): Promise<string> {
  const stream = systemRandom.uuid4();
  broker.forget();
  broker.send({
    kind: "console-open",
    stream,
    testenv: 1,
    machine: "te1-seed",
    fromByte: 0,
    lease: null,
    epoch: null,
    credit: 262_144,
  });
  const piece = await broker.heard("console-data", (message) => message.stream === stream);
  broker.send({ kind: "console-close", stream });
  return Buffer.from(piece.dataBase64, "base64").toString("latin1");
}

test("L4 H-6.8 at the end an open copyseed is cut and the key refused, within a second", async () => {
  const lease = await lend();
  const copy = launch("ssh", sshArgs(lease.target, "copyseed 1"), {
    stdio: ["pipe", "ignore", "ignore"],
  });
  copy.stdin!.on("error", () => undefined);
  // more than pipes and ssh's window hold: when it is gone the agent is taking it
  copy.stdin!.write(Buffer.alloc(8_000_000, 1));
  await once(copy.stdin!, "drain", { signal: AbortSignal.timeout(60_000) });
  expect((await gate(lease, "copyseed 1")).stderr).toContain("another copyseed");
  broker.forget();
  const began = performance.now();
  end(lease);
  await broker.reported("resetting", ({ ended }) => ended?.fencedAt != null);
  const fencedMs = performance.now() - began;
  const late = await gate(lease, "virsh start seed_1");
  expect(late.exitCode).toBe(255);
  expect(late.stderr).toContain("Permission denied");
  expect((await copy.exited).code).toBe(255);
  expect(fencedMs).toBeLessThan(1_000);
  await broker.reported("ready");
  // the next lease's key is another; the old one still opens nothing
  const next = await lend();
  expect((await gate(lease, "virsh list")).exitCode).toBe(255);
  expect((await gate(next, "virsh list")).exitCode).toBe(0);
  await giveBack(next);
});

test("L2 L3 an epoch that the host has seen moves nothing, and is answered with the highest", async () => {
  await until(() => atRest(), { timeoutMs: 60_000, what: "the rack to be clean" });
  broker.forget();
  offer({ id: systemRandom.uuid4(), epoch: String(epoch), durationMs: 1_000 });
  const { report } = await broker.reported("ready");
  expect(report).toMatchObject({ epoch: String(epoch), lease: null });
});

test("L2 L5 a record of yesterday: told the epoch that it forgot, the rack proves itself for it", async () => {
  await until(() => atRest(), { timeoutMs: 60_000, what: "the rack to be clean" });
  broker.forget();
  epoch += 5;
  const wanted = { testenv: 1, epoch: String(epoch), draining: true, lease: null, ended: null };
  broker.send({ kind: "wanted", wanted });
  expect(await proved()).toMatchObject({ epoch, lease: null, reason: "repaired" });
  // and a drain flag that is told is kept, until another is told
  await broker.reported("ready", (report) => report.draining);
  broker.forget();
  want(null);
  await broker.reported("ready", (report) => !report.draining);
});

test("H-1.11 H-1.1 H-6.5 the agent killed under a lease: back in 2 s, lease, machines, key live on", async () => {
  const lease = await lend();
  expect(await copySeed(lease, guest.disk)).toBe(0);
  await gate(lease, "virsh start seed_1");
  const before = await run("virsh", ["-q", "-c", broker.hello!.libvirt!, "domid", "seed_1"]);
  broker.forget();
  const session = broker.hello!.sessionNumber;
  process.kill(agent.pid, "SIGKILL");
  await agent.exited;
  const began = performance.now();
  agent = await host.start();
  // a verb that comes while it is away waits for it
  const verb = await gate(lease, "virsh list");
  expect(verb.stdout).toContain("seed_1");
  await until(() => broker.hello!.sessionNumber > session, { timeoutMs: 20_000, what: "hello" });
  expect(performance.now() - began).toBeLessThan(10_000); // 2 s on an idle machine
  expect(broker.hello!.testenvs[0]).toMatchObject({ state: "leased", lease: lease.id });
  await broker.heard("event", (event) => event.interruption?.code === "agent-restarted");
  const after = await run("virsh", ["-q", "-c", broker.hello!.libvirt!, "domid", "seed_1"]);
  expect(after.stdout).toBe(before.stdout);
  await giveBack(lease);
});

test("H-1.12 F-1 each daemon killed under a lease: told as an interruption, verbs go on", async () => {
  const lease = await lend();
  await gate(lease, "virsh start seed_1");
  const list = (): Promise<CommandResult> => gate(lease, "virsh list");
  for (const name of ["libvirtd", "ovs-vswitchd", "ovsdb-server", "dnsmasq", "sshd"]) {
    const beat = await broker.heard("heartbeat", (message) => pidIn(message, name) > 0);
    broker.forget();
    process.kill(pidIn(beat, name), "SIGKILL");
    await broker.heard("event", (event) => event.interruption?.text.startsWith(name) ?? false);
    const answered = until(async () => (await list()).stdout.includes("seed_1"), {
      timeoutMs: 30_000,
      what: `the gate to answer after ${name}'s death`,
    });
    await expect(answered).resolves.toBe(true);
  }
  await giveBack(lease);
});

function pidIn(beat: { processes: { name: string; pid: number }[] }, name: string): number {
  return beat.processes.find((one) => one.name === name)?.pid ?? 0;
}

test("H-1.12 L13 a machine that the host killed makes the rack lost, never the job's fault", async () => {
  const lease = await lend();
  await gate(lease, "virsh start seed_1");
  await broker.heard("event", (event) => event.what === "power-on");
  const uuid = broker.hello!.testenvs[0]!.machineList[0]!.uuid;
  const [pid] = processesWith(/^qemu-system-/, uuid);
  process.kill(pid!, "SIGKILL");
  const { report } = await broker.reported("resetting");
  expect(report).toMatchObject({ lease: lease.id, ended: { reason: "te-lost" } });
  await broker.heard("event", (event) => event.interruption?.code === "machine-stopped");
  const certificate = await proved();
  expect(certificate).toMatchObject({ epoch: lease.epoch, reason: "te-lost" });
});

test("H-1.12 L5 a free rack that lost a machine is rebuilt and proved; then a pass plans nothing", async () => {
  broker.forget();
  await run("virsh", ["-q", "-c", broker.hello!.libvirt!, "undefine", "baremetalbrbm1_1"]);
  const certificate = await proved(60_000);
  expect(certificate).toMatchObject({ epoch, lease: null, reason: "provisioned" });
  await until(async () => (await planned()).length === 0, {
    timeoutMs: 30_000,
    what: "a pass with nothing to do",
  });
});

async function planned(): Promise<unknown[]> {
  const program = join(import.meta.dirname, "../../src/main/rackyard.ts");
  const args = ["--disable-warning=ExperimentalWarning", program, "te-host", "plan", "--json"];
  const { stdout } = await run(process.execPath, [...args, "--state", host.state]);
  return JSON.parse(stdout) as unknown[];
}

test("L7 L8 without a broker the host ends the lease at its deadline, resets and proves", async () => {
  const lease = await lend(1_000);
  expect(Date.parse(lease.deadlineAt) - Date.now()).toBeGreaterThan(4_000);
  await broker[Symbol.asyncDispose]();
  await until(async () => (await gate(lease, "virsh list")).exitCode === 255, {
    timeoutMs: 30_000,
    what: "the key to be dead",
  });
  broker = await playBroker(host.socket);
  // the hello may tell of it as proved already
  await until(() => broker.hello !== undefined && atRest(), { timeoutMs: 60_000, what: "proof" });
  const told = broker.messages.findLast((message) => message.kind === "testenv");
  const report = told?.kind === "testenv" ? told.report : broker.hello!.testenvs[0]!;
  expect(report.certificate).toMatchObject({ epoch: lease.epoch, reason: "expired" });
  expect(broker.hello!.testenvs[0]).toMatchObject({ epoch: String(lease.epoch) });
});

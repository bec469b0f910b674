/**
 * Cells side by side on one machine, and their end (surface.md §9): the same names inside, each
 * with a network of its own; the end of one leaves nothing of it and does not disturb the other,
 * with its agent alive, dead, or never started.
 */
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { cellLeaks, endCell } from "../../src/hypervisor/cell-end.ts";
import { cellPlaces } from "../../src/hypervisor/cell-paths.ts";
import { prepareCell, readCell, runInCell } from "../../src/hypervisor/cell.ts";
import { processesIn } from "../../src/hypervisor/process-scan.ts";
import { startAgent } from "./agent-process.ts";
import { booted, closeBench, define, machineSpec, openBench } from "./bench-rack.ts";
import type { Bench } from "./bench-rack.ts";
import { obeyed } from "./guest.ts";

let a: Bench;
let b: Bench;
beforeAll(async () => {
  [a, b] = await Promise.all([openBench(), openBench()]);
});
afterAll(async () => {
  await closeBench(a);
  await closeBench(b);
});

const seedIp = (bench: Bench): string => bench.agent.cell.hostIp.replace(/1$/, "11");

async function startSeed(bench: Bench): Promise<void> {
  const spec = machineSpec(bench.state, 1, "seed");
  const [{ mac, tap } = { mac: "", tap: "" }] = spec.nics;
  await bench.agent.call("bridges", "ensurePrivate", "brbm1");
  await define(bench, spec, "guest");
  await bench.agent.call("testNetwork", "reserve", mac, seedIp(bench), "te1-seed");
  const rule = { kind: "seed", tap, mac, ip: seedIp(bench), open: [] } as const;
  await bench.agent.call("portRules", "apply", [rule]);
  await bench.agent.call("domains", "start", spec.uuid);
  await booted(bench, spec);
}

async function answers(bench: Bench): Promise<string> {
  return until(() => obeyed(seedIp(bench), "ip -4 -o addr show dev eth0", 1_000), {
    timeoutMs: 10_000,
    what: "the seed to answer",
  });
}

test("two cells: the same names inside, networks of their own, each reached from outside", async () => {
  expect(a.agent.cell.cidr).not.toBe(b.agent.cell.cidr);
  expect(a.agent.cell.netns).not.toBe(b.agent.cell.netns);
  await Promise.all([startSeed(a), startSeed(b)]);
  expect(await answers(a)).toContain(`${seedIp(a)}/24`);
  expect(await answers(b)).toContain(`${seedIp(b)}/24`);
  for (const { agent } of [a, b]) {
    const { stdout } = await run("virsh", ["-q", "-c", agent.cell.libvirtUri, "list", "--name"]);
    expect(stdout.trim()).toBe("seed_1");
  }
});

test("the machine sees no account, mount or /run of a cell", async () => {
  const here = await readFile("/proc/self/mountinfo", "utf8");
  expect(here).not.toContain(a.state);
  expect(await readdir("/run")).not.toContain("rackyard-cell");
  const inside = await runInCell(a.agent.cell, "cat", ["/run/rackyard-cell"]);
  const [id, version] = inside.stdout.trim().split(" ");
  expect([id, Number(version)]).toEqual([a.agent.cell.netns.slice(3), expect.any(Number)]);
});

test("the keeper killed: the cell is found by what lives in it, with the same mounts", async () => {
  const [pid] = (await readFile(join(a.state, "run/cell.pid"), "utf8")).split(" ");
  process.kill(Number(pid), "SIGKILL");
  await a.agent.kill();
  const cell = await prepareCell({ state: a.state, cidr: "auto", mtu: 1_500, log: silentLog });
  expect(cell).toEqual(a.agent.cell);
  a.agent = await startAgent(a.state);
  expect(await a.agent.own("plan")).toEqual([]);
  expect(await answers(a)).toContain(seedIp(a));
});

test("the end of a cell: whatever lives in it is ended, nothing is left, the other goes on", async () => {
  await a.agent.kill();
  const members = { netnsInode: a.agent.cell.netnsInode, controlGroup: "none" };
  // a virsh of the agent's ends by itself soon after it
  const before = processesIn(members).flatMap(({ name }) => (name === "virsh" ? [] : name));
  expect(before).toEqual(expect.arrayContaining(["qemu-system-x86_64", "libvirtd", "sleep"]));
  const ended = await endCell(a.state);
  expect(ended.left).toEqual([]);
  expect(ended.removed).toMatchObject({ domains: 1, bridges: 2, mounts: 0 });
  expect(ended.stopped.map(({ name }) => name)).toEqual(expect.arrayContaining(before));
  expect(processesIn(members)).toEqual([]);
  expect(await cellLeaks(a.state)).toEqual([]);
  expect(await readdir("/run/netns")).not.toContain(a.agent.cell.netns);
  expect(await answers(b)).toContain(seedIp(b));
  expect(await b.agent.own("plan")).toEqual([]);
});

test("ended twice, or never begun: content; what is left of another run is told and swept", async () => {
  expect((await endCell(a.state)).stopped).toEqual([]);
  expect((await endCell("/nowhere/at/all")).left).toEqual([]);
  const leaks = await cellLeaks(b.state);
  expect(new Set(leaks.map(({ kind }) => kind))).toEqual(
    new Set(["process", "netns", "link", "cgroup"]),
  );
});

test("an ended cell begins again: the same network, and its definitions are there", async () => {
  a.agent = await startAgent(a.state);
  expect(await readCell(a.state)).toMatchObject({ cidr: a.agent.cell.cidr });
  const [seed] = await a.agent.call("domains", "list");
  expect(seed).toMatchObject({ name: "seed_1", power: "off" });
  expect((await endCell(a.state)).left).toEqual([]);
});

test("a state directory with a long path: sockets move to /run/rackyard and work", async () => {
  const base = await mkdtemp(join(tmpdir(), "rackyard-live-"));
  const state = join(base, "long".repeat(20));
  await mkdir(state);
  try {
    const agent = await startAgent(state);
    expect(agent.cell.libvirtUri).toContain("/run/rackyard/");
    const { stdout } = await run("virsh", ["-q", "-c", agent.cell.libvirtUri, "uri"]);
    expect(stdout).toContain("qemu");
    await agent.kill();
  } finally {
    const { id } = cellPlaces(state);
    expect((await endCell(state)).left).toEqual([]);
    expect(await readdir("/run/rackyard")).not.toContain(id);
    await rm(base, { recursive: true });
  }
});

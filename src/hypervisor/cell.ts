/**
 * The cell (surface.md §9): a network namespace, a mount namespace and a control group in which
 * everything of one TE host lives. Made in the machine's world, then entered; a sleeping keeper
 * holds its namespaces, so that an agent killed and started again finds the same ones. How the
 * mounts are made is in cell-mounts.ts, the way out in cell-network.ts, the end in cell-end.ts.
 */
import { chmod, mkdir, realpath, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { present } from "../base/assert.ts";
import { run } from "../base/command.ts";
import type { CommandOptions, CommandResult } from "../base/command.ts";
import { fail } from "../base/errors.ts";
import { processStart, readTextIfAny } from "../base/files.ts";
import type { Log } from "../base/log.ts";
import { sweepCell } from "./cell-end.ts";
import { isWhole, makeMounts, startKeeper } from "./cell-mounts.ts";
import { makeWayOut } from "./cell-network.ts";
import { cellPlaces, libvirtUriOf } from "./cell-paths.ts";
import type { CellPlaces } from "./cell-paths.ts";
import { bootId, readRecord, writeRecord } from "./cell-record.ts";
import type { CellRecord } from "./cell-record.ts";
import { joinGroup } from "./control-group.ts";
import { guestFolders } from "./guest-files.ts";
import { addressIn } from "./network-plan.ts";
import { netnsInode, netnsOf, processesIn } from "./process-scan.ts";

/** What is known of a cell, the same for all who look. */
export type Cell = {
  /** The state directory, its real path. */
  readonly state: string;
  readonly netns: string;
  /** Inode of that namespace: who is in it. */
  readonly netnsInode: string;
  readonly cidr: string;
  /** .1, `host-ip`: the cell's own address. */
  readonly hostIp: string;
  /** .2: the machine outside. */
  readonly machineIp: string;
  readonly mtu: number;
  /** libvirt as reached from outside. */
  readonly libvirtUri: string;
};

/**
 * In the machine's world, as root: makes the cell or finds it whole; all calls may be repeated.
 * Throws `not-root`, `port-taken` where no network is free, `missing-package`.
 * @param options.cidr `auto` or a /24 network
 */
export async function prepareCell(options: {
  readonly state: string;
  readonly cidr: string;
  readonly mtu: number;
  readonly log: Log;
}): Promise<Cell> {
  if (process.getuid?.() !== 0) {
    fail("not-root", "a TE host makes namespaces and bridges", { remedy: "run it as root" });
  }
  await mkdir(options.state, { recursive: true });
  await chmod(options.state, 0o700);
  const state = await realpath(options.state);
  const places = cellPlaces(state);
  await makeDirectories(state, places);
  const kept = await readRecord(places);
  const found = await livingKeeper(places);
  if (found === undefined) {
    // Nothing of ours lives: what the last one left (bridges, sockets, a link) is swept first.
    const swept = await sweepCell(state);
    if (swept.stopped.length > 0) options.log.warn({ swept }, "ended what was left in the cell");
    for (const path of [places.runtime, places.sockets]) {
      await rm(path, { recursive: true, force: true });
    }
    await makeDirectories(state, places);
    await run("ip", ["netns", "add", places.netns]);
  }
  const cidr = await makeWayOut(places, { ...options, kept: kept?.cidr });
  const record: CellRecord = {
    schema: 1,
    netnsInode: present(netnsInode(places.netns), "the namespace just made"),
    bootId: await bootId(),
    cidr,
    mtu: options.mtu,
  };
  await writeRecord(places, record);
  if (found === undefined) {
    const keeper = await startKeeper(places);
    await joinGroup(places.controlGroup, join(places.directory, "cgroup"), keeper);
    await makeMounts(state, places, keeper);
    options.log.info({ netns: places.netns, cidr, keeper }, "the cell is made");
  }
  return cellOf(state, places, record);
}

/** The cell of a state directory as recorded; undefined where there is none. */
export async function readCell(state: string): Promise<Cell | undefined> {
  const real = await realpath(state).catch(() => undefined);
  if (real === undefined) return undefined;
  const places = cellPlaces(real);
  const record = await readRecord(places);
  if (!record || record.netnsInode === "" || record.bootId !== (await bootId())) return undefined;
  return cellOf(real, places, record);
}

/** Is this process inside of the cell? */
export function insideCell(cell: Cell): boolean {
  return cell.netnsInode === netnsOf("self");
}

/** Becomes `program` (absolute path) inside of the cell: same pid, same standard streams. */
export async function enterCell(
  cell: Cell,
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<never> {
  const places = cellPlaces(cell.state);
  const keeper = await keeperOf(cell);
  await joinGroup(places.controlGroup, join(places.directory, "cgroup"), process.pid);
  const way = ["nsenter", "-t", String(keeper), "-m", "-n", "--", program, ...args];
  process.execve?.("/usr/bin/nsenter", way, { ...env, RACKYARD_CELL: cell.netns });
  return fail("unavailable", "this Node cannot replace itself by another program");
}

/** Runs a program inside of the cell, from outside, to its end. */
export async function runInCell(
  cell: Cell,
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const way = ["-t", String(await keeperOf(cell)), "-m", "-n", "--", program, ...args];
  return run("nsenter", way, options);
}

async function keeperOf(cell: Cell): Promise<number> {
  const keeper = await livingKeeper(cellPlaces(cell.state));
  return keeper ?? fail("not-running", `the cell ${cell.netns} is not there`);
}

/** The keeper; a killed one is replaced through any process that lives in the whole cell. */
async function livingKeeper(places: CellPlaces): Promise<number | undefined> {
  const inode = netnsInode(places.netns);
  if (inode === undefined) return undefined;
  const [pid, start] = ((await readTextIfAny(places.keeperPid)) ?? "").trim().split(" ");
  const keeper = Number(pid);
  if (pid && start && (await processStart(keeper)) === start && (await isWhole(places, keeper))) {
    return keeper;
  }
  const members = processesIn({ netnsInode: inode, controlGroup: places.controlGroup });
  for (const { pid: member } of members) {
    if (!(await isWhole(places, member))) continue;
    const renewed = await startKeeper(places, member);
    await joinGroup(places.controlGroup, join(places.directory, "cgroup"), renewed);
    return renewed;
  }
  return undefined;
}

async function makeDirectories(state: string, places: CellPlaces): Promise<void> {
  const made = [places.runtime, places.reservations, places.pids, places.logs];
  for (const path of made) await mkdir(path, { recursive: true });
  // The umask does not decide: what QEMU's account passes through is open for passing alone.
  for (const [paths, mode] of [
    [["lib", "cache"].map((name) => join(places.libvirt, name)), 0o711],
    [guestFolders.map((folder) => join(state, folder)), 0o711],
    [["etc", "log"].map((name) => join(places.libvirt, name)), 0o700],
    [places.sockets === places.runtime ? [] : [dirname(places.sockets)], 0o700],
    [[places.sockets, ...["libvirt", "openvswitch"].map((it) => join(places.sockets, it))], 0o700],
  ] as const) {
    for (const path of paths) {
      await mkdir(path, { recursive: true });
      await chmod(path, mode);
    }
  }
}

function cellOf(state: string, places: CellPlaces, record: CellRecord): Cell {
  return {
    state,
    netns: places.netns,
    netnsInode: record.netnsInode,
    cidr: record.cidr,
    hostIp: addressIn(record.cidr, 1),
    machineIp: addressIn(record.cidr, 2),
    mtu: record.mtu,
    libvirtUri: libvirtUriOf(places),
  };
}

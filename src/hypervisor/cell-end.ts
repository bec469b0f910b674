/**
 * The end of a cell, and the proof of it (surface.md §9): everything in it is ended, started by
 * whomever, then its namespace, link, control group and mounts go. Works with the agent dead or
 * alive, and twice. The same scan is the leak check of `down` and `doctor --leaks`.
 */
import { readdir, realpath, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { assert } from "../base/assert.ts";
import { run } from "../base/command.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import { linkExists } from "./cell-network.ts";
import { cellPlaces } from "./cell-paths.ts";
import type { CellPlaces } from "./cell-paths.ts";
import { forgetNamespace, membershipOf } from "./cell-record.ts";
import { groupExists, killGroup, removeGroup } from "./control-group.ts";
import { mountsBelow, unmountBelow } from "./mounts.ts";
import { netnsInode, netnsOf, processesIn } from "./process-scan.ts";
import type { CellMembership, FoundProcess } from "./process-scan.ts";

export type Leak = { readonly kind: string; readonly name: string; readonly why: string };

export type EndOfCell = {
  readonly stopped: readonly FoundProcess[];
  readonly removed: {
    readonly domains: number;
    readonly bridges: number;
    readonly processes: number;
    readonly mounts: number;
    readonly files: number;
  };
  readonly left: readonly Leak[];
};

/** Ends the cell of a state directory and says what was there and what is left. */
export async function endCell(state: string): Promise<EndOfCell> {
  const real = await realpath(state).catch(() => undefined);
  if (real === undefined) return nothing;
  return sweepCell(real);
}

const nothing: EndOfCell = {
  stopped: [],
  removed: { domains: 0, bridges: 0, processes: 0, mounts: 0, files: 0 },
  left: [],
};

/** As {@link endCell}, for the real path of the state directory. */
export async function sweepCell(state: string): Promise<EndOfCell> {
  const places = cellPlaces(state);
  const members = await membershipOf(places);
  assert(netnsOf("self") !== members.netnsInode, "a cell is ended from outside");
  const domains = await countDomains(places);
  const bridges = await countBridges(places);
  const stopped = await endProcesses(places, members);
  await removeGroup(places.controlGroup, groupMount(places));
  // A cable or a namespace without its mount is removed by its name all the same.
  if (await linkExists(places.link)) {
    await run("ip", ["link", "del", places.link], { accept: "any" });
  }
  if (await netnsNamed(places.netns)) {
    await run("ip", ["netns", "del", places.netns], { accept: "any" });
  }
  const mounts = await unmountBelow(places.directory);
  const files = await removeRuntime(places);
  await forgetNamespace(places);
  return {
    stopped,
    removed: { domains, bridges, processes: stopped.length, mounts: mounts.length, files },
    left: await leaksOf(places),
  };
}

/**
 * What there is of the cell of `state`; without it, what there is on this machine of cells in
 * which nothing lives any more. Empty: nothing is left.
 */
export async function cellLeaks(state?: string): Promise<Leak[]> {
  if (state !== undefined) {
    const real = await realpath(state).catch(() => undefined);
    return real === undefined ? [] : leaksOf(cellPlaces(real));
  }
  const names = await namesIn("/run/netns");
  const dead = names.filter((name) => {
    if (!/^ry-[0-9a-f]{8}$/.test(name)) return false;
    const inode = netnsInode(name);
    return (
      inode === undefined || processesIn({ netnsInode: inode, controlGroup: name }).length === 0
    );
  });
  const links = (await readdir("/sys/class/net")).filter(
    (name) => /^ry[0-9a-f]{8}$/.test(name) && !names.includes(`ry-${name.slice(2)}`),
  );
  return [
    ...dead.map((name) => ({ kind: "netns", name, why: "no process lives in this cell" })),
    ...links.map((name) => ({ kind: "link", name, why: "its cell is gone" })),
  ];
}

async function endProcesses(
  places: CellPlaces,
  members: CellMembership,
): Promise<readonly FoundProcess[]> {
  const stopped = new Map<number, FoundProcess>();
  for (const found of processesIn(members)) stopped.set(found.pid, found);
  await killGroup(places.controlGroup, groupMount(places));
  let quiet = 0;
  await until(
    () => {
      const living = processesIn(members);
      for (const found of living) {
        // one that is dying has no executable any more: its first name is its name
        if (!stopped.has(found.pid)) stopped.set(found.pid, found);
        try {
          process.kill(found.pid, "SIGKILL");
        } catch {
          // gone meanwhile
        }
      }
      quiet = living.length === 0 ? quiet + 1 : 0;
      return quiet >= 2;
    },
    { timeoutMs: limits.cellGoneMs, everyMs: 20, what: "the cell's processes to end" },
  ).catch(() => undefined); // what lives on is told as left
  return [...stopped.values()];
}

async function leaksOf(places: CellPlaces): Promise<Leak[]> {
  const members = await membershipOf(places);
  const processes = processesIn(members).map(({ pid, name }) => ({
    kind: "process",
    name: `${name} ${pid}`,
    why: `lives in cell ${places.netns}`,
  }));
  const leaks: Leak[] = [...processes];
  if (await netnsNamed(places.netns)) {
    leaks.push({ kind: "netns", name: places.netns, why: "the cell's network namespace" });
  }
  if (await linkExists(places.link)) {
    leaks.push({ kind: "link", name: places.link, why: "the cell's way out" });
  }
  if (await groupExists(places.controlGroup, groupMount(places))) {
    leaks.push({ kind: "cgroup", name: places.controlGroup, why: "the cell's control group" });
  }
  for (const mount of await mountsBelow(places.directory)) {
    leaks.push({ kind: "mount", name: mount, why: "mounted on the machine" });
  }
  return leaks;
}

const groupMount = (places: CellPlaces): string => join(places.directory, "cgroup");

async function netnsNamed(name: string): Promise<boolean> {
  return (await namesIn("/run/netns")).includes(name);
}

async function namesIn(path: string): Promise<string[]> {
  return readdir(path).catch((): string[] => []);
}

/** Of a libvirtd that has a cell: without one there are definitions on disk, which stay. */
async function countDomains(places: CellPlaces): Promise<number> {
  if (netnsInode(places.netns) === undefined) return 0;
  const files = await namesIn(join(places.libvirt, "etc/qemu"));
  return files.filter((file) => file.endsWith(".xml")).length;
}

async function countBridges(places: CellPlaces): Promise<number> {
  if (netnsInode(places.netns) === undefined) return 0;
  const links = await run("ip", ["-n", places.netns, "-j", "link"], { accept: "any" });
  if (links.exitCode !== 0) return 0;
  const names = (JSON.parse(links.stdout || "[]") as { ifname?: string }[]).map((it) => it.ifname);
  return names.filter((name) => /^br(?:-ctlplane|bm\d+\w*)$/.test(name ?? "")).length;
}

/** Removes what lives only as long as the cell; definitions, images and network stay. */
async function removeRuntime(places: CellPlaces): Promise<number> {
  let files = 0;
  for (const path of [places.runtime, places.sockets, places.keeperPid]) {
    files += (await namesIn(path)).length;
    await rm(path, { recursive: true, force: true });
  }
  // The machine's directory of this cell's sockets, where they had to be moved there.
  if (places.sockets !== places.runtime)
    await rmdir(dirname(places.sockets)).catch(() => undefined);
  return files;
}

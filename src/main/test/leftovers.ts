/**
 * What a run of tests left behind: processes whose command line names the run's own directory or
 * whose world is made of it (a cell, a root), and what is still mounted in it. A test that leaves
 * one has failed. What is found is ended, so what merely sees the directory is not found, nor is
 * anything older than the run.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { endCell } from "../../hypervisor/cell-end.ts";
import { mountsBelow, unmountBelow } from "../../hypervisor/mounts.ts";

export type Leftover = {
  /** `process 4711: tail -f x`, `mount /tmp/…/proc`. */
  readonly name: string;
  readonly end: () => Promise<unknown>;
};

/** @param directory the run's own directory, a real path; its last component is unique */
export async function findLeftovers(directory: string): Promise<Leftover[]> {
  const mark = basename(directory);
  const processes = readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) => startOf(pid) >= startOf(process.pid) && belongs(pid, mark))
    .map((pid) => ({ name: `process ${pid}: ${commandOf(pid)}`, end: () => kill(pid) }));
  const mounts = (await mountsBelow(directory)).map((mount) => {
    return { name: `mount ${mount}`, end: () => unmountBelow(directory) };
  });
  return [...processes, ...mounts];
}

/** For a run that was interrupted in the middle of its tests: installations, cells, the rest. */
export async function endEverything(directory: string): Promise<void> {
  const endAll = async (): Promise<void> => {
    for (const leftover of await findLeftovers(directory)) await leftover.end();
  };
  await endAll(); // supervisors before what they would start again
  for (const state of statesIn(directory)) await endCell(state);
  await endAll();
}

/** State directories with a cell: tests make them in the run's directory, or one below. */
function statesIn(directory: string): string[] {
  const below = (path: string): string[] =>
    readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(path, name));
  const near = below(directory);
  return [...near, ...near.flatMap(below)].filter((path) => existsSync(join(path, "te/cell")));
}

function belongs(pid: number, mark: string): boolean {
  if (fact(pid, "cmdline").includes(mark)) return true;
  const apart = link(pid, "ns/mnt") !== link(process.pid, "ns/mnt");
  return apart && (isMadeOf(fact(pid, "mountinfo"), mark) || link(pid, "root").includes(mark));
}

/**
 * Does something of the directory lie in this mount namespace, as in that of a cell? A mount
 * point in the directory says nothing: a namespace made meanwhile, another installation's too,
 * has a copy of every mount of the machine.
 */
export function isMadeOf(mountinfo: string, mark: string): boolean {
  return mountinfo.split("\n").some((line) => line.split(" ")[3]?.includes(mark) === true);
}

function kill(pid: number): Promise<void> {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone meanwhile
  }
  return Promise.resolve();
}

const commandOf = (pid: number): string => fact(pid, "cmdline").replaceAll("\0", " ").trim();

/** In clock ticks since the machine's boot (proc_pid_stat(5), field 22); NaN: gone meanwhile. */
function startOf(pid: number): number {
  return Number(
    fact(pid, "stat")
      .replace(/^.*\) /s, "")
      .split(" ")[19],
  );
}

function fact(pid: number, name: "cmdline" | "mountinfo" | "stat"): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return ""; // gone meanwhile
  }
}

function link(pid: number, name: "root" | "ns/mnt"): string {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return ""; // gone meanwhile
  }
}

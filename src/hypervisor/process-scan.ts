/**
 * Which processes live in a cell: by network namespace or control group, whoever started them.
 * One look at /proc, without locks: what it finds may be gone when it returns, so whoever ends
 * or proves looks twice.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename } from "node:path";

export type FoundProcess = { readonly pid: number; readonly name: string };

export type CellMembership = {
  /** Inode of the network namespace; undefined: it is not known any more. */
  readonly netnsInode: string | undefined;
  /** Name of the control group below the hierarchy's root. */
  readonly controlGroup: string;
};

/** Inode of the namespace that a file in /run/netns names; undefined: there is none. */
export function netnsInode(netns: string): string | undefined {
  try {
    const stat = statSync(`/run/netns/${netns}`);
    // A name without its namespace mounted on it is an empty file of the file system below.
    return stat.dev === statSync("/proc/self/ns/net").dev ? String(stat.ino) : undefined;
  } catch {
    return undefined;
  }
}

/** Inode of a process' own network namespace. */
export function netnsOf(pid: number | "self"): string | undefined {
  return read(() => /\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1]);
}

/** Every process of the cell but zombies. */
export function processesIn(cell: CellMembership): FoundProcess[] {
  const found: FoundProcess[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || !isIn(pid, cell)) continue;
    const name = nameOf(pid);
    if (name !== undefined) found.push({ pid, name });
  }
  return found;
}

function isIn(pid: number, cell: CellMembership): boolean {
  if (cell.netnsInode !== undefined && netnsOf(pid) === cell.netnsInode) return true;
  const groups = read(() => readFileSync(`/proc/${pid}/cgroup`, "utf8")) ?? "";
  return new RegExp(`^0::(?:/.*)?/${cell.controlGroup}(?:/|$)`, "m").test(groups);
}

/** The executable's name; undefined for what is gone or a zombie. */
function nameOf(pid: number): string | undefined {
  const stat = read(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  if (stat === undefined || stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")) return undefined;
  return executableOf(pid) ?? stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
}

/** Name of the file that a process runs; kernel's mark of a replaced file removed. */
export function executableOf(pid: number): string | undefined {
  const path = read(() => readlinkSync(`/proc/${pid}/exe`));
  return path === undefined ? undefined : basename(path.replace(/ \(deleted\)$/, ""));
}

/** Pids whose command line holds `word`, of processes that run `executable`. */
export function processesWith(executable: RegExp, word: string): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => {
      if (!Number.isInteger(pid) || !executable.test(executableOf(pid) ?? "")) return false;
      return (read(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? "").includes(word);
    });
}

/** Has a process group members that are no zombies? Dead ones may wait long for pid 1. */
export function groupLives(group: number): boolean {
  return readdirSync("/proc").some((entry) => {
    if (!/^\d+$/.test(entry)) return false;
    const stat = read(() => readFileSync(`/proc/${entry}/stat`, "utf8"));
    const [state, , pgrp] = stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? [];
    return pgrp === String(group) && state !== "Z";
  });
}

function read<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined; // gone meanwhile
  }
}

/**
 * What this host has, as found in /proc and on its file system; the sums are in capacity-plan.ts.
 */
import { readFile, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { nearestExisting } from "../base/files.ts";
import type { HostCapacity } from "./capacity-plan.ts";

const GIB = 1024 ** 3;

/**
 * @param state the state directory, there or still to make: its file system holds images, disks
 * @param oursBytes what images and disks of ours take there already
 */
export async function readCapacity(state: string, oursBytes: number): Promise<HostCapacity> {
  const space = await statfs(await nearestExisting(state));
  return {
    memoryTotalMiB: await memoryMiB("MemTotal"),
    cpusOnline: availableParallelism(),
    diskGiB: (space.bavail * space.bsize + oursBytes) / GIB,
  };
}

/** For the guard of power-on (H-1.8) and health (H-13.1). */
export async function memoryAvailableMiB(): Promise<number> {
  return memoryMiB("MemAvailable");
}

async function memoryMiB(row: "MemTotal" | "MemAvailable"): Promise<number> {
  const text = await readFile("/proc/meminfo", "utf8");
  const kib = new RegExp(`^${row}: +(\\d+) kB$`, "m").exec(text)?.[1];
  return Number(kib ?? 0) / 1024;
}

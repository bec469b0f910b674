/**
 * Which process is which program of an installation: `run/<program>.pid` holds pid, start time
 * and version, so that a number used again by another process is not mistaken for ours.
 */
import { rm } from "node:fs/promises";
import { processStart, readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { pause } from "../base/wait.ts";
import { limits } from "../base/limits.ts";

export type Owner = { readonly pid: number; readonly start: string; readonly version: string };

export async function writePidFile(path: string, pid: number, version: string): Promise<Owner> {
  const start = (await processStart(pid)) ?? "gone";
  await writeFileAtomic(path, `${pid} ${start} ${version}\n`);
  return { pid, start, version };
}

/** The living process that the file names. */
export async function readPidFile(path: string): Promise<Owner | undefined> {
  const text = await readTextIfAny(path);
  const [pid, start = "", version = ""] = (text ?? "").trim().split(" ");
  const owner = { pid: Number(pid), start, version };
  return owner.pid > 1 && (await lives(owner)) ? owner : undefined;
}

export async function lives(owner: Owner): Promise<boolean> {
  return (await processStart(owner.pid)) === owner.start;
}

/** Sends a signal to the process, and to it alone; content when it has gone. */
export async function signal(owner: Owner, name: NodeJS.Signals): Promise<void> {
  if (!(await lives(owner))) return;
  try {
    process.kill(owner.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** True when it has ended within the time. */
export async function endedWithin(owner: Owner, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (await lives(owner)) {
    if (performance.now() > deadline) return false;
    await pause(limits.pollMs);
  }
  return true;
}

/** SIGTERM, and SIGKILL after the grace; true where it had to be killed or ended by itself. */
export async function endProcess(owner: Owner, graceMs: number): Promise<boolean> {
  await signal(owner, "SIGTERM");
  if (await endedWithin(owner, graceMs)) return true;
  await signal(owner, "SIGKILL");
  return endedWithin(owner, limits.childGraceMs);
}

export async function removePidFile(path: string): Promise<void> {
  await rm(path, { force: true });
}

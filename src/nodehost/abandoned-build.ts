/**
 * The end of an image's build. It is over when its program has ended, whatever that left behind
 * (an agent or a daemon that holds its output): what it left is ended. And the build whose agent
 * was killed: its program runs on by itself, in the machine's own namespaces, with mounts of its
 * own. It is ended before its folder is touched, by the next agent or by `down`.
 */
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { signalGroup } from "../base/command.ts";
import type { Child, Exit } from "../base/command.ts";
import { processStart, readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { until, within } from "../base/wait.ts";
import { unmountBelow } from "../hypervisor/mounts.ts";

const groupFile = (workFolder: string): string => join(workFolder, "build.pid");

/** Writes down whose process group the build is, for whoever has to end it. */
export async function noteBuild(workFolder: string, pid: number): Promise<void> {
  await writeFileAtomic(groupFile(workFolder), `${pid} ${(await processStart(pid)) ?? ""}\n`);
}

/** Ends it and undoes its mounts; content when there is none. `pid`: of the one that ran. */
export async function endAbandonedBuild(
  workFolder: string,
): Promise<{ readonly pid: number | undefined; readonly mounts: readonly string[] }> {
  const text = (await readTextIfAny(groupFile(workFolder))) ?? "";
  const [pid, start] = text.trim().split(" ");
  const runs = pid && start && (await processStart(Number(pid))) === start;
  if (runs) {
    signalGroup(Number(pid), "SIGKILL");
    await until(() => !groupLives(Number(pid)), {
      timeoutMs: limits.childGraceMs,
      what: "the image build to end",
    }).catch(() => undefined); // what lives on keeps its mounts, and those are told
  }
  await endLeftovers(workFolder);
  return { pid: runs ? Number(pid) : undefined, mounts: await unmountBelow(workFolder) };
}

/** The program's exit; what it had said is read, of what others go on saying no more. */
export async function programEnds(child: Child, read: Promise<unknown>): Promise<Exit> {
  read.catch(() => undefined);
  const { process: own } = child;
  if (own.exitCode === null && own.signalCode === null) {
    await Promise.race([once(own, "exit"), child.exited]);
  }
  // One that never started has no exit of its own.
  if (own.exitCode === null && own.signalCode === null) return child.exited;
  await within(limits.imageBuildSaidMs, "reading the build's output", read).catch(() => undefined);
  await child.end();
  return child.exited;
}

/**
 * Ends what a build left outside its process group: daemons keep the environment they were
 * started with, and that names the recipe's folder, which is below `folder`. Gives how many there
 * were.
 */
export async function endLeftovers(folder: string): Promise<number> {
  const mark = Buffer.from(`RECIPE_DIR=${folder}/`);
  let ended = 0;
  for (let left = true, looks = 0; left && looks < LOOKS; looks++) {
    left = false;
    for (const name of await readdir("/proc")) {
      if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
      const environment = await readFile(`/proc/${name}/environ`).catch(() => Buffer.alloc(0));
      if (!environment.includes(mark)) continue;
      left = true;
      ended++;
      try {
        process.kill(Number(name), "SIGKILL");
      } catch {
        // it has ended meanwhile
      }
    }
  }
  return ended;
}

/** A process may start another while it is looked for. */
const LOOKS = 5;

function groupLives(pid: number): boolean {
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}

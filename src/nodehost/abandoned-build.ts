/**
 * The build of an image whose agent was killed: its program runs on by itself, in the machine's
 * own namespaces, with mounts of its own. It is ended before its folder is touched, by the next
 * agent or by `down`.
 */
import { join } from "node:path";
import { signalGroup } from "../base/command.ts";
import { processStart, readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
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
  return { pid: runs ? Number(pid) : undefined, mounts: await unmountBelow(workFolder) };
}

function groupLives(pid: number): boolean {
  try {
    process.kill(-pid, 0);
    return true;
  } catch {
    return false;
  }
}

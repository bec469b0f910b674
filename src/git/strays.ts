/**
 * What a killed server leaves: git processes that work on, and locks of git that has died. Both
 * are ended at the start, before the first git of ours runs: a lock that nobody holds keeps a
 * repository from every later write, for ever.
 */
import { readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";

/**
 * Kills every process whose environment names this configuration file: git of ours, and what it
 * started. Other users' processes cannot be read and are not ours.
 */
export async function endStrays(configurationFile: string): Promise<number> {
  const found = await strays(configurationFile);
  if (found.length === 0) return 0;
  await until(
    async () => {
      const left = await strays(configurationFile);
      for (const pid of left) kill(pid);
      return left.length === 0;
    },
    { timeoutMs: limits.childGraceMs, everyMs: 20, what: "git of an earlier server to end" },
  );
  return found.length;
}

async function strays(configurationFile: string): Promise<number[]> {
  const mark = `GIT_CONFIG_GLOBAL=${configurationFile}`;
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^[1-9][0-9]*$/.test(name) || Number(name) === process.pid) continue;
    const environment = await readFile(`/proc/${name}/environ`, "utf8").catch(() => "");
    if (environment.split("\0").includes(mark)) found.push(Number(name));
  }
  return found;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/**
 * Removes git's locks (`*.lock`, `gc.pid`) from a repository; gives their paths. Only for who
 * knows that no git writes there now.
 */
export async function removeLocks(repository: string): Promise<string[]> {
  const removed: string[] = [];
  const look = async (directory: string): Promise<void> => {
    const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) await look(path);
      else if (/\.lock$|^gc\.pid$/.test(entry.name)) {
        await rm(path, { force: true });
        removed.push(path);
      }
    }
  };
  const top = await readdir(repository, { withFileTypes: true }).catch(() => []);
  for (const entry of top) {
    const path = join(repository, entry.name);
    if (entry.isDirectory() && ["refs", "info", "worktrees"].includes(entry.name)) await look(path);
    else if (entry.isFile() && /\.lock$|^gc\.pid$/.test(entry.name)) {
      await rm(path, { force: true });
      removed.push(path);
    }
  }
  return removed;
}

/**
 * The processes of a gate account in this cell (H-6.8): found by their real uid, since sshd's
 * own are not dumpable and so look like root's, and by our network namespace, since every cell
 * uses the same uids. Ended by SIGKILL, one by one.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export function processesOfUid(uid: number): number[] {
  const own = readlinkSync("/proc/self/ns/net");
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && isOf(pid, uid, own));
}

/** SIGKILL to each of them; how many there were. */
export function killProcessesOfUid(uid: number): number {
  const found = processesOfUid(uid);
  for (const pid of found) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
  return found.length;
}

function isOf(pid: number, uid: number, netns: string): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    if (!new RegExp(`^Uid:\t${uid}\t`, "m").test(status) || /^State:\tZ/m.test(status))
      return false;
    return readlinkSync(`/proc/${pid}/ns/net`) === netns;
  } catch {
    return false; // gone meanwhile
  }
}

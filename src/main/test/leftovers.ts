/**
 * Processes that a run of tests left behind: those whose command line or mounts name the run's
 * own directory. A test that leaves one has failed; what is found is ended, by its pid alone.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";

export type Leftover = { readonly pid: number; readonly command: string };

/** @param directory the run's own directory; its last component is unique */
export function findLeftovers(directory: string): Leftover[] {
  const mark = basename(directory);
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) => fact(pid, "cmdline").includes(mark) || fact(pid, "mountinfo").includes(mark))
    .map((pid) => ({ pid, command: fact(pid, "cmdline").replaceAll("\0", " ").trim() }));
}

export function endLeftover({ pid }: Leftover): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone meanwhile
  }
}

function fact(pid: number, name: "cmdline" | "mountinfo"): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch {
    return ""; // gone meanwhile
  }
}

/**
 * `doctor --leaks`: what carries our marks on this machine and belongs to nobody. The cell of a
 * state directory whose programs are gone, cells in which nothing lives, and cells that live on
 * after their state directory was removed. Looks only; `down` and `te-host` remove.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readTextIfAny } from "../base/files.ts";
import { cellLeaks } from "../hypervisor/cell-end.ts";
import type { Leak } from "../hypervisor/cell-end.ts";
import { netnsInode, processesIn } from "../hypervisor/process-scan.ts";

/** Empty: nothing is left. `state` counts only while nothing of it runs. */
export async function leaks(state: string): Promise<Leak[]> {
  const own = (await isRunning(state)) ? [] : await cellLeaks(state);
  const all = [...own, ...(await cellLeaks()), ...orphans()];
  const seen = new Set<string>();
  return all.filter(({ kind, name }) => {
    const key = `${kind} ${name}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** One of the programs of this state lives: its supervisor, server or agent, by ready.json. */
async function isRunning(state: string): Promise<boolean> {
  const text = await readTextIfAny(join(state, "run/ready.json")).catch(() => undefined);
  if (text === undefined) return false;
  const pids = [...text.matchAll(/"pid":\s*(\d+)/g)].map((match) => Number(match[1]));
  return pids.some((pid) => pid > 1 && isOurs(pid));
}

/** A living program of ours; pids are used again by others. */
function isOurs(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("src/main/rackyard.ts");
  } catch {
    return false;
  }
}

function orphans(): Leak[] {
  return names("/run/netns")
    .filter((name) => /^ry-[0-9a-f]{8}$/.test(name))
    .flatMap((name) => {
      const controlGroup = `rackyard-${name.slice("ry-".length)}`;
      const members = processesIn({ netnsInode: netnsInode(name), controlGroup });
      if (!members.some(({ pid }) => stateIsGone(pid))) return [];
      const why = `lives in cell ${name}, whose state directory is gone`;
      return members.map((member) => ({
        kind: "process",
        name: `${member.name} ${member.pid}`,
        why,
      }));
    });
}

/** The cell's directories are bound from the state directory: the kernel says if that is gone. */
function stateIsGone(pid: number): boolean {
  try {
    const mounts = readFileSync(`/proc/${pid}/mountinfo`, "utf8");
    return /^\S+ \S+ \S+ \S*\/te\/cell\/\S*\/\/deleted /m.test(mounts);
  } catch {
    return false;
  }
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

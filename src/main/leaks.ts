/**
 * `doctor --leaks`: what carries our marks on this machine and belongs to nobody. The cell of a
 * state directory whose programs are gone, cells in which nothing lives, and cells that live on
 * after their state directory was removed. Looks only; `down` and `te-host` remove.
 */
import { readdirSync, readFileSync } from "node:fs";
import { cellLeaks } from "../hypervisor/cell-end.ts";
import type { Leak } from "../hypervisor/cell-end.ts";
import { mountsBelow } from "../hypervisor/mounts.ts";
import { netnsInode, processesIn } from "../hypervisor/process-scan.ts";
import { readPidFile } from "./pid-file.ts";
import { realPlaces } from "./places.ts";
import type { Places } from "./places.ts";

/** Empty: nothing is left. `state` counts only while nothing of it runs. */
export async function leaks(state: string): Promise<Leak[]> {
  const places = await realPlaces(state);
  const own = (await isRunning(places)) ? [] : await ownLeaks(places);
  const all = [...own, ...(await cellLeaks()), ...orphans()];
  const seen = new Set<string>();
  return all.filter(({ kind, name }) => {
    const key = `${kind} ${name}`;
    return !seen.has(key) && seen.add(key);
  });
}

/** What there is of one installation whose programs are gone. */
export async function ownLeaks(places: Places): Promise<Leak[]> {
  const mounts = (await mountsBelow(places.imageWork)).map((name) => {
    return { kind: "mount", name, why: "an image build left it" };
  });
  return [...(await cellLeaks(places.state)), ...mounts];
}

/** One of the programs of this state lives. */
async function isRunning(places: Places): Promise<boolean> {
  for (const program of ["up", "server", "te-host"] as const) {
    if ((await readPidFile(places.pidFile(program))) !== undefined) return true;
  }
  return false;
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

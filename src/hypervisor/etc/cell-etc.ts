/**
 * The cell's own /etc (docs/decisions/the-cells-own-etc.md): a directory of its own, in which
 * only what the cell must decide by itself is a file; every other name is a link to the machine's
 * /etc as it is now. A package or `useradd` replaces a file of the machine by rename, and the
 * kernel drops any mount over the old one; over a directory of ours it cannot reach.
 */
import { lstat, readdir, readlink, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";

/** Names that are the cell's own; `libvirt` is a mount. */
const OWN = new Set(["passwd", "group", "shadow", "nsswitch.conf", "libvirt"]);

/** Accounts come from files alone: nothing of the machine's name services counts in the cell. */
const nsswitch = `${["passwd", "group", "shadow"].map((name) => `${name}: files`).join("\n")}
hosts: files
`;

/** What is wrong with the links and the fixed files: names, in order; none: as wanted. */
export async function etcFaults(own: string, machine: string, linkBase: string): Promise<string[]> {
  const wanted = await wantedLinks(machine, linkBase);
  const there = await readdir(own);
  const faults: string[] = [];
  for (const [name, target] of wanted) {
    if ((await readlink(join(own, name)).catch(() => undefined)) !== target) faults.push(name);
  }
  for (const name of there) {
    if (!OWN.has(name) && !wanted.has(name)) faults.push(name);
  }
  if ((await readTextIfAny(join(own, "nsswitch.conf"))) !== nsswitch) faults.push("nsswitch.conf");
  return faults.sort();
}

/**
 * Makes the links those of the machine's present names. `own`, `machine`: the two directories as
 * this process reaches them; `linkBase`: the machine's as the cell sees it.
 */
export async function mendEtc(own: string, machine: string, linkBase: string): Promise<void> {
  const wanted = await wantedLinks(machine, linkBase);
  for (const name of await etcFaults(own, machine, linkBase)) {
    const path = join(own, name);
    const target = wanted.get(name);
    if (name === "nsswitch.conf") await writeFileAtomic(path, nsswitch);
    else if (target === undefined) await rm(path, { recursive: true, force: true });
    else {
      const aside = join(own, `.${name}.link`);
      await rm(aside, { force: true });
      await symlink(target, aside);
      const inTheWay = await lstat(path).catch(() => undefined);
      if (inTheWay?.isDirectory()) await rm(path, { recursive: true });
      await rename(aside, path);
    }
  }
}

/** A link of the machine's is taken as it is: what it says is meant from /etc. */
async function wantedLinks(machine: string, linkBase: string): Promise<Map<string, string>> {
  const wanted = new Map<string, string>();
  for (const entry of await readdir(machine, { withFileTypes: true })) {
    if (OWN.has(entry.name)) continue;
    const target = entry.isSymbolicLink()
      ? await readlink(join(machine, entry.name)).catch(() => undefined)
      : join(linkBase, entry.name);
    if (target !== undefined) wanted.set(entry.name, target);
  }
  return wanted;
}

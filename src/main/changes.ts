/**
 * `changes.json`: what an installation has changed outside its state directory (surface.md §3).
 * `down --purge` undoes all of it but packages, and says so.
 */
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { broughtPackages } from "./debian-packages.ts";
import { installedUnit } from "./systemd/unit.ts";
import type { Places } from "./places.ts";
import type { StatusLine } from "./status.ts";

export type Changes = {
  /** Debian packages that the bootstrap installed on this machine. */
  readonly packages: readonly string[];
  /** Network namespaces of cells, each with its cable out. */
  readonly namespaces: readonly string[];
  /** Directories for sockets, where the state directory's path is too long. */
  readonly directories: readonly string[];
  /** The systemd unit of `install-service`. */
  readonly units: readonly string[];
};

export async function recordChanges(places: Places, line: StatusLine): Promise<void> {
  const changes: Changes = {
    packages: await broughtPackages(),
    namespaces: line.hosts.flatMap((host) => (host.cell ? [host.cell.netns] : [])),
    directories: places.sockets === places.run ? [] : [places.sockets],
    units: await installedUnit(places.state, places.isDefault),
  };
  await writeFileAtomic(places.changes, `${JSON.stringify(changes, undefined, 2)}\n`);
}

export async function readChanges(places: Places): Promise<Changes> {
  const text = await readTextIfAny(places.changes);
  const none: Changes = { packages: [], namespaces: [], directories: [], units: [] };
  return text === undefined ? none : { ...none, ...(JSON.parse(text) as Partial<Changes>) };
}

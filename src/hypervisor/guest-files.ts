/**
 * What QEMU's account may reach of the state directory, which is closed to everybody (0700): the
 * folders of disks and images, bound to short paths of the cell. So neither the state's own mode
 * nor the place an operator chose for it (below /root, with a blank) counts. Pure.
 */
import { join, relative } from "node:path/posix";
import { insideRun } from "./cell-paths.ts";

/** Below the state directory; each may be passed through by whoever knows a name, not listed. */
export const guestFolders = ["te/disks", "te/nodes", "images/sha256"] as const;

export const guestMount = (folder: string): string =>
  join(insideRun.guests, folder.replaceAll("/", "-"));

/** The path by which QEMU opens a file of the state directory; any other path stays. */
export function guestPath(state: string, path: string): string {
  return translated(path, (folder) => [join(state, folder), guestMount(folder)]);
}

/** The way back: what a disk's header or a definition names, as everybody else knows it. */
export function statePath(state: string, path: string): string {
  return translated(path, (folder) => [guestMount(folder), join(state, folder)]);
}

function translated(path: string, ends: (folder: string) => readonly [string, string]): string {
  for (const folder of guestFolders) {
    const [from, to] = ends(folder);
    const below = relative(from, path);
    if (below !== "" && !below.startsWith("..") && !below.startsWith("/")) return join(to, below);
  }
  return path;
}

/**
 * Node's compile cache for our modules (types taken away, code compiled: half of a client's start),
 * in the user's own cache folder. What lies there is run as it is, so nobody else may be able to
 * write it: the folder and all above it belong to us or root and are closed to others' writing, as
 * sshd(8)'s StrictModes asks of a key file. Where that cannot be had, nothing is cached.
 */
import { lstatSync, mkdirSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";

/** An entry a module of each clone that was ever used; above it, the folder begins anew. */
const mostEntries = 8_000;

/** `NODE_COMPILE_CACHE` and `NODE_DISABLE_COMPILE_CACHE` are Node's own and come first. */
export function keepCompiled() {
  const { NODE_COMPILE_CACHE: elsewhere, NODE_DISABLE_COMPILE_CACHE: never } = process.env;
  if (elsewhere || never) return;
  try {
    // Not HOME: under sudo it may still be the home of somebody who must not choose root's code.
    const folder = cacheFolder(realpathSync(userInfo().homedir));
    if (folder !== undefined) enableCompileCache(folder);
  } catch {
    // No entry in passwd, a read-only or a full disk: it starts as it would without a cache.
  }
}

/**
 * The folder below `home`, made if need be; undefined where others could write it.
 * @param {string} home a real path
 * @returns {string | undefined}
 */
export function cacheFolder(home) {
  if (!onlyOurs(home)) return undefined;
  const folder = join(home, ".cache", "rackyard", "compiled");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!onlyOurs(folder)) return undefined;
  for (const version of readdirSync(folder)) {
    const entries = join(folder, version);
    if (readdirSync(entries).length > mostEntries) rmSync(entries, { recursive: true });
  }
  return folder;
}

/**
 * @param {string} folder absolute; a link on the way is refused too
 * @returns {boolean}
 */
function onlyOurs(folder) {
  for (let at = folder; ; at = dirname(at)) {
    const { uid, mode } = lstatSync(at);
    const ours = uid === 0 || uid === process.getuid?.();
    const closedDirectory = (mode & 0o170_022) === 0o040_000;
    if (!ours || !closedDirectory) return false;
    if (at === dirname(at)) return true;
  }
}

/**
 * Where everything of one installation lies: all under its state directory (surface.md §3), so
 * that many live side by side. Sockets move to /run/rackyard/<hash> where the path would be too
 * long for one. Makes nothing.
 */
import { chmod, mkdir, readdir, realpath, stat } from "node:fs/promises";
import { join, relative, resolve, sep } from "node:path";
import { fail, isRackyardError } from "../base/errors.ts";
import { nearestExisting } from "../base/files.ts";
import { sha256Hex } from "../base/ids.ts";
import { limits } from "../base/limits.ts";
import { defaultState } from "../cli/context.ts";

export type Places = ReturnType<typeof placesOf>;

export function placesOf(stateDirectory: string) {
  const state = resolve(stateDirectory);
  const run = join(state, "run");
  const server = join(state, "server");
  const log = join(state, "log");
  const tokens = join(state, "tokens");
  const sockets = socketDirectory(state);
  return {
    state,
    isDefault: state === defaultState,
    run,
    ready: join(run, "ready.json"),
    supervisor: join(run, "supervisor.json"),
    pidFile: (program: ProgramName) => join(run, `${program}.pid`),
    lock: (program: ProgramName) => join(run, `${program}.lock`),
    sockets,
    apiSocket: join(sockets, "api.sock"),
    gitSocket: join(sockets, "git.sock"),
    executorRun: join(sockets, "ssh"),
    server,
    database: join(server, "rackyard.db"),
    ports: join(server, "ports.json"),
    layoutInForce: join(server, "layout-in-force.json"),
    git: join(server, "git"),
    merger: join(server, "merger"),
    archive: join(server, "archive"),
    keys: join(server, "keys"),
    bin: join(state, "bin"),
    /** What image builds have under way; te-host's own. */
    imageWork: join(state, "images/work"),
    tokens,
    adminToken: join(tokens, "admin"),
    log,
    logFile: (program: ProgramName) => join(log, `${program}.jsonl`),
    /** What a program says before it has a log, and when it crashes. */
    outFile: (program: ProgramName) => join(log, `${program}.out`),
    layout: join(state, "layout"),
    changes: join(state, "changes.json"),
  };
}

/** The same by the directory's real path: a link to it names the same installation. */
/**
 * Makes the state directory where it is not there. Throws `state-unusable` where none can be, for
 * example below a file, or on /proc (where Node's own recursive mkdir would never end).
 */
export async function makeState(directory: string): Promise<Places> {
  const present = await nearestExisting(directory);
  try {
    if (!(await stat(present)).isDirectory()) fail("state-unusable", `${present} is no directory`);
    let path = present;
    for (const name of relative(present, directory).split(sep).filter(Boolean)) {
      path = join(path, name);
      await mkdir(path).catch(unlessThere);
    }
    await closeState(directory);
  } catch (error) {
    if (isRackyardError(error)) throw error;
    fail("state-unusable", `the state directory ${directory} cannot be made`, {
      cause: error,
      remedy: "choose another place with --state",
    });
  }
  return placesOf(await realpath(directory));
}

/**
 * The state directory is its owner's alone (0700): sockets, disks and logs lie in it. Only one
 * that is ours or empty is closed, as --state may name a wrong one.
 */
async function closeState(directory: string): Promise<void> {
  const { mode, uid } = await stat(directory);
  if ((mode & 0o077) === 0) return;
  const entries = await readdir(directory);
  const isOurs = entries.length === 0 || entries.some((name) => telling.has(name));
  if (uid === process.getuid?.() && isOurs) return chmod(directory, 0o700);
  fail("state-unusable", `${directory} is open to other users, and holds what is not Rackyard's`, {
    remedy: "choose a new or empty directory with --state, or close this one: chmod 700",
  });
}

/** Names by which a state directory is known, also one that is only prepared. */
const telling = new Set(["server", "te", "tokens", "rackyard.yaml", "layout", "images"]);

/** Another program has made it meanwhile. */
function unlessThere(error: NodeJS.ErrnoException): void {
  if (error.code !== "EEXIST") throw error;
}

export async function realPlaces(stateDirectory: string): Promise<Places> {
  return placesOf(await realpath(stateDirectory).catch(() => stateDirectory));
}

export type ProgramName = "up" | "server" | "te-host";

/** The longest name in it must fit: `ssh/<build>` is the executor's. */
const longestSocketName = "/ssh/00000000-0000-4000-8000-000000000000.0123456789abcdef";

function socketDirectory(state: string): string {
  const own = join(state, "run");
  if (Buffer.byteLength(own + longestSocketName) <= limits.socketPathBytes) return own;
  return join("/run/rackyard", sha256Hex(state).slice(0, 16));
}

/**
 * `rackyard down`: stops everything of one state directory in reverse order, ends its cell, and
 * proves that nothing is left (surface.md §8). Works when all of it is dead already, and twice.
 * `--purge` removes the state directory too.
 */
import { readdir, rm } from "node:fs/promises";
import { fail } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { publicAddressFile } from "../cli/context.ts";
import type { CliContext } from "../cli/context.ts";
import { endCell } from "../hypervisor/cell-end.ts";
import { mountsBelow } from "../hypervisor/mounts.ts";
import { endAbandonedBuild } from "../nodehost/abandoned-build.ts";
import { readChanges } from "./changes.ts";
import { ownLeaks } from "./leaks.ts";
import { endedWithin, endProcess, lives, readPidFile, signal } from "./pid-file.ts";
import type { Owner } from "./pid-file.ts";
import { realPlaces } from "./places.ts";
import type { Places } from "./places.ts";
import { installedUnit } from "./systemd/unit.ts";

type DownLine = {
  readonly event: "down";
  readonly stopped: readonly { readonly name: string; readonly pid: number }[];
  readonly removed: {
    readonly domains: number;
    readonly bridges: number;
    readonly processes: number;
    readonly mounts: number;
    readonly files: number;
  };
  readonly left: readonly { readonly kind: string; readonly name: string; readonly why: string }[];
};

export async function runDown(context: CliContext, options: { purge: boolean }): Promise<number> {
  const { globals, out } = context;
  const places = await realPlaces(globals.state);
  const entries = await readdir(places.state).catch(() => undefined);
  if (entries !== undefined && process.getuid?.() !== 0) {
    fail("not-root", "down needs root: what it stops and removes is root's", {
      remedy: "sudo rackyard down",
    });
  }
  if (options.purge && entries !== undefined) refuseForeign(places, entries);
  const line = entries === undefined ? nothing : await stopEverything(places, context);
  const purged = options.purge ? await purge(places, line) : { files: 0, packages: [] };
  const removed = { ...line.removed, files: line.removed.files + purged.files };
  const told: DownLine = { ...line, removed };
  out.result(told, () => downText(told, options.purge, places));
  if (purged.packages.length > 0) {
    out.talk(`packages stay installed: ${purged.packages.join(" ")}`);
  }
  return told.left.length === 0 ? 0 : 1;
}

const nothing: DownLine = {
  event: "down",
  stopped: [],
  removed: { domains: 0, bridges: 0, processes: 0, mounts: 0, files: 0 },
  left: [],
};

async function stopEverything(places: Places, context: CliContext): Promise<DownLine> {
  const stopped: { name: string; pid: number }[] = [];
  const left: DownLine["left"][number][] = [];
  const note = async (name: string, owner: Owner): Promise<void> => {
    if (await lives(owner)) {
      left.push({ kind: "process", name: `${name} ${owner.pid}`, why: "it does not end" });
    } else stopped.push({ name, pid: owner.pid });
  };
  // The supervisor first lets go, so that it starts nothing again; what it kept is stopped here.
  const up = await readPidFile(places.pidFile("up"));
  if (up) {
    await signal(up, "SIGUSR2");
    if (!(await endedWithin(up, limits.childGraceMs))) await endProcess(up, 0);
    await note("up", up);
  }
  for (const name of ["te-host", "server"] as const) {
    const owner = await readPidFile(places.pidFile(name));
    if (!owner) continue;
    context.out.talk(`stopping ${name}`);
    await endProcess(owner, limits.programGraceMs);
    await note(name, owner);
  }
  const build = await endAbandonedBuild(places.imageWork);
  if (build.pid !== undefined) stopped.push({ name: "image-build", pid: build.pid });
  const cell = await endCell(places.state);
  const mounts = cell.removed.mounts + build.mounts.length;
  const files = await removeRunFiles(places);
  const leaks = await ownLeaks(places);
  return {
    event: "down",
    stopped: [...stopped, ...cell.stopped.map(({ name, pid }) => ({ name, pid }))],
    removed: { ...cell.removed, mounts, files: cell.removed.files + files },
    left: [...left, ...leaks],
  };
}

async function removeRunFiles(places: Places): Promise<number> {
  const programs = ["up", "server", "te-host"] as const;
  const paths = [
    places.ready,
    publicAddressFile(places.state),
    places.supervisor,
    places.apiSocket,
    places.gitSocket,
    ...programs.flatMap((name) => [places.pidFile(name), places.lock(name)]),
    ...(places.sockets === places.run ? [] : [places.sockets]),
  ];
  let removed = 0;
  for (const path of paths) {
    try {
      await rm(path, { recursive: true });
      removed++;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return removed;
}

/** A directory that holds what is not ours is not purged: --state may name a wrong one. */
function refuseForeign(places: Places, entries: readonly string[]): void {
  const foreign = entries.filter((name) => !ours.has(name));
  if (foreign.length === 0) return;
  fail("usage", `${places.state} also holds ${foreign.slice(0, 3).join(", ")}: not purged`, {
    remedy: "check --state; move away what is yours",
  });
}

/** surface.md §3: all that stands in a state directory. */
const ours = new Set(
  "server te images run log tokens bin layout backup changes.json rackyard.yaml".split(" "),
);

async function purge(
  places: Places,
  line: DownLine,
): Promise<{ files: number; packages: readonly string[] }> {
  // Nothing is removed through a mount that could not be undone.
  if (line.left.length > 0) return { files: 0, packages: [] };
  const [mount] = await mountsBelow(places.state);
  if (mount !== undefined) {
    fail("usage", `${mount} is mounted: ${places.state} is not purged`, {
      remedy: `umount ${mount}, then again`,
    });
  }
  const { packages, directories } = await readChanges(places);
  for (const unit of await installedUnit(places.state, places.isDefault)) {
    await rm(unit, { force: true });
  }
  for (const directory of directories) {
    if (/^\/run\/rackyard\/[0-9a-f]{16}$/.test(directory)) {
      await rm(directory, { recursive: true, force: true });
    }
  }
  const files = (await readdir(places.state, { recursive: true }).catch(() => [])).length;
  await rm(places.state, { recursive: true, force: true });
  return { files, packages };
}

function downText(line: DownLine, purged: boolean, places: Places): string {
  const { removed } = line;
  const counts = Object.entries(removed)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => `${count} ${name}`);
  return [
    line.stopped.length === 0
      ? "nothing was running"
      : `stopped: ${line.stopped.map(({ name, pid }) => `${name} (${pid})`).join(", ")}`,
    ...(counts.length === 0 ? [] : [`removed: ${counts.join(", ")}`]),
    ...(purged && line.left.length === 0 ? [`${places.state} is gone`] : []),
    ...(line.left.length === 0
      ? ["nothing is left"]
      : line.left.map(({ kind, name, why }) => `left: ${kind} ${name}: ${why}`)),
  ].join("\n");
}

/**
 * The log archive on a file system: one folder a build under its LOG_PATH (ci.md L-1, L-2,
 * surface.md §10), filled by the executor while it runs, finished with the host's files, the
 * evidence and an index. `rack/` is a link to the lease's files, so that what a host brings home
 * later (the certificate, after the reset) is there by itself.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readdir, rm, stat, symlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import type { Readable } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import { isRackyardError } from "../../base/errors.ts";
import { writeFileAtomic } from "../../base/files.ts";
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { until } from "../../base/wait.ts";
import type { Evidence } from "../../model/build.ts";
import { followConsole, openConsole } from "./console.ts";
import type { LiveConsole, NumberedLine } from "./console.ts";
import { chooseEvidence, searchEvidence } from "./evidence.ts";
import { indexPage } from "./index-page.ts";
import { unpackLogs } from "./unpack.ts";
import type { UnpackReport } from "./unpack.ts";

/** What the archive needs to know of a build; `BuildFacts` of ci/builds has it. */
export type ArchivedBuild = {
  readonly id: string;
  readonly project: string;
  readonly changes: readonly { readonly change: number; readonly patchset: number }[];
  readonly job: { readonly name: string };
  readonly logsPath: string;
  readonly logsUrl: string;
  readonly buildUrl: string;
};

export type ArchiveOptions = {
  readonly directory: string;
  readonly clock: Clock;
  readonly log: Log;
};

export type FileArchive = ReturnType<typeof openFileArchive>;

/** Where files that hosts brought home lie, per lease; handed to the broker by `main`. */
export function leaseFilesDirectory(archive: string): string {
  return join(archive, ".leases");
}

export function openFileArchive(options: ArchiveOptions) {
  const { directory, clock } = options;
  const consoles = new Map<string, LiveConsole>();
  const folder = (build: { logsPath: string }): string => join(directory, build.logsPath);
  const say = (buildId: string, line: string): void =>
    consoles.get(buildId)?.write(line, clock.wallMs());

  return {
    directory,
    /** Makes the folder, opens the console; again after a restart: the console goes on. */
    async begin(build: ArchivedBuild): Promise<void> {
      await mkdir(folder(build), { recursive: true });
      if (consoles.has(build.id)) return;
      const path = join(folder(build), "console.log");
      const size = await stat(path).then(
        (found) => found.size,
        () => 0,
      );
      consoles.set(build.id, openConsole(path, size));
      if (size === 0) say(build.id, `Detailed logs: ${build.logsUrl}`);
    },
    say,
    /** A file of the build, whole. */
    put: (build: ArchivedBuild, path: string, content: string): Promise<void> =>
      writeFileAtomic(join(folder(build), path), content),
    /** The job's `logs/` as a tar stream. */
    logs: (build: ArchivedBuild, stream: Readable, signal: AbortSignal): Promise<UnpackReport> =>
      unpackLogs(stream, join(folder(build), "logs"), limits.collectLogsBytes, signal),
    /** One machine's tarball, as it streams; false where it was cut at the limit. */
    machine: (build: ArchivedBuild, name: string, stream: Readable, signal: AbortSignal) =>
      saveMachine(join(folder(build), "logs/machines", `${name}.tar.gz`), stream, signal),
    missing: (build: ArchivedBuild, name: string, reason: string): Promise<void> =>
      writeFileAtomic(join(folder(build), "logs/machines", `${name}.missing`), `${reason}\n`),
    finish: (
      build: ArchivedBuild,
      ending: { result: string; lease: { id: string } | null; timeline: readonly object[] },
      signal: AbortSignal,
    ): Promise<{ evidence: readonly Evidence[] }> => finish(build, ending, signal),
    /** Closes a console without more: the build is tried again, or the server stops. */
    close(buildId: string): void {
      consoles.get(buildId)?.close();
      consoles.delete(buildId);
    },
    console: (
      build: { id: string; logsPath: string },
      afterSeq: number,
      signal: AbortSignal,
    ): AsyncGenerator<NumberedLine> =>
      followConsole(join(folder(build), "console.log"), afterSeq, consoles.get(build.id), signal),
    files: (build: { logsPath: string }) => listFiles(folder(build)),
    sweep: (keepDays: number, maxBytes: number) =>
      sweep(directory, clock.wallMs() - keepDays * 86_400_000, maxBytes, options.log),
  };

  async function finish(
    build: ArchivedBuild,
    ending: { result: string; lease: { id: string } | null; timeline: readonly object[] },
    signal: AbortSignal,
  ): Promise<{ evidence: readonly Evidence[] }> {
    const home = folder(build);
    await mkdir(home, { recursive: true });
    if (ending.lease) await linkRack(build, ending.lease.id, signal);
    const lines = ending.timeline.map((entry) => `${JSON.stringify(entry)}\n`);
    await writeFileAtomic(join(home, "timeline.jsonl"), lines.join(""));
    const evidence = ending.result === "SUCCESS" ? [] : await findEvidence(home);
    say(build.id, `Result: ${ending.result}`);
    consoles.get(build.id)?.close();
    consoles.delete(build.id);
    const last = build.changes.at(-1);
    const page = indexPage({
      job: build.job.name,
      project: build.project,
      change: last ? `${last.change},${last.patchset}` : "none",
      result: ending.result,
      buildUrl: build.buildUrl,
      files: (await listFiles(home)).filter((file) => file.path !== "index.html"),
    });
    await writeFileAtomic(join(home, "index.html"), page);
    return { evidence };
  }

  /** The host's files: waited for until its time line is there, ten seconds at most. */
  async function linkRack(build: ArchivedBuild, lease: string, signal: AbortSignal): Promise<void> {
    const files = join(leaseFilesDirectory(directory), lease);
    await mkdir(files, { recursive: true });
    const link = join(folder(build), "rack");
    await rm(link, { force: true });
    await symlink(relative(dirname(link), files), link);
    const there = async (): Promise<boolean> =>
      (await readdir(files)).some((name) => name.startsWith("timeline.jsonl"));
    try {
      await until(there, {
        timeoutMs: limits.hostFilesMs,
        signal,
        what: "the host's files of this lease",
      });
    } catch (error) {
      if (!isRackyardError(error, "timed-out")) throw error;
      say(build.id, "the host's files did not come within 10 s; they may follow");
    }
  }
}

async function saveMachine(
  path: string,
  stream: Readable,
  signal: AbortSignal,
): Promise<{ bytes: number; whole: boolean }> {
  await mkdir(dirname(path), { recursive: true });
  const out = createWriteStream(path, { mode: 0o644 });
  let bytes = 0;
  let whole = true;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      signal.throwIfAborted();
      const room = limits.collectMachineBytes - bytes;
      if (chunk.length > room) whole = false;
      const piece = chunk.subarray(0, Math.max(0, room));
      bytes += piece.length;
      if (piece.length > 0 && !out.write(piece)) {
        await new Promise<void>((resolve) => out.once("drain", resolve));
      }
      if (!whole) break;
    }
  } finally {
    await new Promise<void>((resolve) => out.end(resolve));
  }
  if (bytes === 0) await rm(path, { force: true });
  return { bytes, whole };
}

/** Reads the job's console and the machines' for evidence. */
async function findEvidence(home: string): Promise<Evidence[]> {
  const rack = await readdir(join(home, "rack")).catch((): string[] => []);
  const files = [
    ...rack.filter((name) => /^console-.*\.log$/.test(name)).map((name) => `rack/${name}`),
    "console.log",
  ];
  const found: Evidence[] = [];
  for (const file of files) {
    const search = searchEvidence(file, file === "console.log");
    const splitter = openLineSplitter(limits.lineBytes, (line) => search.push(line));
    const stream = createReadStream(join(home, file));
    for await (const chunk of stream as AsyncIterable<Buffer>) splitter.push(chunk);
    splitter.end();
    found.push(...search.found());
  }
  return chooseEvidence(found);
}

/** Files below a build's folder, `rack/` with them; other links are not followed. */
async function listFiles(home: string): Promise<{ path: string; bytes: number }[]> {
  const found: { path: string; bytes: number }[] = [];
  const walk = async (prefix: string): Promise<void> => {
    const entries = await readdir(join(home, prefix), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
      if (entry.isDirectory() || path === "rack") await walk(path);
      else if (entry.isFile() && !entry.name.endsWith(".new")) {
        found.push({ path, bytes: (await stat(join(home, path))).size });
      }
    }
  };
  await walk("");
  return found.sort((x, y) => (x.path < y.path ? -1 : 1));
}

/** Removes builds' folders older than the limit, then the oldest until all fit. */
async function sweep(
  directory: string,
  olderThanMs: number,
  maxBytes: number,
  log: Log,
): Promise<number> {
  const builds: { path: string; atMs: number; bytes: number }[] = [];
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name !== "index.html") continue;
    const path = entry.parentPath;
    const { mtimeMs } = await stat(join(path, entry.name));
    const bytes = (await listFiles(path)).reduce((sum, file) => sum + file.bytes, 0);
    builds.push({ path, atMs: mtimeMs, bytes });
  }
  builds.sort((x, y) => x.atMs - y.atMs);
  let total = builds.reduce((sum, build) => sum + build.bytes, 0);
  let removed = 0;
  for (const build of builds) {
    if (build.atMs >= olderThanMs && total <= maxBytes) break;
    await rm(build.path, { recursive: true, force: true });
    log.info({ logs: relative(directory, build.path) }, "archived build removed");
    total -= build.bytes;
    removed++;
  }
  return removed;
}

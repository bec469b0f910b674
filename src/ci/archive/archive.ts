/**
 * The archive of builds (ci.md L-1, L-2, surface.md §10): a folder a build under its LOG_PATH in
 * a store, filled by the executor while it runs, finished with the host's files, the evidence and
 * an index. The console lies on this machine's disk until it is whole. A full disk ends nothing:
 * what is ours waits and is written when there is room, what a job leaves is told as missing.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { addAbortSignal } from "node:stream";
import type { Readable } from "node:stream";
import { present } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Troubles } from "../../base/troubles.ts";
import { until } from "../../base/wait.ts";
import type { Evidence } from "../../model/build.ts";
import type { ArchiveStore, Put } from "./archive-store.ts";
import { COLLECTED, missingOf, readCollected, roomFor } from "./collected.ts";
import type { Collected } from "./collected.ts";
import { chooseRemovals, putRecord, readRecords, removeBuild } from "./build-records.ts";
import type { ArchivedRecord } from "./build-records.ts";
import { collectTar } from "./collector.ts";
import type { CollectedLogs } from "./collector.ts";
import { openConsole } from "./console.ts";
import type { LiveConsole } from "./console.ts";
import { findEvidence } from "./evidence-search.ts";
import { openFileStore } from "./file-store.ts";
import { indexPage } from "./index-page.ts";
import { openPace } from "./pace.ts";
import { openRacks } from "./rack-files.ts";
import { openReader } from "./reader.ts";

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
  /** Of this machine: live consoles, files of leases, and by default the store. */
  readonly directory: string;
  readonly store?: ArchiveStore;
  readonly keepDays: number;
  readonly maxBytes: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  /** Of one build's logs and machines together, and of one machine. */
  readonly buildBytes?: number;
  readonly machineBytes?: number;
};

/** How a build ended. */
export type Ending = {
  readonly result: string;
  readonly lease: { readonly id: string } | null;
  readonly timeline: readonly object[];
};

export type FileArchive = ReturnType<typeof openFileArchive>;

/** A build that is not finished. */
type Live = {
  readonly logsPath: string;
  readonly console: LiveConsole;
  readonly beganMs: number;
  /** Ours, not written yet: the disk took none. */
  readonly unwritten: Map<string, string>;
  readonly collected: Collected;
  resultSaid: boolean;
};

const TROUBLE = "writing the archive";

/** Where files that hosts brought home lie, per lease; handed to the broker by `main`. */
export function leaseFilesDirectory(archive: string): string {
  return join(archive, ".leases");
}

export function openFileArchive(options: ArchiveOptions) {
  const { directory, clock, log, troubles } = options;
  const { buildBytes = limits.collectBuildBytes, machineBytes = limits.collectMachineBytes } =
    options;
  const store = options.store ?? openFileStore(directory);
  const lives = new Map<string, Live>();
  const racks = openRacks(store, leaseFilesDirectory(directory));
  const allConsoles = openPace(clock, limits.consolesBytesPerSecond);
  const consoleFolder = (id: string): string => join(directory, ".running", id);
  const pathOf = (build: { logsPath: string }, path: string): string => `${build.logsPath}/${path}`;
  const say = (buildId: string, line: string): void => lives.get(buildId)?.console.say(line);

  /** A file of our own: written now, or when the disk takes it again. */
  async function keep(build: ArchivedBuild, path: string, content: string): Promise<void> {
    const live = lives.get(build.id);
    try {
      await store.put(pathOf(build, path), content);
      live?.unwritten.delete(path);
      troubles.end(TROUBLE);
    } catch (error) {
      if (!live || !isRackyardError(error, "no-space")) throw error;
      troubles.begin(TROUBLE, describeError(error));
      live.unwritten.set(path, content);
    }
  }

  async function begin(build: ArchivedBuild): Promise<void> {
    if (lives.has(build.id)) return;
    const folder = consoleFolder(build.id);
    const collected = await readCollected(store, pathOf(build, COLLECTED));
    if (lives.has(build.id)) return;
    const live: Live = {
      logsPath: build.logsPath,
      console: openConsole({
        folder,
        clock,
        pace: openPace(clock, limits.consoleBytesPerSecond, allConsoles),
        troubles,
      }),
      beganMs: clock.wallMs(),
      unwritten: new Map(),
      collected,
      resultSaid: false,
    };
    lives.set(build.id, live);
    const isNew = !(await readdir(folder).catch((): string[] => [])).includes("console.log");
    if (isNew) live.console.say(`Detailed logs: ${build.logsUrl}`);
    const record = recordOf(build, live, null);
    await putRecord(store, record).catch((error: unknown) => {
      troubles.begin(TROUBLE, describeError(error)); // finish writes it
    });
    await live.console.flushed();
  }

  async function logs(
    build: ArchivedBuild,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<CollectedLogs> {
    const live = present(lives.get(build.id), `console of build ${build.id}`);
    live.collected.logs = null; // taken once more: what was taken before is replaced
    const bounds = roomFor(live.collected, buildBytes);
    try {
      const source = abortable(stream, signal);
      const taken = await collectTar(source, store, pathOf(build, "logs"), bounds, signal);
      live.collected.logs = taken;
      return taken;
    } catch (error) {
      const cut = describeError(error);
      live.collected.logs = { files: 0, bytes: 0, left: [], leftMore: 0, cut };
      throw error;
    }
  }

  /** What the node did not send, in its words. */
  async function leftOut(build: ArchivedBuild, names: readonly string[]): Promise<void> {
    const collected = lives.get(build.id)?.collected;
    if (!collected?.logs) return;
    collected.logs = { ...collected.logs, left: [...names, ...collected.logs.left] };
    // for a server's next life: it is the last that is collected
    await keep(build, COLLECTED, `${JSON.stringify(collected, null, 2)}\n`);
  }

  /** One machine's tarball, as it streams; `whole` false where it was cut at the limit. */
  async function machine(
    build: ArchivedBuild,
    name: string,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<Put> {
    const live = present(lives.get(build.id), `console of build ${build.id}`);
    const path = pathOf(build, `logs/machines/${name}.tar.gz`);
    const room = roomFor(live.collected, buildBytes).bytes;
    const limitBytes = Math.min(machineBytes, room);
    const got = await store.put(path, abortable(stream, signal), { limitBytes, signal });
    if (got.bytes === 0) await store.remove(path);
    live.collected.machines[name] = got;
    return got;
  }

  async function missing(build: ArchivedBuild, name: string, reason: string): Promise<void> {
    const { machines } = present(lives.get(build.id), `console of build ${build.id}`).collected;
    machines[name] = { ...(machines[name] ?? { bytes: 0, whole: false }), why: reason };
    await keep(build, `logs/machines/${name}.missing`, `${reason}\n`);
  }

  /** May be called again after any failure. Throws `no-space` until there is some. */
  async function finish(
    build: ArchivedBuild,
    ending: Ending,
    signal: AbortSignal,
  ): Promise<{ evidence: readonly Evidence[] }> {
    try {
      const live = lives.get(build.id);
      if (ending.lease) await takeRack(build, ending.lease.id, signal);
      const lines = ending.timeline.map((entry) => `${JSON.stringify(entry)}\n`);
      await store.put(pathOf(build, "timeline.jsonl"), lines.join(""));
      for (const [path, content] of live?.unwritten ?? []) {
        await store.put(pathOf(build, path), content);
      }
      if (live) await finishConsole(build, live, ending.result);
      const evidence =
        ending.result === "SUCCESS" ? [] : await findEvidence(store, build.logsPath, signal);
      await writeIndex(build, ending, live?.collected);
      await putRecord(store, await measured(recordOf(build, live, clock.wallMs())));
      troubles.end(TROUBLE);
      await close(build.id);
      await rm(consoleFolder(build.id), { recursive: true, force: true });
      return { evidence };
    } catch (error) {
      signal.throwIfAborted();
      troubles.begin(TROUBLE, describeError(error));
      throw error;
    }
  }

  async function finishConsole(build: ArchivedBuild, live: Live, result: string): Promise<void> {
    if (!live.resultSaid) live.console.say(`Result: ${result}`);
    live.resultSaid = true;
    await live.console.finish();
    await store.put(pathOf(build, "console.log"), { file: live.console.path });
    const { collected } = live;
    if (collected.logs || Object.keys(collected.machines).length > 0) {
      await store.put(pathOf(build, COLLECTED), `${JSON.stringify(collected, null, 2)}\n`);
    }
  }

  async function writeIndex(
    build: ArchivedBuild,
    ending: Ending,
    collected: Collected | undefined,
  ): Promise<void> {
    const last = build.changes.at(-1);
    const files = (await store.list(build.logsPath)).filter((file) => file.path !== "index.html");
    const page = indexPage({
      job: build.job.name,
      project: build.project,
      change: last ? `${last.change},${last.patchset}` : "none",
      result: ending.result,
      buildUrl: build.buildUrl,
      files,
      missing: collected ? missingOf(collected) : [],
    });
    await store.put(pathOf(build, "index.html"), page);
  }

  /** The host's files: waited for until its time line is there, ten seconds at most. */
  async function takeRack(build: ArchivedBuild, lease: string, signal: AbortSignal): Promise<void> {
    const files = join(leaseFilesDirectory(directory), lease);
    await mkdir(files, { recursive: true });
    await racks.add(build.logsPath, lease);
    const there = async (): Promise<boolean> =>
      (await readdir(files)).some((name) => name.startsWith("timeline.jsonl"));
    const wait = { timeoutMs: limits.hostFilesMs, signal, what: "the host's files of this lease" };
    try {
      await until(there, wait);
    } catch (error) {
      if (!isRackyardError(error, "timed-out")) throw error;
      say(build.id, "the host's files did not come within 10 s; they may follow");
    }
    await racks.look(build.logsPath);
  }

  async function close(buildId: string): Promise<void> {
    const live = lives.get(buildId);
    lives.delete(buildId);
    await live?.console.close();
  }

  async function measured(record: ArchivedRecord): Promise<ArchivedRecord> {
    return { ...record, ...(await store.usage(record.logsPath)) };
  }

  /** For the hourly retention: what is too old goes, then the oldest until the rest fits. */
  async function sweep(signal: AbortSignal): Promise<{ freedBytes: number; removed: number }> {
    const grown = new Set(await racks.lookAtAll(signal));
    const records: ArchivedRecord[] = [];
    for await (const record of readRecords(store)) {
      signal.throwIfAborted();
      const now = grown.has(record.logsPath) ? await measured(record) : record;
      if (now !== record) await putRecord(store, now);
      records.push(now);
    }
    const olderThanMs = clock.wallMs() - options.keepDays * 86_400_000;
    const running = new Set(lives.keys());
    let freedBytes = 0;
    let removed = 0;
    for (const record of chooseRemovals(records, running, olderThanMs, options.maxBytes)) {
      signal.throwIfAborted();
      await removeBuild(store, record);
      log.info({ build: record.id, logs: record.logsPath }, "archived build removed");
      freedBytes += record.bytes;
      removed++;
    }
    return { freedBytes, removed };
  }

  return {
    directory,
    begin,
    say,
    /** A line of the job. */
    output: (buildId: string, line: string): void => lives.get(buildId)?.console.output(line),
    /** Resolves when the job may say more; undefined: at once. */
    room: (buildId: string): Promise<void> | undefined => lives.get(buildId)?.console.room(),
    /** A file of the build, whole. */
    put: keep,
    logs,
    leftOut,
    machine,
    missing,
    finish,
    /** Closes what is open: its builds go on when they are begun again. */
    async [Symbol.asyncDispose](): Promise<void> {
      await Promise.all([...lives.keys()].map(close));
    },
    ...openReader({ store, directory, racks, lives, log }),
    sweep,
  };
}

/** Ends with the signal, also while nobody reads it. */
function abortable(stream: Readable, signal: AbortSignal): Readable {
  stream.on("error", () => undefined);
  return addAbortSignal(signal, stream);
}

function recordOf(
  build: ArchivedBuild,
  live: Live | undefined,
  endedMs: number | null,
): ArchivedRecord {
  const { id, logsPath } = build;
  const beganMs = live?.beganMs ?? endedMs ?? 0;
  return { id, logsPath, beganMs, endedMs, files: 0, bytes: 0 };
}

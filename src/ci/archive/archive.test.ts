import { mkdir, mkdtemp, readdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { RackyardError } from "../../base/errors.ts";
import { silentLog } from "../../base/log.ts";
import { openTroubles } from "../../base/troubles.ts";
import type { ArchiveStore } from "./archive-store.ts";
import { leaseFilesDirectory, openFileArchive } from "./archive.ts";
import type { ArchivedBuild, ArchiveOptions, FileArchive } from "./archive.ts";
import { openFileStore } from "./file-store.ts";

let directory: string;
let archive: FileArchive;
const signal = new AbortController().signal;
const RUNNING = "eeeeeeee-1111-4222-8333-444444444444";
const LEASE = "cccccccc-1111-4222-8333-444444444444";
const build: ArchivedBuild = {
  id: "aaaaaaaa-1111-4222-8333-444444444444",
  project: "tool",
  changes: [{ change: 4, patchset: 1 }],
  job: { name: "unit <&>" },
  logsPath: "04/4/1/check/unit/aaaaaaa",
  logsUrl: "http://x/logs/04/4/1/check/unit/aaaaaaa/",
  buildUrl: "http://x/builds/a",
};

const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
const open = (change: Partial<ArchiveOptions> = {}): FileArchive =>
  openFileArchive({
    directory,
    keepDays: 30,
    maxBytes: 2 ** 30,
    clock: systemClock,
    log: silentLog,
    troubles,
    ...change,
  });

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-archive-"));
  archive = open();
  await archive.begin(build);
});
afterEach(async () => {
  await archive[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const read = (path: string): Promise<string> =>
  readFile(join(directory, build.logsPath, path), "utf8");

const ended = { result: "SUCCESS", lease: null, timeline: [] };

async function lines(): Promise<string[]> {
  const found: string[] = [];
  for await (const { line } of archive.console(build, 0, signal, false)) found.push(line.slice(26));
  return found;
}

test("L-1 the console's first line says where the logs are", async () => {
  expect(await lines()).toEqual(["Detailed logs: http://x/logs/04/4/1/check/unit/aaaaaaa/"]);
  await archive.finish(build, ended, signal);
  expect(await read("console.log")).toMatch(/^\d{4}-\d\d-\d\d [\d:.]{12} \| Detailed logs: /);
});

test("X-3 a console is followed from any line while it grows, and ends with it", async () => {
  const seen: string[] = [];
  const following = (async () => {
    for await (const { seq, line } of archive.console(build, 1, signal)) {
      seen.push(`${seq} ${line.slice(26)}`);
      if (seq === 3) await archive.finish(build, ended, signal);
    }
  })();
  archive.say(build.id, "two");
  archive.say(build.id, "three");
  await following;
  expect(seen).toEqual(["2 two", "3 three", "4 Result: SUCCESS"]);
});

test("lease.md §6, L-4 the host's files become rack/, also those that come later", async () => {
  const files = join(leaseFilesDirectory(directory), LEASE);
  await mkdir(files, { recursive: true });
  await writeFile(join(files, "timeline.jsonl"), "{}\n");
  await writeFile(join(files, "console-te1-n0.log"), "boot\nKernel panic - not syncing: x\n");
  const { evidence } = await archive.finish(
    build,
    { result: "FAILURE", lease: { id: LEASE }, timeline: [] },
    signal,
  );
  expect(evidence).toMatchObject([
    { file: "rack/console-te1-n0.log", line: 1, text: "boot", rule: "panic-cause" },
    { file: "rack/console-te1-n0.log", line: 2, rule: "kernel-panic" },
  ]);
  await writeFile(join(files, "certificate.json"), "{}");
  const names = (await archive.files(build)).map((file) => file.path);
  expect(names).toContain("rack/certificate.json");
  expect(await read("index.html")).toContain("unit &lt;&amp;&gt;: FAILURE");
});

test("section 5 rack/ is whole as long as the build: the lease's own folder may go", async () => {
  const files = join(leaseFilesDirectory(directory), LEASE);
  await mkdir(files, { recursive: true });
  await writeFile(join(files, "timeline.jsonl"), "{}\n");
  await writeFile(join(files, "console-te1-n0.log"), "short\n");
  await archive.finish(build, { ...ended, lease: { id: LEASE } }, signal);
  // brought home once more, longer, under its name
  await writeFile(join(files, "aside"), "short\nand the end\n");
  await rename(join(files, "aside"), join(files, "console-te1-n0.log"));
  archive = open(); // a server's next life knows it too
  expect((await archive.entries(`${build.logsPath}/rack`)).map(({ name }) => name)).toEqual([
    "console-te1-n0.log",
    "timeline.jsonl",
  ]);
  expect((await archive.open(`${build.logsPath}/rack/console-te1-n0.log`))?.bytes).toBe(18);
  await writeFile(join(files, "certificate.json"), "{}");
  await archive.sweep(signal);
  await rm(files, { recursive: true });
  await archive.sweep(signal);
  expect((await archive.files(build)).map(({ path }) => path)).toEqual([
    "console.log",
    "index.html",
    "rack/certificate.json",
    "rack/console-te1-n0.log",
    "rack/timeline.jsonl",
    "timeline.jsonl",
  ]);
  expect(await readdir(join(directory, ".racks")).catch(() => [])).toEqual([]);
  expect(await readdir(join(directory, build.logsPath, "rack"))).toHaveLength(3); // nothing aside
});

test("X-3 a finished console is whole, also where its reader is slow", async () => {
  for (let number = 0; number < 20_000; number++) archive.output(build.id, `line ${number}`);
  await archive.finish(build, ended, signal);
  expect(await lines()).toHaveLength(20_002);
});

// ---- the sweep

async function archived(number: number, files: Readonly<Record<string, string>>) {
  const id = `${String(number).padStart(8, "0")}-1111-4222-8333-444444444444`;
  const one = { ...build, id, logsPath: `0${number}/${number}/1/check/unit/${id.slice(0, 7)}x` };
  await archive.begin(one);
  for (const [path, content] of Object.entries(files)) await archive.put(one, path, content);
  await archive.finish(one, ended, signal);
  return one;
}

const there = async (one: ArchivedBuild): Promise<boolean> =>
  (await archive.open(`${one.logsPath}/console.log`)) !== undefined;

test("section 9 a job's own index.html is no build: the sweep goes by the record", async () => {
  const nested = { "logs/index.html": "x", "logs/deep/down/index.html": "x" };
  const kept = await archived(1, nested);
  const past = new Date(0);
  for (const path of Object.keys(nested)) {
    await utimes(join(directory, kept.logsPath, path), past, past);
  }
  expect(await archive.sweep(signal)).toEqual({ freedBytes: 0, removed: 0 });
  expect((await archive.files(kept)).map(({ path }) => path)).toContain("logs/index.html");
});

test("the sweep keeps days: what is older goes, with the folders that are empty then", async () => {
  const day = 86_400_000;
  let nowMs = Date.now() - 31 * day;
  archive = open({ clock: { ...systemClock, wallMs: () => nowMs } });
  const old = await archived(1, {});
  nowMs += 2 * day;
  const young = await archived(2, {});
  nowMs = Date.now();
  expect(await archive.sweep(signal)).toMatchObject({ removed: 1 });
  expect([await there(old), await there(young)]).toEqual([false, true]);
  expect(await readdir(directory)).not.toContain("01");
});

test("the sweep keeps the size: the oldest go until the rest fits, a build that runs stays", async () => {
  let nowMs = Date.now() - 31 * 86_400_000;
  archive = open({ maxBytes: 250_000, clock: { ...systemClock, wallMs: () => nowMs } });
  await archive.begin({ ...build, id: RUNNING, logsPath: "r/1" }); // runs, too old by its days
  nowMs = Date.now();
  const builds = [];
  for (const number of [1, 2, 3]) {
    builds.push(await archived(number, { "logs/big": "x".repeat(100_000) }));
  }
  const { freedBytes, removed } = await archive.sweep(signal);
  expect(await readdir(join(directory, ".builds"))).toContain(`${RUNNING}.json`);
  expect([removed, Math.round(freedBytes / 10_000)]).toEqual([1, 10]);
  expect(await Promise.all(builds.map(there))).toEqual([false, true, true]);
  const running = { ...build, id: RUNNING, logsPath: "r/1" };
  await archive.put(running, "manifest.json", "{}");
  await archive.finish(running, ended, signal);
});

test("a sweep ends with its signal, and goes on where it was", async () => {
  archive = open({ maxBytes: 0 });
  await archived(1, {});
  await archived(2, {});
  await expect(archive.sweep(AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
  expect(await archive.sweep(signal)).toMatchObject({ removed: 2 });
});

// ---- a disk that is full

/** A store whose writes fail while `full` is set; all else is the real one. */
function fillable(): { store: ArchiveStore; full: { now: boolean; path: string } } {
  const full = { now: false, path: "nothing" };
  const store = openFileStore(directory);
  const put: ArchiveStore["put"] = (path, source, how) =>
    full.now || path.endsWith(full.path)
      ? Promise.reject(new RackyardError("no-space", "full"))
      : store.put(path, source, how);
  return { full, store: { ...store, put } };
}

test("section 1 a full archive disk: begin and put go on, finish says so until there is room", async () => {
  const { store, full } = fillable();
  archive = open({ store });
  full.now = true;
  const one = { ...build, id: "dddddddd-1111-4222-8333-444444444444", logsPath: "d/1" };
  await archive.begin(one);
  await archive.put(one, "manifest.json", "{}");
  expect(troubles.list()).toMatchObject([{ what: "writing the archive" }]);
  await expect(archive.finish(one, ended, signal)).rejects.toMatchObject({ code: "no-space" });
  full.now = false;
  full.path = "index.html"; // once more, when most is done
  await expect(archive.finish(one, ended, signal)).rejects.toMatchObject({ code: "no-space" });
  full.path = "nothing";
  await archive.finish(one, ended, signal);
  expect(troubles.list()).toEqual([]);
  expect((await archive.files(one)).map(({ path }) => path)).toContain("manifest.json");
  const console = await readFile(join(directory, "d/1/console.log"), "utf8");
  expect(console.match(/Result: SUCCESS/g)).toHaveLength(1);
});

// ---- what is collected

test("L-2 a machine's tarball is cut at its limit, and all of a build's at theirs; both are said", async () => {
  archive = open({ machineBytes: 1_000, buildBytes: 2_500 });
  await archive.begin(build);
  const take = (name: string) => archive.machine(build, name, endless(), signal);
  expect(await take("n0")).toEqual({ bytes: 1_000, whole: false });
  await archive.missing(build, "n0", "cut at 1000 bytes");
  expect(await take("n1")).toEqual({ bytes: 1_000, whole: false });
  expect(await take("n2")).toEqual({ bytes: 500, whole: false });
  expect(await take("n3")).toEqual({ bytes: 0, whole: false });
  await archive.finish(build, ended, signal);
  const sizes = (await archive.files(build)).filter(({ path }) => path.endsWith(".tar.gz"));
  expect(sizes.map(({ bytes }) => bytes)).toEqual([1_000, 1_000, 500]);
  expect(await read("index.html")).toContain("<li>n0: cut at 1000 bytes</li>");
  expect(JSON.parse(await read("collected.json"))).toMatchObject({
    machines: { n0: { bytes: 1_000, whole: false, why: "cut at 1000 bytes" } },
  });
});

test("what was collected, and what is missing, is known to a server's next life", async () => {
  const tar = Buffer.alloc(1_024);
  await archive.logs(build, Readable.from([tar]), signal);
  await archive.leftOut(build, ["left out: lastlog: 2147483648 bytes"]);
  await archive[Symbol.asyncDispose]();
  archive = open();
  await archive.begin(build);
  await archive.finish(build, ended, signal);
  expect(await read("index.html")).toContain("<li>left out: lastlog: 2147483648 bytes</li>");
});

test("section 9 a machine that never stops, or never speaks, ends with the signal", async () => {
  for (const source of [endless(), new Readable({ read: () => undefined })]) {
    const stop = new AbortController();
    archive = open({ machineBytes: 2 ** 40, buildBytes: 2 ** 40 });
    await archive.begin(build);
    const taking = archive.machine(build, "n0", source, stop.signal);
    const over = taking.then(
      () => "ended",
      () => "aborted",
    );
    setImmediate(() => stop.abort());
    expect(await over).toBe("aborted");
    expect(source.destroyed).toBe(true);
    await archive[Symbol.asyncDispose]();
  }
});

/** A peer that never stops talking. */
function endless(): Readable {
  return new Readable({
    read() {
      setImmediate(() => this.push(Buffer.alloc(300)));
    },
  });
}

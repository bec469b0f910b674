import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addAbortSignal, Readable } from "node:stream";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../base/command.ts";
import { collectTar } from "./collector.ts";
import type { CollectedLogs } from "./collector.ts";
import { openFileStore } from "./file-store.ts";

let directory: string;
let source: string;
const signal = new AbortController().signal;
const bounds = { bytes: 1_000_000, files: 100 };

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "rackyard-collector-"));
  source = join(directory, "source");
  mkdirSync(source);
});
afterEach(() => rmSync(directory, { recursive: true }));

/** What GNU tar makes of files; the real one. */
async function tar(...args: string[]): Promise<Buffer> {
  await run("tar", ["-C", source, "-cf", join(directory, "tar"), ...args]);
  return readFile(join(directory, "tar"));
}

function collect(
  bytes: Uint8Array | Readable,
  how: Partial<typeof bounds> = {},
): Promise<CollectedLogs> {
  const stream = bytes instanceof Readable ? bytes : Readable.from([bytes]);
  const store = openFileStore(join(directory, "store"));
  return collectTar(stream, store, "logs", { ...bounds, ...how }, signal);
}

const kept = (path: string): Promise<string> =>
  readFile(join(directory, "store/logs", path), "utf8");

test("L-2 logs/ keeps its folders, as they were, whatever way tar writes long names", async () => {
  const deep = `${"d".repeat(90)}/${"e".repeat(90)}`;
  mkdirSync(join(source, deep), { recursive: true });
  writeFileSync(join(source, deep, `${"f".repeat(150)}.txt`), "deep");
  writeFileSync(join(source, "empty"), "");
  writeFileSync(join(source, ".dot"), "d");
  for (const format of ["gnu", "posix"]) {
    const report = await collect(await tar(`--format=${format}`, "."));
    expect(report).toEqual({ files: 3, bytes: 5, left: [], leftMore: 0, cut: null });
    expect(await kept(`${deep}/${"f".repeat(150)}.txt`)).toBe("deep");
    expect(await kept(".dot")).toBe("d");
    expect(await kept("empty")).toBe("");
  }
});

test("L-2 nothing leads out of the archive; what is no plain file is named", async () => {
  writeFileSync(join(source, "evil"), "x");
  await run("ln", ["-s", "/etc/passwd", join(source, "link")]);
  await run("mkfifo", [join(source, "pipe")]);
  const bytes = await tar("-P", "--transform=s,^evil,../../evil,", "evil", "link", "pipe");
  const report = await collect(bytes);
  expect(report.files).toBe(0);
  expect(report.left).toEqual([
    "../../evil: its name leads elsewhere",
    "link: a link, not kept",
    "pipe: a other, not kept",
  ]);
  expect(await readdir(directory)).toEqual(["source", "tar"]);
});

test("case small-things: names that differ only in what is no UTF-8 are two files", async () => {
  for (const byte of [0xfe, 0xff]) {
    writeFileSync(Buffer.concat([Buffer.from(`${source}/a`), Buffer.from([byte])]), String(byte));
  }
  writeFileSync(join(source, "a%FE"), "third");
  const report = await collect(await tar("."));
  expect(report.files).toBe(3);
  const names = await readdir(join(directory, "store/logs"));
  expect(names).toHaveLength(3);
  const contents = await Promise.all(names.map(kept));
  expect(contents.sort()).toEqual(["254", "255", "third"]);
});

test("mutant: more bytes than the limit are not kept, and said; smaller ones behind are", async () => {
  writeFileSync(join(source, "a"), "x".repeat(900));
  writeFileSync(join(source, "b"), "x".repeat(900));
  writeFileSync(join(source, "c"), "x".repeat(90));
  const report = await collect(await tar("a", "b", "c"), { bytes: 1_000 });
  expect(report).toMatchObject({ files: 2, bytes: 990, cut: null });
  expect(report.left).toEqual(["b: 900 bytes, over the limit"]);
});

test("any number of files is not taken: the stream is left at the limit", async () => {
  for (let number = 0; number < 30; number++) writeFileSync(join(source, `f${number}`), "x");
  const report = await collect(await tar("."), { files: 10 });
  expect(report).toMatchObject({ files: 10, cut: "more than 10 files" });
});

test("a truncated stream is not whole, wherever it ends", async () => {
  writeFileSync(join(source, "a"), "x".repeat(3_000));
  writeFileSync(join(source, "b"), "y".repeat(3_000));
  const bytes = await tar("a", "b");
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: 2 * 512 + 2 * 3_072 - 1 }), async (at) => {
      const { cut } = await collect(bytes.subarray(0, at));
      expect(cut).toBe("the stream ends in the middle");
    }),
    { numRuns: 30 },
  );
});

test("the stream's chunks do not matter", async () => {
  writeFileSync(join(source, "a"), "x".repeat(3_000));
  const bytes = await tar("a");
  for (const size of [1, 511, 513, 5_000]) {
    const chunks: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    expect(await collect(Readable.from(chunks))).toMatchObject({
      files: 1,
      bytes: 3_000,
      cut: null,
    });
  }
});

test("strangers' bytes are no tar, and end nothing", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), async (bytes) => {
      const report = await collect(bytes);
      expect(report.files).toBe(0);
    }),
    { numRuns: 50 },
  );
  // a header of a stranger's size is never held in memory
  const header = (await tar("--format=posix", ".")).subarray(0, 512);
  const bomb = Buffer.from(header);
  bomb.write("77777777777\0", 124, "latin1");
  bomb.fill(32, 148, 156);
  const sum = bomb.reduce((total, byte) => total + byte, 0);
  bomb.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  bomb.write("x", 156, "latin1");
  expect((await collect(bomb)).cut).toMatch(/no tar|a header of 8589934591 bytes/);
});

test("section 9 a peer that says nothing more ends with the signal", async () => {
  writeFileSync(join(source, "a"), "x".repeat(3_000));
  const stop = new AbortController();
  const stream = new Readable({ read: () => undefined });
  stream.push((await tar("a")).subarray(0, 1_000));
  const store = openFileStore(join(directory, "store"));
  const source_ = addAbortSignal(stop.signal, stream);
  const collecting = collectTar(source_, store, "logs", bounds, stop.signal);
  setImmediate(() => stop.abort());
  await expect(collecting).rejects.toThrow("aborted");
});

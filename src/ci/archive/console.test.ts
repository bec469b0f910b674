import { mkdtemp, open as openFile, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";
import { silentLog } from "../../base/log.ts";
import { openTroubles } from "../../base/troubles.ts";
import { until } from "../../base/wait.ts";
import { writeAt } from "./console-line.ts";
import { liveBytes, numberedLines } from "./console-reader.ts";
import { openConsole } from "./console.ts";
import type { ConsoleOptions, LiveConsole } from "./console.ts";
import { openPace } from "./pace.ts";

let folder: string;
const open: LiveConsole[] = [];
const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
const signal = new AbortController().signal;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "rackyard-console-"));
});
afterEach(async () => {
  for (const console of open.splice(0)) await console.close();
  await rm(folder, { recursive: true, force: true });
});

function begin(change: Partial<ConsoleOptions> = {}): LiveConsole {
  const pace = openPace(systemClock, Infinity);
  const console = openConsole({ folder, clock: systemClock, pace, troubles, ...change });
  open.push(console);
  return console;
}

async function whole(console: LiveConsole): Promise<string[]> {
  await console.finish();
  const text = await readFile(console.path, "utf8");
  expect(text.endsWith("\n")).toBe(true);
  return text.trimEnd().split("\n");
}

const said = (line: string): string => line.slice(26);

test("section 4 of a long console head and end are kept, the gap told, our own lines always", async () => {
  const console = begin({ headBytes: 4_000, tailBytes: 2_000 });
  console.say("begin");
  for (let number = 0; number < 500; number++) {
    console.output(`output ${number}`);
    if (number % 100 === 50) console.say(`own ${number}`);
    if (number % 20 === 0) await console.flushed();
  }
  console.output("THE-END: this is why it failed");
  console.say("run: exit 1");
  const lines = (await whole(console)).map(said);
  expect(lines[0]).toBe("begin");
  expect(lines.slice(-2)).toEqual(["THE-END: this is why it failed", "run: exit 1"]);
  for (const own of [50, 150, 250, 350, 450]) {
    expect(lines.filter((line) => line === `own ${own}`)).toHaveLength(1);
  }
  const gap = lines.findIndex((line) => line.startsWith("… the console is too long"));
  const [, gone, bytes] = /: (\d+) lines \((\d+) bytes\) are left out/.exec(lines[gap]!)!;
  const own = lines.slice(gap + 1).filter((line) => line.startsWith("own ")).length;
  expect(Number(bytes)).toBeGreaterThan(Number(gone) * 26);
  // every line is kept or counted; our own that are kept behind the gap were counted too
  const kept = lines.filter((line) => line.startsWith("output ")).length;
  expect(kept + Number(gone)).toBeGreaterThanOrEqual(500);
  expect(kept + Number(gone)).toBeLessThanOrEqual(500 + own);
  // the end has half of the tail's room at least
  const end = lines.filter((line) => /^output 4[89]\d/.test(line));
  expect(end).toHaveLength(20);
});

test("a console goes on after a restart: head and tail as they stood, a torn line ended", async () => {
  const first = begin({ headBytes: 1_000, tailBytes: 1_000 });
  for (let number = 0; number < 60; number++) first.output(`before ${number}`);
  await first.flushed();
  await first.finish(); // killed while the end was being moved
  await first.close();
  const second = begin({ headBytes: 1_000, tailBytes: 1_000 });
  second.say("after");
  const lines = (await whole(second)).map(said);
  expect(lines.at(-1)).toBe("after");
  expect(lines.at(-2)).toBe("before 59");
  expect(lines.filter((line) => line === "before 59")).toHaveLength(1);
  expect(lines.some((line) => line.includes("at least"))).toBe(true);
});

test("a torn last line is ended, not written on", async () => {
  const file = await openFile(join(folder, "console.log"), "w");
  await file.write("2026-01-01 00:00:00.000 | half a li");
  await file.close();
  const console = begin();
  console.say("next");
  const lines = (await whole(console)).map(said);
  expect(lines).toEqual(["half a li", "next"]);
});

test("section 1 a full disk: the job goes on, memory is bounded, what was lost is told", async () => {
  let full = false;
  const error = Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" });
  const console = begin({
    write: (...args) => (full ? Promise.reject(error) : writeAt(...args)),
  });
  console.say("begin");
  await console.flushed();
  full = true;
  const line = "x".repeat(1_000);
  for (let number = 0; number < 5_000; number++) {
    console.output(`${number} ${line}`);
    const room = console.room();
    if (number % 1_000 === 999) await room; // never waits for ever
  }
  console.say("own, while it was full");
  await console.flushed();
  expect(troubles.list()).toMatchObject([{ what: "writing the consoles of builds" }]);
  await expect(console.finish()).rejects.toThrow("not written yet");
  full = false;
  const wait = { timeoutMs: 10_000, what: "the disk to be written again" };
  await until(() => troubles.list().length === 0, wait);
  const lines = (await whole(console)).map(said);
  expect(lines[0]).toBe("begin");
  expect(lines.at(-1)).toBe("own, while it was full");
  expect(lines.at(-2)).toMatch(/^4999 x/);
  const lost = lines.map((line) => /^\((\d+) lines of output were lost/.exec(line)).find(Boolean);
  expect(Number(lost?.[1]) + lines.filter((line) => line.endsWith("xxx")).length).toBe(5_000);
});

test("section 9 a flood waits at its source: one console's share, and one for all", () => {
  let nowMs = 0;
  const clock = { monoMs: () => nowMs };
  const all = openPace(clock, 3_000);
  const [one, other] = [openPace(clock, 2_000, all), openPace(clock, 2_000, all)];
  expect(one.spend(2_000)).toBe(0); // a second's worth at once
  expect(one.spend(1_000)).toBe(500);
  expect(other.spend(1_500)).toBe(500); // what all together took
  nowMs += 10_000;
  expect(other.spend(1_000)).toBe(0);
});

test("the job is held while its lines wait for the disk", async () => {
  const console = begin();
  console.output("x".repeat(limits.consolePendingBytes + 1));
  const room = console.room();
  expect(room).toBeInstanceOf(Promise);
  await room;
  await console.flushed();
  expect(console.room()).toBeUndefined();
});

test("case long-lines: the reader is told what was dropped, in the archive too", async () => {
  const console = begin();
  const splitter = openLineSplitter(limits.lineBytes, (line) => console.output(line));
  splitter.push(Buffer.from(`${"L".repeat(1_000_000)} END-OF-LONG-LINE\n`));
  await console.flushed();
  const seen: string[] = [];
  for await (const { line } of numberedLines(liveBytes(console, false, signal), 0)) seen.push(line);
  expect(seen).toEqual([expect.stringMatching(/LLL… \(983633 bytes of this line dropped\)$/)]);
});

test("a line is cut between characters", () => {
  const lines: string[] = [];
  const splitter = openLineSplitter(10, (line) => lines.push(line));
  splitter.push(Buffer.from("123456789€€\n"));
  splitter.push(Buffer.from("1234567€\n"));
  expect(lines).toEqual(["123456789… (6 bytes of this line dropped)", "1234567€"]);
});

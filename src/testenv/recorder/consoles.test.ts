import { appendFile, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "../../base/wait.ts";
import { openConsoleStreams } from "./consoles.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-consoles-"));
});
afterEach(() => rm(directory, { recursive: true }));

function openBench() {
  let text = "";
  const ends: string[] = [];
  const streams = openConsoleStreams((message) => {
    if (message.kind === "console-end") ends.push(message.detail);
    else {
      expect(message.offset).toBe(text.length);
      text += Buffer.from(message.dataBase64, "base64").toString("latin1");
    }
  });
  const soon = (what: string, holds: () => boolean) =>
    until(holds, { timeoutMs: 10_000, everyMs: 5, what });
  return { streams, ends, soon, text: () => text };
}

test("lease.md §6 a live console is followed, within its credit, until the lease's end", async () => {
  const { streams, ends, soon, text } = openBench();
  const path = join(directory, "te1-n0.log");
  streams.open({ stream: "s", file: { path, live: true }, fromByte: 0, credit: 5 });
  await writeFile(path, "hello world");
  await soon("what the credit allows", () => text() === "hello");
  streams.credit("s", 100);
  await soon("the rest", () => text() === "hello world");
  await appendFile(path, "!");
  await soon("what came later", () => text() === "hello world!");
  await rename(path, `${path}.old`); // the reset took it
  await soon("the end", () => ends.length === 1);
  expect(ends).toEqual(["the lease is over"]);
});

test("lease.md §6 a kept console ends where it ends; of a machine that is not there at once", async () => {
  const { streams, ends, soon, text } = openBench();
  const path = join(directory, "console-te1-n0.log");
  await writeFile(path, "x".repeat(100_000));
  const file = { path, live: false };
  streams.open({ stream: "s", file, fromByte: 0, credit: 1_000_000 });
  await soon("the end", () => ends.length === 1);
  expect(text()).toHaveLength(100_000);
  streams.open({ stream: "t", file: undefined, fromByte: 0, credit: 1 });
  expect(ends).toEqual(["", "no such machine"]);
  await streams[Symbol.asyncDispose]();
});

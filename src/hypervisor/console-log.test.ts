/** H-11.4: consoles are kept small; marks of surface.md §10; following a growing file. */
import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { until } from "../base/wait.ts";
import { followConsole, keepConsoleSmall, parseConsoleMark } from "./console-log.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "console-"));
});
afterEach(() => rm(directory, { recursive: true }));

test.each([
  ["@rackyard up", { kind: "up" }],
  ["[    3.2] @rackyard up", { kind: "up" }],
  ["@rackyard phase=network", { kind: "phase", phase: "network" }],
  ["@rackyard phase=two words", undefined],
  ["@rackyard upgrade", undefined],
  ["x@rackyard up", undefined],
  ["@rackyard", undefined],
])("a console's mark: %s", (line, mark) => {
  expect(parseConsoleMark(line)).toEqual(mark);
});

test("a console is followed from an offset, before it exists, and after it was cut", async () => {
  const path = join(directory, "console");
  const lines: string[] = [];
  const marks: string[] = [];
  const stop = new AbortController();
  const following = followConsole(path, {
    from: 0,
    signal: stop.signal,
    onLine: (line) => lines.push(line),
    onMark: (mark) => marks.push(mark.kind),
  });
  const have = (count: number): Promise<unknown> =>
    until(() => lines.length >= count, { timeoutMs: 5_000, everyMs: 5, what: `${count} lines` });
  await writeFile(path, "one\r\ntwo\n@rackyard up\nhal");
  await have(3);
  await appendFile(path, "f\n");
  await have(4);
  await truncate(path, 0);
  await appendFile(path, "x\n");
  await have(5);
  stop.abort();
  await following;
  expect(lines).toEqual(["one", "two", "@rackyard up", "half", "x"]);
  expect(marks).toEqual(["up"]);
});

test("H-11.4 a console over its limit is cut and says so", async () => {
  const path = join(directory, "console");
  await writeFile(path, "x".repeat(100));
  expect(await keepConsoleSmall(path, 100)).toBe(0);
  expect(await keepConsoleSmall(path, 99)).toBe(100);
  expect(await readFile(path, "utf8")).toBe("… 100 bytes of this console dropped (limit 99)\n");
});

import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { openOutput } from "../../cli/output.ts";
import { openProgress } from "./progress.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function opened(isTTY: boolean) {
  const text = { out: "", err: "" };
  const stdout = { write: (data: unknown) => (text.out += String(data)), isTTY };
  const stderr = { write: (data: unknown) => (text.err += String(data)), isTTY };
  const out = openOutput({ json: false }, { stdout, stderr }, {});
  return { text, progress: openProgress(out, Date.now(), stderr) };
}

test("issue 6, §10: without a terminal a long wait is told each 10 s, with its seconds", () => {
  const { text, progress } = opened(false);
  progress.now(undefined, "unit: waiting: the image debian-12 is being built");
  vi.advanceTimersByTime(9_000);
  expect(text.err).toBe("");
  vi.advanceTimersByTime(22_000);
  expect(text.err.trim().split("\n")).toEqual([
    "unit: waiting: the image debian-12 is being built, for 10 s",
    "unit: waiting: the image debian-12 is being built, for 20 s",
    "unit: waiting: the image debian-12 is being built, for 30 s",
  ]);
  progress.end();
  vi.advanceTimersByTime(60_000);
  expect(text.err.trim().split("\n")).toHaveLength(3);
});

test("issue 6, §10: on a terminal the seconds of the present wait run", () => {
  const { text, progress } = opened(true);
  progress.now(undefined, "starting server and TE host");
  vi.advanceTimersByTime(3_000);
  const seen = (): string => stripVTControlCharacters(text.err).trimEnd().split("\n").at(-1) ?? "";
  expect(seen()).toBe("starting server and TE host 3 s");
  progress.now(undefined, "starting server and TE host");
  vi.advanceTimersByTime(1_000);
  expect(seen()).toBe("starting server and TE host 4 s");
  progress.now(undefined, "setting the example up");
  expect(seen()).toBe("setting the example up 0 s");
  progress.end();
});

import { expect, test } from "vitest";
import { figuresOf, figuresText, readRun } from "./figures.ts";

const run = (readyMs: number, voteMs: number, ok = true): string =>
  [
    "a line that is none of ours",
    JSON.stringify({ event: "step", step: "ready", at: "2026-01-01T00:00:00Z", ms: readyMs }),
    JSON.stringify({ event: "step", step: "machine-up", machine: "te1-n0", ms: 5 }),
    JSON.stringify({ event: "step", step: "machine-up", machine: "te1-n0", ms: 7 }),
    JSON.stringify({
      event: "summary",
      ok,
      durationMs: readyMs + voteMs,
      pushToVoteMs: voteMs,
      failure: ok ? null : "the build came to RETRY_LIMIT",
    }),
    "",
  ].join("\n");

test("figures are medians and ranges, the whole first, steps in their order", () => {
  const figures = figuresOf([run(100, 10), run(300, 30), run(200, 50)].map(readRun));
  expect(figures.map(({ name }) => name)).toEqual([
    "durationMs",
    "pushToVoteMs",
    "ready",
    "machine-up te1-n0",
  ]);
  expect(figures[0]).toEqual({
    name: "durationMs",
    runs: 3,
    medianMs: 250,
    minMs: 110,
    maxMs: 330,
  });
  expect(figures[3]).toMatchObject({ medianMs: 12, runs: 3 });
  expect(figuresText(figures).split("\n")[1]).toMatch(/^duration +0\.3 +0\.1–0\.3 +3$/);
});

test("of two runs the median is between them", () => {
  expect(figuresOf([run(100, 10), run(200, 20)].map(readRun))[2]).toMatchObject({ medianMs: 150 });
});

test("a run that failed says why; one without a summary too, and counts with what it has", () => {
  expect(readRun(run(1, 1, false))).toMatchObject({
    ok: false,
    failure: "the build came to RETRY_LIMIT",
  });
  const cut = readRun(run(100, 10).split("\n")[1]!);
  expect(cut).toMatchObject({ ok: false, failure: "no summary was printed" });
  expect(figuresOf([cut])).toEqual([
    { name: "ready", runs: 1, medianMs: 100, minMs: 100, maxMs: 100 },
  ]);
});

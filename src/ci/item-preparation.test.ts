import { expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { systemRandom } from "../base/random.ts";
import { openTroubles } from "../base/troubles.ts";
import type { ReviewReport } from "../review/review-port.ts";
import { prepareItem } from "./item-preparation.ts";
import { builtinVotes, checkLayout } from "./layout/layout.ts";
import type { MergeResult } from "./merger/merger.ts";
import type { Item } from "./pipeline/item.ts";

const { layout } = checkLayout(
  [
    {
      file: "layout.yaml",
      text: `
- pipeline:
    name: check
    manager: independent
    trigger: { local: [ { event: patchset-created } ] }
    success: { local: { Verified: 1 } }
- project: { name: app, check: { jobs: [ noop ] } }
`,
    },
  ],
  { labels: [], connections: ["local"], votes: builtinVotes, longestLeaseSeconds: 14_400 },
);

const item: Item = {
  id: "3b9d2d3e-0000-4000-8000-000000000001",
  pipeline: "check",
  changes: [
    {
      connection: "local",
      project: "app",
      branch: "master",
      change: 1,
      patchset: 1,
      ref: "refs/changes/01/1/1",
      commit: "1".repeat(40),
      url: "http://x/1",
      subject: "One",
    },
  ],
  ahead: [],
  stage: "merging",
  pushedMs: 0,
  enqueuedMs: 0,
  buildset: {
    id: "3b9d2d3e-0000-4000-8000-000000000002",
    mergedMs: null,
    merged: null,
    jobs: [],
  },
  outcome: null,
  detail: [],
  endedMs: null,
};

const machine: MergeResult = { kind: "error", detail: "no space left", cause: "machine" };
const merged: MergeResult = {
  kind: "merged",
  repos: [],
  zuulRef: "refs/zuul/master/Z1",
  zuulCommit: "2".repeat(40),
  files: { files: [], more: false },
};

/** `results` in turn, the last one for ever; the clock moves by `stepMs` at each look. */
async function prepare(results: MergeResult[], stepMs: number) {
  let nowMs = -stepMs;
  let calls = 0;
  const seen: number[] = [];
  const reports: ReviewReport[] = [];
  const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
  const report = (one: ReviewReport) => {
    reports.push(one);
    return Promise.resolve({ applied: true, labelsDropped: [] });
  };
  const outcome = await prepareItem(
    {
      merger: {
        prepare() {
          seen.push(troubles.list().length);
          return Promise.resolve(results[Math.min(calls++, results.length - 1)]!);
        },
      },
      random: systemRandom,
      clock: { monoMs: () => (nowMs += stepMs) },
      log: silentLog,
      troubles,
      reviews: new Map([["local", { report }]]),
    },
    item,
    layout,
    () => true,
    new AbortController().signal,
  );
  return { outcome, seen, reports, left: troubles.list() };
}

test("M-3 what fails once is a trouble for so long, and the item goes on", async () => {
  const { outcome, seen, reports, left } = await prepare([machine, merged], 0);
  expect(outcome).toMatchObject({ kind: "merged" });
  expect(seen).toEqual([0, 1]);
  expect([reports, left]).toEqual([[], []]);
});

test("M-3 what keeps the merger is told on the change, then ends without a vote", async () => {
  const { outcome, reports, left } = await prepare([machine], 16 * 60_000);
  expect(outcome).toEqual({ kind: "merger-error", detail: ["no space left"] });
  expect(reports).toMatchObject([
    { change: 1, patchset: 1, votes: [], idempotencyKey: `${item.buildset.id} merge-delayed` },
  ]);
  expect(reports[0]?.message).toContain("no space left");
  expect(left).toEqual([]);
});

test("M-3 what would meet a limit again is tried once", async () => {
  const limit: MergeResult = { kind: "error", detail: "takes more than git may", cause: "limit" };
  const { outcome, seen } = await prepare([limit], 0);
  expect(outcome).toEqual({ kind: "merger-error", detail: [limit.detail] });
  expect(seen).toHaveLength(1);
});

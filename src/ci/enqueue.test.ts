import { expect, test } from "vitest";
import { systemClock } from "../base/clock.ts";
import { systemRandom } from "../base/random.ts";
import { changeRef } from "../model/change.ts";
import type { ReviewEvent } from "../model/change.ts";
import type { ReviewChange } from "../review/review-port.ts";
import { enqueueEvents } from "./enqueue.ts";
import { builtinVotes, checkLayout } from "./layout/layout.ts";

const text = `
- pipeline:
    name: check
    manager: independent
    trigger: { local: [ { event: patchset-created }, { event: comment-added, comment: recheck } ] }
- job: { name: unit, nodeset: one, run: make }
- nodeset: { name: one, nodes: [ { name: node, label: worker } ] }
- project: { name: app, check: { jobs: [ unit ] } }
`;
const { layout } = checkLayout([{ file: "layout.yaml", text }], {
  labels: ["worker"],
  connections: ["local"],
  votes: builtinVotes,
  longestLeaseSeconds: 14_400,
});

const change: ReviewChange = {
  project: "app",
  branch: "master",
  number: 7,
  changeId: `I${"7".repeat(40)}`,
  status: "NEW",
  owner: "dora",
  subject: "s",
  url: "http://x/changes/7",
  patchset: 3,
  patchsets: [1, 2, 3].map((number) => ({
    number,
    commit: String(number).repeat(40),
    ref: changeRef(7, number),
    subject: "s",
    parents: [],
  })),
  needs: [],
};
const facts = {
  seq: 1,
  at: "2026-01-01T00:00:00Z",
  connection: "local",
  project: "app",
  branch: "master",
  change: 7,
  by: "dora",
};
const kindsOf = async (event: ReviewEvent, now: ReviewChange = change) => {
  const review = { connection: "local", change: () => Promise.resolve(now) };
  const around = { review, layout, random: systemRandom, clock: systemClock };
  return (await enqueueEvents(event, around)).map((one) => one.kind);
};

test("Q-1 E-4 an event of a patchset that is outdated by now makes the old leave, and enqueues nothing", async () => {
  const of = (patchset: number): ReviewEvent => ({ ...facts, patchset, type: "patchset-created" });
  expect(await kindsOf(of(2))).toEqual(["new-patchset"]);
  expect(await kindsOf(of(3))).toEqual(["new-patchset", "enqueue"]);
});

test("a comment on an old patchset tests the newest; what is closed is tested no more", async () => {
  const comment = { ...facts, patchset: 1, type: "comment-added", comment: "recheck" } as const;
  expect(await kindsOf(comment)).toEqual(["enqueue"]);
  expect(await kindsOf(comment, { ...change, status: "MERGED" })).toEqual([]);
});

test("E-6 an event of a project that the layout does not name is nothing", async () => {
  const of = { ...facts, project: "other", patchset: 3, type: "patchset-created" } as const;
  expect(await kindsOf(of)).toEqual([]);
});

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { AssertionError } from "../../base/assert.ts";
import { buildStates } from "../../model/build.ts";
import type { BuildState } from "../../model/build.ts";
import { stepBuild } from "./build-life.ts";
import type { BuildEvent } from "./build-life.ts";
import { sampleBuild, sampleFacts, sampleNode } from "./samples.test.ts";
import type { Build, BuildRecord } from "./record.ts";

const rack = { te: "here:1", epoch: "7", host: "here" };
const had: Partial<BuildRecord> = { lease: "l", node: sampleNode("n"), rack };

/** A build in each state, as it comes there on the way to success. */
const inState: Record<BuildState, Partial<BuildRecord>> = {
  waiting: {},
  acquiring: { lease: "l" },
  preparing: had,
  running: { ...had, prepare: { kind: "done" } },
  collecting: { ...had, prepare: { kind: "done" }, run: { kind: "done" } },
  releasing: {
    ...had,
    prepare: { kind: "done" },
    run: { kind: "done" },
    collect: { kind: "done" },
  },
  archiving: { ...had, result: "SUCCESS" },
  reported: { ...had, result: "SUCCESS" },
};
const build = (state: BuildState): Build => ({
  state,
  record: { ...sampleBuild(sampleFacts("b")).record, ...inState[state] },
});

const events: Record<string, BuildEvent> = {
  asked: { kind: "asked", lease: "l" },
  "place-lost": { kind: "place-lost", why: "cancelled" },
  acquired: { kind: "acquired", node: sampleNode("n"), nodeReadyMs: 1, rack },
  "stepped done": { kind: "stepped", outcome: { kind: "done" } },
  "stepped failed": { kind: "stepped", outcome: { kind: "exited", phase: "run", exitCode: 1 } },
  "stepped aborted": { kind: "stepped", outcome: { kind: "aborted" } },
  "stepped lost": { kind: "stepped", outcome: { kind: "lost", detail: "restart" } },
  cancelled: { kind: "stop", stop: { kind: "cancelled", why: "ann" } },
  superseded: { kind: "stop", stop: { kind: "superseded", why: "2" } },
  revoked: { kind: "stop", stop: { kind: "revoked" } },
  "rack-lost": { kind: "stop", stop: { kind: "rack-lost", why: "gone" } },
  "rack-unavailable": { kind: "stop", stop: { kind: "rack-unavailable", why: "late" } },
  "node-failure": { kind: "stop", stop: { kind: "node-failure", why: "none" } },
  interrupted: {
    kind: "interrupted",
    interruptions: [{ at: "2026-01-01T00:00:00Z", code: "c", text: "t" }],
  },
  released: { kind: "released", interruptions: [], nodeLost: null },
  reported: { kind: "reported", evidence: [] },
  noted: { kind: "noted", mark: { step: "machine-up", atMs: 1 } },
  restarted: { kind: "restarted" },
};

/** Of docs/specs/build.md: event → state → the state after and what is done, in words. */
const table = readTable(
  readFileSync(new URL("../../../docs/specs/build.md", import.meta.url), "utf8"),
);

function readTable(text: string): Record<string, Record<BuildState, string>> {
  const lines = text.split("\n").map((line) => line.split("|").map((cell) => cell.trim()));
  const head = lines.findIndex((cells) => cells[1] === "event");
  expect(lines[head]!.slice(2, -1)).toEqual(buildStates);
  const rows = lines.slice(head + 2);
  const end = rows.findIndex((cells) => cells.length < 3);
  return Object.fromEntries(
    rows.slice(0, end).map((cells) => {
      const words = cells.slice(2, -1).map((cell) => cell.replaceAll(/[*:,]/g, ""));
      const entries = buildStates.map((state, index) => [state, words[index]!] as const);
      return [cells[1]!, Object.fromEntries(entries) as Record<BuildState, string>];
    }),
  );
}

test("the table names every event", () => {
  expect(Object.keys(table)).toEqual(Object.keys(events));
});

for (const [name, event] of Object.entries(events)) {
  for (const state of buildStates) {
    test(`docs/specs/build.md ${name} in ${state}: ${table[name]![state]}`, () => {
      const cell = table[name]![state];
      const before = build(state);
      if (cell === "✗") return expect(() => stepBuild(before, event, 5)).toThrow(AssertionError);
      const after = stepBuild(before, event, 5);
      if (cell === "·") return expect(after).toEqual({ build: before, effects: [] });
      expect([after.build.state, ...after.effects].join(" ")).toBe(cell);
    });
  }
}

test("J-4 noop is released at once and is a success, without node or rack", () => {
  const facts = sampleFacts("b", { name: "noop", node: null, testenv: null });
  let now = stepBuild(sampleBuild(facts), { kind: "asked", lease: null }, 1).build;
  expect(now.state).toBe("releasing");
  now = stepBuild(now, { kind: "released", interruptions: [], nodeLost: null }, 2).build;
  expect(now).toMatchObject({ state: "archiving", record: { result: "SUCCESS" } });
});

test.each([
  { kind: "exited", phase: "run", exitCode: 1 },
  { kind: "timed-out", phase: "run" },
  { kind: "disk-full", detail: "0 MiB" },
  { kind: "aborted" },
  { kind: "unreachable", detail: "gone" },
] as const)("T-2 logs are collected after $kind too", (outcome) => {
  const step = stepBuild(build("running"), { kind: "stepped", outcome }, 1);
  expect(step.effects).toEqual(["collect"]);
});

test("Q-5 a build cancelled while it runs still collects, and ends CANCELED", () => {
  const cancelled = stepBuild(build("running"), events["cancelled"]!, 1).build;
  const collecting = stepBuild(cancelled, events["stepped aborted"]!, 2).build;
  const releasing = stepBuild(collecting, events["stepped done"]!, 3).build;
  const { record } = stepBuild(releasing, events["released"]!, 4).build;
  expect(record).toMatchObject({ result: "CANCELED", errorDetail: "ann" });
});

test("a cancel during preparation does not run the job, however preparation ends", () => {
  const cancelled = stepBuild(build("preparing"), events["superseded"]!, 1).build;
  expect(stepBuild(cancelled, events["stepped done"]!, 2).build.state).toBe("collecting");
});

test("the first reason to stop stays, but a person's word comes above the rack's", () => {
  const lost = stepBuild(build("running"), events["rack-lost"]!, 1).build;
  expect(stepBuild(lost, events["node-failure"]!, 2).build.record.stop?.kind).toBe("rack-lost");
  expect(stepBuild(lost, events["cancelled"]!, 2).build.record.stop?.kind).toBe("cancelled");
});

test("X-4 after a restart the step is taken up again; one that nobody can tell the end of is lost", () => {
  const again = stepBuild(build("running"), events["restarted"]!, 1);
  expect([again.build.state, again.effects]).toEqual(["running", ["run"]]);
  const releasing = stepBuild(again.build, events["stepped lost"]!, 2).build;
  const { record } = stepBuild(releasing, events["released"]!, 3).build;
  expect(record).toMatchObject({ result: "RETRY", restart: true, rackFault: false });
});

test("Q-5 a build that was to be cancelled is cut again after a restart", () => {
  const cancelled = stepBuild(build("running"), events["cancelled"]!, 1).build;
  expect(stepBuild(cancelled, events["restarted"]!, 2).effects).toEqual(["run", "abort"]);
  const collecting = stepBuild(cancelled, events["stepped aborted"]!, 3);
  expect(collecting.effects).toEqual(["collect", "hurry"]);
});

test("an interruption is kept once, however often the lease tells it", () => {
  const once = stepBuild(build("running"), events["interrupted"]!, 1).build;
  const twice = stepBuild(once, events["interrupted"]!, 2).build;
  expect(twice.record.interruptions).toHaveLength(1);
});

test("the time line has the moments in order", () => {
  let now = stepBuild(build("acquiring"), events["acquired"]!, 10).build;
  now = stepBuild(now, events["stepped done"]!, 20).build;
  now = stepBuild(now, events["stepped failed"]!, 30).build;
  now = stepBuild(now, events["stepped done"]!, 40).build;
  now = stepBuild(now, events["released"]!, 50).build;
  expect(now.record.marks.map((mark) => [mark.step, mark.atMs])).toEqual([
    ["node-ready", 1],
    ["leased", 10],
    ["started", 20],
    ["finished", 30],
    ["collected", 40],
    ["lease-ended", 50],
  ]);
  expect(now.record).toMatchObject({ startedMs: 10, endedMs: 30, result: "FAILURE" });
});

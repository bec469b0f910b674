import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { assertNever } from "../../base/assert.ts";
import type { BuildResult } from "../../model/build.ts";
import type { FrozenJob } from "../../model/job.ts";
import type { EndedBuild, QueuedChange } from "./item.ts";
import { itemOf } from "./item.ts";
import { settle } from "./queues.ts";
import type { Queues } from "./queues.ts";
import { emptyPipelines, stepPipelines } from "./pipeline.ts";
import type { PipelineEffect, PipelineEvent, PipelineState } from "./pipeline.ts";

const job = (name: string, more: Partial<FrozenJob> = {}): FrozenJob => ({
  name,
  definedAt: "jobs.yaml:1",
  voting: true,
  attempts: 3,
  timeoutSeconds: 10,
  postTimeoutSeconds: 10,
  node: { name: "node", label: "worker" },
  testenv: null,
  requiredProjects: ["p"],
  vars: {},
  runIn: "p",
  preRun: [],
  run: ["true"],
  postRun: [],
  cleanupRun: [],
  ...more,
});

const change = (number: number, patchset = 1): QueuedChange => ({
  connection: "local",
  project: "p",
  branch: "main",
  change: number,
  patchset,
  ref: `refs/changes/0${number}/${number}/${patchset}`,
  commit: "c".repeat(40),
  url: `http://x/${number}`,
  subject: "s",
});

const enqueue = (item: string, number = 1, patchset = 1, pipeline = "check"): PipelineEvent => ({
  kind: "enqueue",
  item,
  buildset: `${item}-set`,
  pipeline,
  changes: [change(number, patchset)],
  ahead: [],
  pushedMs: 0,
});
const merged = { zuulRef: "refs/zuul/main/Z1", zuulCommit: "d".repeat(40), repos: [] };
const prepared = (item: string, ...jobs: FrozenJob[]): PipelineEvent => ({
  kind: "prepared",
  item,
  outcome: {
    kind: "merged",
    merged,
    jobs: jobs.map((of) => ({ job: of, build: `${item}-${of.name}-1` })),
  },
});
const ended = (
  item: string,
  build: string,
  result: BuildResult,
  more: Partial<EndedBuild> = {},
): PipelineEvent => {
  const attempt = Number(build.at(-1));
  return {
    kind: "build-ended",
    item,
    next: build.replace(/\d$/, String(attempt + 1)),
    build: {
      build,
      attempt,
      result,
      rackFault: false,
      detail: null,
      startedMs: 1,
      endedMs: 2,
      url: "http://x/build",
      te: null,
      host: null,
      interruptions: [],
      evidence: [],
      ...more,
    },
  };
};

const rules = new Map([
  ["check", { dequeueOnNewPatchset: true }],
  ["slow", { dequeueOnNewPatchset: false }],
]);
const start: PipelineState = { ...emptyPipelines(), rules };

/** Runs events in order; gives the last state and all effects as short words. */
function play(...events: PipelineEvent[]): { state: PipelineState; said: string[] } {
  let state = start;
  const said: string[] = [];
  for (const event of events) {
    const step = stepPipelines(state, event, 1_000);
    state = step.state;
    said.push(...step.effects.map(inWords));
  }
  return { state, said };
}

function inWords(effect: PipelineEffect): string {
  switch (effect.kind) {
    case "merge":
      return `merge ${effect.item.id}`;
    case "start-build":
      return `start ${effect.build} attempt ${effect.attempt}`;
    case "cancel-build":
      return `cancel ${effect.build}: ${effect.why}`;
    case "report":
      return `report ${effect.stage}${effect.vote ? "" : " without vote"}`;
    case "record":
      return `record ${effect.item.id} ${effect.event} ${effect.item.outcome ?? effect.item.stage}`;
    default:
      return assertNever(effect, "effect");
  }
}

test("I-3 an item merges, starts, runs its jobs and reports when all are done, once", () => {
  const { state, said } = play(
    enqueue("i"),
    prepared("i", job("a"), job("b")),
    ended("i", "i-b-1", "SUCCESS"),
    ended("i", "i-a-1", "SUCCESS"),
    ended("i", "i-a-1", "FAILURE"),
  );
  expect(said).toEqual([
    "record i enqueued merging",
    "merge i",
    "record i merged running",
    "report start",
    "start i-a-1 attempt 1",
    "start i-b-1 attempt 1",
    "record i job-ended running",
    "record i reported SUCCESS",
    "report success",
  ]);
  expect(state.items.size).toBe(0);
});

test("Q-1 a new patchset removes the old live item and cancels its builds; no report", () => {
  const { said } = play(
    enqueue("old"),
    prepared("old", job("a"), job("b")),
    ended("old", "old-b-1", "SUCCESS"),
    { kind: "new-patchset", connection: "local", change: 1, patchset: 2 },
    enqueue("new", 1, 2),
    ended("old", "old-a-1", "CANCELED"),
  );
  expect(said.slice(7)).toEqual([
    "record old dequeued DEQUEUED",
    "cancel old-a-1: superseded by patchset 2",
    "record new enqueued merging",
    "merge new",
  ]);
});

test("Q-1 a pipeline without dequeue-on-new-patchset keeps the old item", () => {
  const { state } = play(
    enqueue("old", 1, 1, "slow"),
    { kind: "new-patchset", connection: "local", change: 1, patchset: 2 },
    enqueue("new", 1, 2, "slow"),
  );
  expect(state.items.values().map((item) => item.id)).toEqual(["old", "new"]);
});

test("Q-2 an abandoned change leaves; others and other connections stay", () => {
  const { state, said } = play(
    enqueue("a", 1),
    enqueue("b", 2),
    { kind: "closed", connection: "elsewhere", change: 1 },
    { kind: "closed", connection: "local", change: 1 },
  );
  expect(state.items.values().map((item) => item.id)).toEqual(["b"]);
  expect(said.at(-1)).toBe("record a dequeued DEQUEUED");
});

test("P-3 a patchset that is live in the pipeline is ignored, a finished one may come again", () => {
  const { said } = play(
    enqueue("one"),
    enqueue("two"),
    enqueue("three", 1, 1, "slow"),
    prepared("one", job("a")),
    ended("one", "one-a-1", "FAILURE"),
    enqueue("again"),
  );
  expect(said.filter((word) => word.startsWith("merge"))).toEqual([
    "merge one",
    "merge three",
    "merge again",
  ]);
});

test("J-4 zero jobs: no report, no vote", () => {
  const { state, said } = play(enqueue("i"), prepared("i"));
  expect(said.at(-1)).toBe("record i no-jobs NO_JOBS");
  expect(state.items.size).toBe(0);
});

test.each([
  ["conflict", "merge-conflict", "MERGE_CONFLICT"],
  ["config-error", "config-error", "CONFIG_ERROR"],
] as const)("M-3 J-5 %s is reported with a vote", (kind, stage, outcome) => {
  const { said } = play(enqueue("i"), {
    kind: "prepared",
    item: "i",
    outcome: { kind, detail: ["a.txt"] },
  });
  expect(said.slice(2)).toEqual([`record i reported ${outcome}`, `report ${stage}`]);
});

test("M-3 what kept the merger from its work is reported without a vote", () => {
  const { state, said } = play(enqueue("i"), {
    kind: "prepared",
    item: "i",
    outcome: { kind: "merger-error", detail: ["no space left"] },
  });
  expect(said.slice(2)).toEqual(["record i reported MERGER_ERROR", "report failure without vote"]);
  expect(state.items.size).toBe(0);
});

test("P-3 a pipeline that is gone takes nothing", () => {
  const { state, said } = play(enqueue("i", 1, 1, "nowhere"));
  expect(said).toEqual([]);
  expect(state.items.size).toBe(0);
});

test("F-0 RETRY is a new build up to attempts, then RETRY_LIMIT with a vote", () => {
  const { said } = play(
    enqueue("i"),
    prepared("i", job("a", { attempts: 2 })),
    ended("i", "i-a-1", "RETRY"),
    ended("i", "i-a-2", "RETRY", { rackFault: true }),
  );
  expect(said.slice(5)).toEqual([
    "record i retry running",
    "start i-a-2 attempt 2",
    "record i reported FAILURE",
    "report failure",
  ]);
});

test("F-1a every attempt ended in a TE class: RETRY_LIMIT, a comment and no vote", () => {
  const { said } = play(
    enqueue("i"),
    prepared("i", job("a", { attempts: 2 })),
    ended("i", "i-a-1", "TE_LOST", { rackFault: true }),
    ended("i", "i-a-2", "TE_UNAVAILABLE", { rackFault: true }),
  );
  expect(said.at(-1)).toBe("report failure without vote");
});

test("F-2 a retry avoids the racks and hosts of all failed attempts", () => {
  let state = start;
  let last: PipelineEffect | undefined;
  const events = [
    enqueue("i"),
    prepared("i", job("a")),
    ended("i", "i-a-1", "TE_LOST", { te: "h1:1", host: "h1" }),
    ended("i", "i-a-2", "TE_LOST", { te: "h2:7", host: "h2" }),
  ];
  for (const event of events) {
    const step = stepPipelines(state, event, 0);
    state = step.state;
    last = step.effects.at(-1);
  }
  expect(last).toMatchObject({
    kind: "start-build",
    attempt: 3,
    avoid: { hosts: ["h1", "h2"], testenvs: ["h1:1", "h2:7"] },
  });
});

describe("B-2 F-0 the vote of two jobs", () => {
  const cases: [BuildResult, boolean, BuildResult, boolean, string][] = [
    ["SUCCESS", true, "SUCCESS", true, "report success"],
    ["SUCCESS", true, "FAILURE", true, "report failure"],
    ["SUCCESS", true, "FAILURE", false, "report success"],
    ["FAILURE", false, "TIMED_OUT", false, "report success"],
    ["SUCCESS", true, "ABORTED", true, "report failure without vote"],
    ["CANCELED", true, "SUCCESS", true, "report failure without vote"],
    ["FAILURE", true, "ABORTED", true, "report failure"],
    ["NODE_FAILURE", true, "SUCCESS", true, "report failure"],
    ["POST_FAILURE", true, "SUCCESS", true, "report failure"],
    ["DISK_FULL", true, "SUCCESS", true, "report failure"],
    ["TIMED_OUT", true, "SUCCESS", true, "report failure"],
  ];
  test.each(cases)("%s (voting %j), %s (voting %j): %s", (a, aVotes, b, bVotes, report) => {
    const { said } = play(
      enqueue("i"),
      prepared("i", job("a", { voting: aVotes }), job("b", { voting: bVotes })),
      ended("i", "i-a-1", a),
      ended("i", "i-b-1", b),
    );
    expect(said.at(-1)).toBe(report);
  });
});

describe("the table: every event in every stage of an item", () => {
  const stages: Record<"absent" | "merging" | "running" | "done", PipelineEvent[]> = {
    absent: [],
    merging: [enqueue("i")],
    running: [enqueue("i"), prepared("i", job("a"))],
    done: [enqueue("i"), prepared("i", job("a")), ended("i", "i-a-1", "SUCCESS")],
  };
  const events: Record<PipelineEvent["kind"], PipelineEvent> = {
    enqueue: enqueue("j"),
    "new-patchset": { kind: "new-patchset", connection: "local", change: 1, patchset: 2 },
    closed: { kind: "closed", connection: "local", change: 1 },
    prepared: prepared("i", job("b")),
    "build-ended": ended("i", "i-a-1", "FAILURE"),
    reconfigured: { kind: "reconfigured", rules: new Map() },
  };
  const table: Record<PipelineEvent["kind"], [string, string, string, string]> = {
    //             absent      merging     running     done
    enqueue: ["enqueued", "-", "-", "enqueued"],
    "new-patchset": ["-", "dequeued", "dequeued", "-"],
    closed: ["-", "dequeued", "dequeued", "-"],
    prepared: ["-", "merged", "-", "-"],
    "build-ended": ["-", "-", "reported", "-"],
    reconfigured: ["-", "dequeued", "dequeued", "-"],
  };
  for (const [kind, row] of Object.entries(table)) {
    for (const [column, stage] of Object.keys(stages).entries()) {
      test(`${kind} when ${stage}: ${row[column]}`, () => {
        const { state } = play(...stages[stage as keyof typeof stages]);
        const step = stepPipelines(state, events[kind as PipelineEvent["kind"]], 1);
        const recorded = step.effects.find((effect) => effect.kind === "record");
        expect(recorded?.event ?? "-").toBe(row[column]);
      });
    }
  }
});

test("I1 I-3 whatever comes in whatever order: one report an item, none after it left", () => {
  // An item's id is made fresh each time; other events speak of the n-th item ever made.
  const event = fc.oneof(
    fc.record({ kind: fc.constant("enqueue" as const), patchset: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant("prepared" as const), of: fc.nat(5) }),
    fc.record({
      kind: fc.constant("ended" as const),
      of: fc.nat(5),
      job: fc.constantFrom("a", "b"),
      attempt: fc.constantFrom("now", "now", "now", "1", "4"),
      result: fc.constantFrom<BuildResult>("SUCCESS", "FAILURE", "RETRY", "ABORTED"),
    }),
    fc.record({ kind: fc.constant("new" as const), patchset: fc.constantFrom(1, 1, 1, 2) }),
  );
  let reports = 0;
  fc.assert(
    fc.property(fc.array(event, { minLength: 40, maxLength: 80, size: "max" }), (events) => {
      let state = start;
      const made: string[] = [];
      for (const [index, raw] of events.entries()) {
        const now = (item: string, name: string): string =>
          state.items.get(item)?.buildset.jobs.find((run) => run.job.name === name)?.current
            ?.build ?? `${item}-${name}-1`;
        const id = "of" in raw ? (made[raw.of % Math.max(1, made.length)] ?? "none") : `i${index}`;
        const next: PipelineEvent =
          raw.kind === "enqueue"
            ? enqueue(id, 1, raw.patchset)
            : raw.kind === "prepared"
              ? prepared(id, job("a"), job("b"))
              : raw.kind === "ended"
                ? ended(
                    id,
                    raw.attempt === "now" ? now(id, raw.job) : `${id}-${raw.job}-${raw.attempt}`,
                    raw.result,
                  )
                : { kind: "new-patchset", connection: "local", change: 1, patchset: raw.patchset };
        const before = state.items;
        const step = stepPipelines(state, next, index);
        state = step.state;
        if (next.kind === "enqueue" && state.items.has(id)) made.push(id);
        const final = step.effects.filter(
          (effect) => effect.kind === "report" && effect.stage !== "start",
        );
        reports += final.length;
        expect(final.length).toBeLessThanOrEqual(1);
        for (const effect of step.effects) {
          if (effect.kind === "report" && effect.stage !== "start") {
            expect(before.has(effect.item.id)).toBe(true);
            expect(state.items.has(effect.item.id)).toBe(false);
          }
          if (effect.kind === "start-build") expect(state.items.has(effect.item.id)).toBe(true);
        }
        for (const item of state.items.values()) {
          expect(item.stage).not.toBe("done");
          for (const run of item.buildset.jobs)
            expect(run.current === null).toBe(run.final !== null);
        }
      }
    }),
    { numRuns: 300 },
  );
  expect(reports).toBeGreaterThan(10);
});

test("an item of version 0.1 is read as one change and its only buildset", () => {
  const item = stepPipelines({ ...emptyPipelines(), rules }, enqueue("a"), 1).state.items.get("a")!;
  const { changes, buildset, ...rest } = item;
  const { id: _, ...of } = buildset;
  const old = { ...rest, ...of, change: changes[0]! };
  expect(itemOf(old)).toEqual({ ...item, buildset: { ...buildset, id: "a" } });
  expect(itemOf(item)).toBe(item);
});

test("an item of several changes leaves with a new patchset of any of them", () => {
  const pair = { ...enqueue("a"), changes: [change(1), change(2)] } as PipelineEvent;
  const before = stepPipelines({ ...emptyPipelines(), rules }, pair, 1).state;
  expect(before.items.ofChange(change(1))).toHaveLength(1);
  const again = stepPipelines(before, enqueue("b", 1), 2);
  expect(again.effects).toEqual([]);
  const of = { kind: "new-patchset", connection: "local", change: 1, patchset: 2 } as const;
  expect(stepPipelines(before, of, 3).state.items.size).toBe(0);
});

test("P-3 an enqueue into a pipeline that is gone is nothing", () => {
  const step = stepPipelines({ ...emptyPipelines(), rules }, enqueue("a", 1, 1, "gone"), 1);
  expect(step.effects).toEqual([]);
  expect(step.state.items.size).toBe(0);
});

test("FG-3 a step looks at its own items: 10,000 in the queues cost it nothing", () => {
  let state: PipelineState = { ...emptyPipelines(), rules };
  for (let number = 1; number <= 10_000; number++) {
    const step = stepPipelines(state, enqueue(`i${number}`, number), 1);
    state = { ...step.state, items: settle(step.state.items) };
  }
  const items: Queues = {
    ...state.items,
    size: state.items.size,
    values: () => expect.unreachable("the whole queue was looked at"),
  };
  const of = { kind: "new-patchset", connection: "local", change: 77, patchset: 2 } as const;
  const step = stepPipelines({ ...state, items }, of, 2);
  expect(step.effects.map((effect) => effect.kind)).toEqual(["record"]);
  expect(step.state.items.size).toBe(9_999);
});

test("a build that a restart ended is tried again under its attempt, so often and no more, without a vote", () => {
  let state: PipelineState = { ...emptyPipelines(), rules };
  const step = (event: PipelineEvent): readonly PipelineEffect[] => {
    const one = stepPipelines(state, event, 5);
    state = one.state;
    return one.effects;
  };
  step(enqueue("a"));
  step(prepared("a", job("x")));
  const current = () => state.items.get("a")!.buildset.jobs[0]!.current!;
  const end = (result: BuildResult, more: Partial<EndedBuild>) => {
    const { build, attempt } = current();
    const event = ended("a", `${build}-1`, result, { ...more, build, attempt });
    return step({ ...event, next: `${build}n` } as PipelineEvent);
  };
  end("RETRY", {});
  expect(current().attempt).toBe(2);
  for (let n = 0; n < 10; n++) {
    end("RETRY", { restart: true });
    expect(current().attempt).toBe(2);
  }
  const last = end("RETRY", { restart: true });
  expect(last.find((effect) => effect.kind === "report")).toMatchObject({ vote: false });
});

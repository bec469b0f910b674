/**
 * The scheduler's loop as one function over (state, event, nowMs): items enter, are merged, run
 * their builds, report and leave (ci.md §§8, 13). Manager independent. Effects go out as values:
 * whoever performs them records the changed items first. Ids come in with the events.
 * I1: an event of a build that is not its item's current one changes nothing.
 */
import { assertNever } from "../../base/assert.ts";
import type { ReportStage } from "../../model/pipeline.ts";
import { avoidFor, itemVote, judge } from "./item.ts";
import type { EndedBuild, Item, ItemOutcome, JobRun, Merged, QueuedChange } from "./item.ts";

export type PipelineRules = {
  readonly dequeueOnNewPatchset: boolean;
};

export type PipelineState = {
  readonly rules: ReadonlyMap<string, PipelineRules>;
  /** Live items, in order of entry. */
  readonly items: ReadonlyMap<string, Item>;
};

export type PrepareOutcome =
  | {
      readonly kind: "merged";
      readonly merged: Merged;
      /** Frozen jobs, each with an id for its first build. */
      readonly jobs: readonly { readonly job: JobRun["job"]; readonly build: string }[];
    }
  | { readonly kind: "conflict"; readonly detail: readonly string[] }
  | { readonly kind: "config-error"; readonly detail: readonly string[] };

export type PipelineEvent =
  | { readonly kind: "reconfigured"; readonly rules: PipelineState["rules"] }
  | {
      readonly kind: "enqueue";
      readonly item: string;
      readonly pipeline: string;
      readonly change: QueuedChange;
      readonly ahead: readonly QueuedChange[];
      readonly pushedMs: number;
    }
  | {
      readonly kind: "new-patchset";
      readonly connection: string;
      readonly change: number;
      readonly patchset: number;
    }
  /** Abandoned, or merged by other means: it is open no more. */
  | { readonly kind: "closed"; readonly connection: string; readonly change: number }
  | { readonly kind: "prepared"; readonly item: string; readonly outcome: PrepareOutcome }
  | {
      readonly kind: "build-ended";
      readonly item: string;
      readonly build: EndedBuild;
      /** Id for the next attempt, if there is one. */
      readonly next: string;
    };

export type PipelineEffect =
  | { readonly kind: "merge"; readonly item: Item }
  | {
      readonly kind: "start-build";
      readonly item: Item;
      readonly job: JobRun["job"];
      readonly build: string;
      readonly attempt: number;
      readonly avoid: { readonly hosts: readonly string[]; readonly testenvs: readonly string[] };
    }
  | { readonly kind: "cancel-build"; readonly build: string; readonly why: string }
  | {
      readonly kind: "report";
      readonly item: Item;
      readonly stage: ReportStage;
      /** False: the comment alone, no label (F-1a). */
      readonly vote: boolean;
    }
  /** The item's new value, to be recorded; `done` ones have left. */
  | { readonly kind: "record"; readonly item: Item; readonly event: string };

export type PipelineStep = { readonly state: PipelineState; readonly effects: PipelineEffect[] };

export const emptyPipelines: PipelineState = { rules: new Map(), items: new Map() };

export function stepPipelines(
  state: PipelineState,
  event: PipelineEvent,
  nowMs: number,
): PipelineStep {
  switch (event.kind) {
    case "reconfigured":
      return leave(
        { ...state, rules: event.rules },
        (item) => !event.rules.has(item.pipeline),
        "the pipeline was removed",
        nowMs,
      );
    case "enqueue":
      return enqueue(state, event, nowMs);
    case "new-patchset":
      return leave(
        state,
        (item) =>
          isChange(item, event) &&
          item.change.patchset < event.patchset &&
          state.rules.get(item.pipeline)?.dequeueOnNewPatchset === true,
        `superseded by patchset ${event.patchset}`,
        nowMs,
      );
    case "closed":
      return leave(state, (item) => isChange(item, event), "the change is no longer open", nowMs);
    case "prepared": {
      const item = state.items.get(event.item);
      if (item?.stage !== "merging") return { state, effects: [] };
      return prepared(state, item, event.outcome, nowMs);
    }
    case "build-ended":
      return buildEnded(state, event, nowMs);
    default:
      return assertNever(event, "event");
  }
}

function isChange(item: Item, of: { connection: string; change: number }): boolean {
  return item.change.connection === of.connection && item.change.change === of.change;
}

/** P-3: a patchset that is live in the pipeline already is ignored; a non-live copy is not. */
function enqueue(
  state: PipelineState,
  event: Extract<PipelineEvent, { kind: "enqueue" }>,
  nowMs: number,
): PipelineStep {
  const live = [...state.items.values()].some(
    (item) =>
      item.pipeline === event.pipeline &&
      isChange(item, event.change) &&
      item.change.patchset === event.change.patchset,
  );
  if (live || !state.rules.has(event.pipeline)) return { state, effects: [] };
  const item: Item = {
    id: event.item,
    pipeline: event.pipeline,
    change: event.change,
    ahead: event.ahead,
    stage: "merging",
    pushedMs: event.pushedMs,
    enqueuedMs: nowMs,
    mergedMs: null,
    merged: null,
    jobs: [],
    outcome: null,
    detail: [],
    endedMs: null,
  };
  return {
    state: put(state, item),
    effects: [
      { kind: "record", item, event: "enqueued" },
      { kind: "merge", item },
    ],
  };
}

/** these items go, without a report; their builds are cancelled. */
function leave(
  state: PipelineState,
  which: (item: Item) => boolean,
  why: string,
  nowMs: number,
): PipelineStep {
  const items = new Map(state.items);
  const effects: PipelineEffect[] = [];
  for (const item of state.items.values()) {
    if (!which(item)) continue;
    items.delete(item.id);
    const gone = finish(item, "DEQUEUED", [why], nowMs);
    effects.push({ kind: "record", item: gone, event: "dequeued" });
    for (const { current } of item.jobs) {
      if (current) effects.push({ kind: "cancel-build", build: current.build, why });
    }
  }
  return { state: { ...state, items }, effects };
}

function prepared(
  state: PipelineState,
  item: Item,
  outcome: PrepareOutcome,
  nowMs: number,
): PipelineStep {
  switch (outcome.kind) {
    case "conflict":
      return report(state, finish(item, "MERGE_CONFLICT", outcome.detail, nowMs), "failure");
    case "config-error":
      return report(state, finish(item, "CONFIG_ERROR", outcome.detail, nowMs), "failure");
    case "merged": {
      if (outcome.jobs.length === 0) {
        // J-4: never "+1 with zero jobs".
        const done = finish(item, "NO_JOBS", [], nowMs);
        return {
          state: drop(state, done),
          effects: [{ kind: "record", item: done, event: "no-jobs" }],
        };
      }
      const running: Item = {
        ...item,
        stage: "running",
        merged: outcome.merged,
        mergedMs: nowMs,
        jobs: outcome.jobs.map(({ job, build }) => ({
          job,
          current: { build, attempt: 1 },
          ended: [],
          final: null,
        })),
      };
      return {
        state: put(state, running),
        effects: [
          { kind: "record", item: running, event: "merged" },
          { kind: "report", item: running, stage: "start", vote: true },
          ...running.jobs.map((run): PipelineEffect => startBuild(running, run)),
        ],
      };
    }
    default:
      return assertNever(outcome, "outcome");
  }
}

function buildEnded(
  state: PipelineState,
  event: Extract<PipelineEvent, { kind: "build-ended" }>,
  nowMs: number,
): PipelineStep {
  const item = state.items.get(event.item);
  const at = item?.jobs.findIndex((run) => run.current?.build === event.build.build) ?? -1;
  const run = item?.jobs[at];
  if (!item || !run) return { state, effects: [] }; // I1
  const verdict = judge(run, event.build);
  const ended = [...run.ended, event.build];
  const replace = (next: JobRun): Item => ({ ...item, jobs: item.jobs.with(at, next) });
  if (verdict === "again") {
    const current = { build: event.next, attempt: event.build.attempt + 1 };
    const next: JobRun = { ...run, ended, current };
    const retrying = replace(next);
    return {
      state: put(state, retrying),
      effects: [{ kind: "record", item: retrying, event: "retry" }, startBuild(retrying, next)],
    };
  }
  const finished = replace({ ...run, ended, current: null, final: verdict });
  if (finished.jobs.some((job) => job.final === null)) {
    return {
      state: put(state, finished),
      effects: [{ kind: "record", item: finished, event: "job-ended" }],
    };
  }
  const vote = itemVote(finished.jobs);
  const outcome: ItemOutcome = vote === "success" ? "SUCCESS" : "FAILURE";
  return report(state, finish(finished, outcome, [], nowMs), vote);
}

function startBuild(item: Item, run: JobRun): PipelineEffect {
  const { build, attempt } = run.current!;
  return { kind: "start-build", item, job: run.job, build, attempt, avoid: avoidFor(run) };
}

/** I-3: it reports when its jobs are done, and leaves in the same step: once. */
function report(
  state: PipelineState,
  item: Item,
  vote: "success" | "failure" | "none",
): PipelineStep {
  const stages: Partial<Record<ItemOutcome, ReportStage>> = {
    SUCCESS: "success",
    MERGE_CONFLICT: "merge-conflict",
    CONFIG_ERROR: "config-error",
  };
  return {
    state: drop(state, item),
    effects: [
      { kind: "record", item, event: "reported" },
      {
        kind: "report",
        item,
        stage: stages[item.outcome ?? "FAILURE"] ?? "failure",
        vote: vote !== "none",
      },
    ],
  };
}

function finish(item: Item, outcome: ItemOutcome, detail: readonly string[], nowMs: number): Item {
  return { ...item, stage: "done", outcome, detail, endedMs: nowMs };
}

function put(state: PipelineState, item: Item): PipelineState {
  return { ...state, items: new Map(state.items).set(item.id, item) };
}

function drop(state: PipelineState, item: Item): PipelineState {
  const items = new Map(state.items);
  items.delete(item.id);
  return { ...state, items };
}

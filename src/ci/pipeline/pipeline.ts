/**
 * The scheduler's loop as one function over (state, event, nowMs): items enter, are merged, run
 * their builds, report and leave (ci.md §§8, 13). Manager independent. Effects go out as values:
 * whoever performs them records the changed items first. Ids come in with the events.
 * I1: an event of a build that is not its item's current one changes nothing.
 */
import { assertNever } from "../../base/assert.ts";
import { limits } from "../../base/limits.ts";
import type { ReportStage } from "../../model/pipeline.ts";
import { avoidFor, itemVote, judge } from "./item.ts";
import { queuesOf, withItem } from "./queues.ts";
import type { Queues } from "./queues.ts";
import type { EndedBuild, Item, ItemOutcome, JobRun, Merged, QueuedChange } from "./item.ts";

export type PipelineRules = {
  readonly dequeueOnNewPatchset: boolean;
};

export type PipelineState = {
  readonly rules: ReadonlyMap<string, PipelineRules>;
  /** Live items. */
  readonly items: Queues;
};

export type PrepareOutcome =
  | {
      readonly kind: "merged";
      readonly merged: Merged;
      /** Frozen jobs, each with an id for its first build. */
      readonly jobs: readonly { readonly job: JobRun["job"]; readonly build: string }[];
    }
  | { readonly kind: "conflict"; readonly detail: readonly string[] }
  | { readonly kind: "config-error"; readonly detail: readonly string[] }
  /** The machine's or the source's doing: told, and no vote. */
  | { readonly kind: "merger-error"; readonly detail: readonly string[] };

export type PipelineEvent =
  | { readonly kind: "reconfigured"; readonly rules: PipelineState["rules"] }
  | {
      readonly kind: "enqueue";
      readonly item: string;
      readonly buildset: string;
      readonly pipeline: string;
      readonly changes: readonly QueuedChange[];
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

/** Fresh each time: what is settled on it stays in it. */
export const emptyPipelines = (): PipelineState => ({ rules: new Map(), items: queuesOf([]) });

export function stepPipelines(
  state: PipelineState,
  event: PipelineEvent,
  nowMs: number,
): PipelineStep {
  switch (event.kind) {
    case "reconfigured":
      return leave(
        { ...state, rules: event.rules },
        [...state.rules.keys()]
          .filter((name) => !event.rules.has(name))
          .flatMap((name) => state.items.ofPipeline(name)),
        "the pipeline was removed",
        nowMs,
      );
    case "enqueue":
      return enqueue(state, event, nowMs);
    case "new-patchset":
      return leave(
        state,
        state.items
          .ofChange(event)
          .filter(
            (item) =>
              isOlder(item, event) && state.rules.get(item.pipeline)?.dequeueOnNewPatchset === true,
          ),
        `superseded by patchset ${event.patchset}`,
        nowMs,
      );
    case "closed":
      return leave(state, state.items.ofChange(event), "the change is no longer open", nowMs);
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

/** It holds an older patchset of the change. */
function isOlder(item: Item, event: { connection: string; change: number; patchset: number }) {
  return item.changes.some(
    (one) =>
      one.connection === event.connection &&
      one.change === event.change &&
      one.patchset < event.patchset,
  );
}

/** P-3: a patchset that is live in the pipeline already is ignored; a non-live copy is not. */
function enqueue(
  state: PipelineState,
  event: Extract<PipelineEvent, { kind: "enqueue" }>,
  nowMs: number,
): PipelineStep {
  const live = event.changes.some((wanted) =>
    state.items
      .ofChange(wanted)
      .some(
        (item) =>
          item.pipeline === event.pipeline &&
          item.changes.some((one) => one.ref === wanted.ref && one.commit === wanted.commit),
      ),
  );
  if (live || !state.rules.has(event.pipeline)) return { state, effects: [] };
  const item: Item = {
    id: event.item,
    pipeline: event.pipeline,
    changes: event.changes,
    ahead: event.ahead,
    stage: "merging",
    pushedMs: event.pushedMs,
    enqueuedMs: nowMs,
    buildset: { id: event.buildset, mergedMs: null, merged: null, jobs: [] },
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
  leaving: readonly Item[],
  why: string,
  nowMs: number,
): PipelineStep {
  let { items } = state;
  const effects: PipelineEffect[] = [];
  for (const item of leaving) {
    const gone = finish(item, "DEQUEUED", [why], nowMs);
    items = withItem(items, gone);
    effects.push({ kind: "record", item: gone, event: "dequeued" });
    for (const { current } of item.buildset.jobs) {
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
    case "merger-error":
      return report(state, finish(item, "MERGER_ERROR", outcome.detail, nowMs), "none");
    case "merged": {
      if (outcome.jobs.length === 0) {
        // J-4: never "+1 with zero jobs".
        const done = finish(item, "NO_JOBS", [], nowMs);
        return {
          state: put(state, done),
          effects: [{ kind: "record", item: done, event: "no-jobs" }],
        };
      }
      const running: Item = {
        ...item,
        stage: "running",
        buildset: {
          id: item.buildset.id,
          merged: outcome.merged,
          mergedMs: nowMs,
          jobs: outcome.jobs.map(({ job, build }) => ({
            job,
            current: { build, attempt: 1 },
            ended: [],
            final: null,
          })),
        },
      };
      return {
        state: put(state, running),
        effects: [
          { kind: "record", item: running, event: "merged" },
          { kind: "report", item: running, stage: "start", vote: true },
          ...running.buildset.jobs.map((run): PipelineEffect => startBuild(running, run)),
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
  const { jobs = [] } = item?.buildset ?? {};
  const at = jobs.findIndex((run) => run.current?.build === event.build.build);
  const run = jobs[at];
  if (!item || !run) return { state, effects: [] }; // I1
  const verdict = judge(run, event.build, limits.buildRestarts);
  const ended = [...run.ended, event.build];
  const replace = (next: JobRun): Item => ({
    ...item,
    buildset: { ...item.buildset, jobs: jobs.with(at, next) },
  });
  if (verdict === "again") {
    const used = event.build.restart ? 0 : 1;
    const current = { build: event.next, attempt: event.build.attempt + used };
    const next: JobRun = { ...run, ended, current };
    const retrying = replace(next);
    return {
      state: put(state, retrying),
      effects: [{ kind: "record", item: retrying, event: "retry" }, startBuild(retrying, next)],
    };
  }
  const finished = replace({ ...run, ended, current: null, final: verdict });
  if (finished.buildset.jobs.some((job) => job.final === null)) {
    return {
      state: put(state, finished),
      effects: [{ kind: "record", item: finished, event: "job-ended" }],
    };
  }
  const vote = itemVote(finished.buildset.jobs);
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
    state: put(state, item),
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

/** One that is done has left. */
function put(state: PipelineState, item: Item): PipelineState {
  return { ...state, items: withItem(state.items, item) };
}

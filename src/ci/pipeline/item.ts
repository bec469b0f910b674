/**
 * Queue items as values (ci.md §3). In an independent pipeline every live item has a queue of
 * its own: what stands ahead of it are its open dependencies, non-live, for their content alone
 * (I-1). An item has one buildset for its whole life, so both share an id. Plain JSON: the
 * item is the body of its `buildset` row.
 */
import type { BuildResult, Evidence } from "../../model/build.ts";
import type { FrozenJob, PreparedRepo } from "../../model/job.ts";
import type { Interruption } from "../../model/lease.ts";

/** A change in exactly one patchset. */
export type QueuedChange = {
  readonly connection: string;
  readonly project: string;
  readonly branch: string;
  readonly change: number;
  readonly patchset: number;
  readonly ref: string;
  readonly commit: string;
  readonly url: string;
  readonly subject: string;
};

/** One attempt that is over. */
export type EndedBuild = {
  readonly build: string;
  readonly attempt: number;
  readonly result: BuildResult;
  /** Ended in a class of F-1: not the author's (F-1a). */
  readonly rackFault: boolean;
  readonly detail: string | null;
  readonly startedMs: number | null;
  readonly endedMs: number;
  /** The build's page. */
  readonly url: string;
  readonly te: string | null;
  readonly host: string | null;
  readonly interruptions: readonly Interruption[];
  readonly evidence: readonly Evidence[];
};

export type JobVote = "success" | "failure" | "none";

export type JobRun = {
  readonly job: FrozenJob;
  /** The attempt under way. */
  readonly current: { readonly build: string; readonly attempt: number } | null;
  readonly ended: readonly EndedBuild[];
  readonly final: { readonly result: BuildResult; readonly vote: JobVote } | null;
};

export type Merged = {
  /** `refs/zuul/<branch>/Z<uuid>` of the item, and its commit (M-4). */
  readonly zuulRef: string;
  readonly zuulCommit: string;
  readonly repos: readonly PreparedRepo[];
};

export type ItemOutcome =
  | "SUCCESS"
  | "FAILURE"
  | "MERGE_CONFLICT"
  | "CONFIG_ERROR"
  | "NO_JOBS"
  | "DEQUEUED";

export type Item = {
  readonly id: string;
  readonly pipeline: string;
  readonly change: QueuedChange;
  /** Non-live items ahead, oldest first: what it needs and is not merged yet (D-1). */
  readonly ahead: readonly QueuedChange[];
  readonly stage: "merging" | "running" | "done";
  readonly pushedMs: number;
  readonly enqueuedMs: number;
  readonly mergedMs: number | null;
  readonly merged: Merged | null;
  /** In configured order. */
  readonly jobs: readonly JobRun[];
  readonly outcome: ItemOutcome | null;
  /** Conflict or configuration error, in words. */
  readonly detail: readonly string[];
  readonly endedMs: number | null;
};

/** Racks and hosts that a further attempt keeps away from (F-2). */
export function avoidFor(run: JobRun): { hosts: string[]; testenvs: string[] } {
  const names = (of: (build: EndedBuild) => string | null): string[] =>
    Array.from(new Set(run.ended.map(of).filter((name) => name !== null)));
  return { hosts: names((build) => build.host), testenvs: names((build) => build.te) };
}

const retried: ReadonlySet<BuildResult> = new Set(["RETRY", "TE_LOST", "TE_UNAVAILABLE"]);

/** What an ended attempt means for its job: another one, or the end with a vote (F-0, F-1a). */
export function judge(run: JobRun, last: EndedBuild): JobRun["final"] | "again" {
  if (retried.has(last.result)) {
    if (last.attempt < run.job.attempts) return "again";
    const racksOnly = [...run.ended, last].every((build) => build.rackFault);
    return { result: "RETRY_LIMIT", vote: racksOnly ? "none" : "failure" };
  }
  switch (last.result) {
    case "SUCCESS":
      return { result: last.result, vote: "success" };
    case "CANCELED":
    case "ABORTED":
    case "SKIPPED":
      return { result: last.result, vote: "none" };
    default:
      return { result: last.result, vote: "failure" };
  }
}

/**
 * The item's vote when all its jobs are done: any voting job that failed decides (B-2); one that
 * says nothing (ABORTED, racks at fault) leaves no vote; else success.
 */
export function itemVote(jobs: readonly JobRun[]): JobVote {
  const votes = jobs.filter((run) => run.job.voting).map((run) => run.final?.vote);
  if (votes.includes("failure")) return "failure";
  return votes.includes("none") ? "none" : "success";
}

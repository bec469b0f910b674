/**
 * Queue items and their buildsets as values (ci.md §3). An item is one change, or several that
 * are tested together; a buildset one configuration of it: what is ahead, the frozen repositories,
 * the builds. In an independent pipeline every live item has a queue of its own: what stands ahead
 * of it are its open dependencies, non-live, for their content alone (I-1), and its first buildset
 * is its only one. Plain JSON: the item is the body of its row.
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
  /** A restart of ours ended it: it used no attempt. Absent in rows of 0.1. */
  readonly restart?: boolean;
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
  | "MERGER_ERROR"
  | "NO_JOBS"
  | "DEQUEUED";

export type Buildset = {
  /** Names refs, builds and reports of this configuration. */
  readonly id: string;
  readonly mergedMs: number | null;
  readonly merged: Merged | null;
  /** In configured order. */
  readonly jobs: readonly JobRun[];
};

export type Item = {
  readonly id: string;
  readonly pipeline: string;
  /** In the order in which they are merged; the last one names the item. */
  readonly changes: readonly QueuedChange[];
  /** Non-live items ahead, oldest first: what it needs and is not merged yet (D-1). */
  readonly ahead: readonly QueuedChange[];
  readonly stage: "merging" | "running" | "done";
  readonly pushedMs: number;
  readonly enqueuedMs: number;
  /** The current one: only its builds count (I1). */
  readonly buildset: Buildset;
  readonly outcome: ItemOutcome | null;
  /** Conflict or configuration error, in words. */
  readonly detail: readonly string[];
  readonly endedMs: number | null;
};

/** The change that the item is known by. */
export function testedChange(item: Item): QueuedChange {
  return item.changes.at(-1)!;
}

/** An item as version 0.1 kept it: one change, and its only buildset under the same id. */
export type Item01 = Omit<Item, "changes" | "buildset"> &
  Omit<Buildset, "id"> & { readonly change: QueuedChange };

export function itemOf(body: Item | Item01): Item {
  if ("buildset" in body) return body;
  const { change, mergedMs, merged, jobs, ...item } = body;
  return { ...item, changes: [change], buildset: { id: item.id, mergedMs, merged, jobs } };
}

/** Racks and hosts that a further attempt keeps away from (F-2); a restart was not their fault. */
export function avoidFor(run: JobRun): { hosts: string[]; testenvs: string[] } {
  const names = (of: (build: EndedBuild) => string | null): string[] =>
    Array.from(
      new Set(
        run.ended
          .filter((build) => !build.restart)
          .map(of)
          .filter((name) => name !== null),
      ),
    );
  return { hosts: names((build) => build.host), testenvs: names((build) => build.te) };
}

const retried: ReadonlySet<BuildResult> = new Set(["RETRY", "TE_LOST", "TE_UNAVAILABLE"]);

/**
 * What an ended attempt means for its job: another one, or the end with a vote (F-0, F-1a). One
 * that a restart ended uses no attempt, up to `restarts` of them; then it is no vote.
 */
export function judge(run: JobRun, last: EndedBuild, restarts: number): JobRun["final"] | "again" {
  if (retried.has(last.result)) {
    const all = [...run.ended, last];
    if (last.restart) {
      const many = all.filter((build) => build.restart).length > restarts;
      return many ? { result: "RETRY_LIMIT", vote: "none" } : "again";
    }
    if (last.attempt < run.job.attempts) return "again";
    const racksOnly = all.every((build) => build.rackFault || build.restart);
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

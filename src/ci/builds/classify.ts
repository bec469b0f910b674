/**
 * The result of a build from how its steps ended (ci.md F-0, F-1): the one place that judges.
 * First what ended it from outside, then the node's reachability, then the job's own word. A
 * rack that was interrupted takes the blame only for what did not succeed. Pure.
 */
import { assertNever } from "../../base/assert.ts";
import type { BuildResult } from "../../model/build.ts";
import type { Interruption } from "../../model/lease.ts";
import type { StepOutcome } from "./build-ports.ts";
import type { Stop } from "./record.ts";

export type Ending = {
  readonly stop: Stop | null;
  readonly prepare: StepOutcome | null;
  readonly run: StepOutcome | null;
  readonly collect: StepOutcome | null;
  readonly interruptions: readonly Interruption[];
  /** Why the node went, where its host began anew or is away. */
  readonly nodeLost: string | null;
  /** A job that needs no node (J-4). */
  readonly noop: boolean;
};

export type Verdict = {
  readonly result: BuildResult;
  /** A class of F-1: the rack's or the operator's doing, not the author's (F-1a). */
  readonly rackFault: boolean;
  /** A program or machine of ours was restarted: nobody's fault, and no attempt is used. */
  readonly restart: boolean;
  readonly detail: string | null;
};

export function classify(ending: Ending): Verdict {
  if (ending.noop && ending.stop === null) return plain("SUCCESS", null);
  const stopped = ending.stop && byStop(ending.stop, ending);
  if (stopped) return stopped;
  const lost = lostStep(ending);
  if (lost !== undefined) return restarted(lost);
  const unreachable = [ending.prepare, ending.run, ending.collect].find(
    (step) => step?.kind === "unreachable",
  );
  if (unreachable?.kind === "unreachable") {
    if (ending.nodeLost !== null) return restarted(`the node was lost: ${ending.nodeLost}`);
    return plain("RETRY", `the node could not be reached: ${unreachable.detail}`);
  }
  const own = byJob(ending);
  if (own.result === "SUCCESS" || !interruptible.has(own.result)) return own;
  if (ending.interruptions.length === 0) return own;
  const seen = ending.interruptions.map((interruption) => interruption.text).join("; ");
  return {
    result: "RETRY",
    rackFault: true,
    restart: ending.interruptions.every(({ code }) => restartCodes.has(code)),
    detail: `the rack was interrupted: ${seen}`,
  };
}

/** Interruptions by a restart of the host's agent, not by a fault of the rack. */
const restartCodes: ReadonlySet<string> = new Set(["agent-restarted", "agent-stalled"]);

/** A step that nobody can tell the end of; after a run that failed, the run's word stands. */
function lostStep({ prepare, run, collect }: Ending): string | undefined {
  if (prepare?.kind === "lost") return prepare.detail;
  if (run?.kind === "lost") return run.detail;
  return collect?.kind === "lost" && succeeded(run) ? collect.detail : undefined;
}

/** What a fault of the rack can look like to the job. */
const interruptible: ReadonlySet<BuildResult> = new Set([
  "FAILURE",
  "TIMED_OUT",
  "POST_FAILURE",
  "RETRY",
]);

function byStop(stop: Stop, ending: Ending): Verdict | undefined {
  switch (stop.kind) {
    case "cancelled":
    case "superseded":
      return plain("CANCELED", stop.why);
    case "revoked":
      return {
        ...plain("ABORTED", null),
        rackFault: true,
        detail: "an operator revoked the lease",
      };
    case "rack-lost":
      // The main phase had succeeded before: what came later is shown, no more (F-1).
      if (succeeded(ending.run)) return undefined;
      // Node and rack went with their host's new beginning: a restart, no fault of the rack.
      if (ending.nodeLost !== null) return restarted(`the node was lost: ${ending.nodeLost}`);
      return { ...plain("TE_LOST", stop.why), rackFault: true };
    case "lease-over":
      // An expiry never changes what the run has ended with (T-1).
      if (hasEnded(ending.run)) return undefined;
      return { ...plain("RETRY", stop.why), rackFault: true };
    case "rack-unavailable":
      return { ...plain("TE_UNAVAILABLE", stop.why), rackFault: true };
    case "node-failure":
      return plain("NODE_FAILURE", stop.why);
    case "restarted":
      return restarted("the server was restarted while the build ran");
    default:
      return assertNever(stop, "stop");
  }
}

function byJob({ prepare, run, collect }: Ending): Verdict {
  const before = prepare ?? { kind: "aborted" };
  if (before.kind === "disk-full") return plain("DISK_FULL", before.detail);
  if (before.kind === "no-workspace") return plain(before.own ? "FAILURE" : "RETRY", before.detail);
  if (before.kind !== "done") return plain("RETRY", "the node could not be prepared");
  if (run === null || run.kind === "aborted") return plain("RETRY", "the run was cut off");
  if (run.kind === "disk-full") return plain("DISK_FULL", run.detail);
  if (run.kind === "timed-out") {
    return plain("TIMED_OUT", `the ${run.phase} phase was stopped at the job's timeout`);
  }
  if (run.kind === "exited" && run.phase === "pre" && run.exitCode !== 0) {
    return plain("RETRY", `the pre phase exited with ${run.exitCode}`);
  }
  // After a failure a full disk explains it; after a success it is what post ran into.
  if (collect?.kind === "disk-full") return plain("DISK_FULL", collect.detail);
  if (run.kind === "exited" && run.exitCode !== 0) {
    return plain("FAILURE", `the run phase exited with ${run.exitCode}${shellSays(run.exitCode)}`);
  }
  if (collect?.kind === "timed-out") {
    return plain("POST_FAILURE", "the post phase was stopped at post-timeout");
  }
  if (collect?.kind === "exited" && collect.exitCode !== 0) {
    return plain("POST_FAILURE", `the post phase exited with ${collect.exitCode}`);
  }
  return plain("SUCCESS", null);
}

/** What a shell means by these, for whom they are the first thing that goes wrong. */
function shellSays(exitCode: number): string {
  if (exitCode === 126) return ": a command is not executable (chmod +x)";
  return exitCode === 127 ? ": a command was not found" : "";
}

function succeeded(run: StepOutcome | null): boolean {
  return run?.kind === "done" || (run?.kind === "exited" && run.exitCode === 0);
}

/** The run came to an end of its own, whatever it was. */
function hasEnded(run: StepOutcome | null): boolean {
  return ["done", "exited", "timed-out", "disk-full"].includes(run?.kind ?? "none");
}

function plain(result: BuildResult, detail: string | null): Verdict {
  return { result, rackFault: false, restart: false, detail };
}

function restarted(detail: string): Verdict {
  return { ...plain("RETRY", detail), restart: true };
}

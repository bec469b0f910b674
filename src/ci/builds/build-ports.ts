/**
 * What the saga of a build needs from the stages beside it. Stages never import each other:
 * nodepool, executor and archive have these shapes, and `ci/scheduler.ts` or `main` joins them.
 */
import type { Evidence } from "../../model/build.ts";
import type { FrozenJob, PreparedRepo } from "../../model/job.ts";
import type { TestenvData } from "../../model/testenv.ts";

/** One change of the item, oldest first; the tested one last (EV-2). */
export type ItemChange = {
  readonly project: string;
  readonly branch: string;
  readonly change: number;
  readonly patchset: number;
  /** `refs/changes/NN/NUMBER/PS` */
  readonly ref: string;
  readonly url: string;
  readonly subject: string;
};

/** All that is fixed when a build is made. */
export type BuildFacts = {
  readonly id: string;
  /** Its item in the queue; absent in rows of 0.1, where the buildset has the same id. */
  readonly item?: string;
  readonly buildset: string;
  readonly tenant: string;
  readonly pipeline: string;
  readonly project: string;
  readonly branch: string;
  readonly changes: readonly ItemChange[];
  /** `refs/zuul/<branch>/Z<uuid>` of the item, and its commit. */
  readonly zuulRef: string;
  readonly zuulCommit: string;
  readonly repos: readonly PreparedRepo[];
  readonly job: FrozenJob;
  readonly attempt: number;
  /** L-1, relative to the archive. */
  readonly baseLogPath: string;
  readonly logsPath: string;
  readonly logsUrl: string;
  readonly buildUrl: string;
};

export type ReadyNode = {
  readonly id: string;
  readonly label: string;
  readonly provider: string;
  readonly address: string;
  /** Of its sshd, where it is not 22. */
  readonly port?: number;
  /** `ssh-ed25519 AAAA…`, known before the first login. */
  readonly hostKey: string;
  readonly image: string;
};

export type NodePool = {
  /** Ready and unassigned nodes of a label, oldest first. */
  ready(label: string): readonly ReadyNode[];
  /** How many builds wait for nodes of each label now: the pool launches for them (N-1, N-3). */
  demand(waiting: ReadonlyMap<string, number>): void;
  /**
   * Why an assigned node went by its host's new beginning, or its host is away; undefined: it is
   * there, or went by something else.
   */
  lost(nodeId: string): Promise<string | undefined>;
  /** Durable, at once: ready → in-use (I2). Throws `conflict` if it is no longer free. */
  assign(nodeId: string, buildId: string): Promise<ReadyNode>;
  /** used → deleting; single use (N-5). Content when it is gone. */
  release(nodeId: string): Promise<void>;
  /** Labels that cannot be served, with the reason (NODE_FAILURE after all tries). */
  failure(label: string): string | undefined;
  /** Why no node of this label is ready, in words. */
  why(label: string): string;
  onChange(callback: () => void): void;
};

/** The rack a build has, while it has it. */
export type HeldLease = {
  readonly id: string;
  readonly te: string;
  readonly epoch: string;
  readonly host: string;
  readonly data: TestenvData;
};

export type ExecutorJob = {
  readonly facts: BuildFacts;
  readonly node: ReadyNode;
  readonly lease: HeldLease | null;
  /**
   * The step may have begun in an earlier life of the server: take it up where it is, or say
   * `lost`. Steps are known by (build, phase, attempt); asked for twice they run once.
   */
  readonly resumed: boolean;
};

/** How a step on the node ended; `unreachable` is never the job's fault (X-3a). */
export type StepOutcome =
  | { readonly kind: "done" }
  /** A command's own status. */
  | { readonly kind: "exited"; readonly phase: "pre" | "run" | "post"; readonly exitCode: number }
  | { readonly kind: "timed-out"; readonly phase: "pre" | "run" | "post" }
  | { readonly kind: "unreachable"; readonly detail: string }
  /** The workspace could not be made, in git's words; `own`: by what the change itself holds. */
  | { readonly kind: "no-workspace"; readonly own: boolean; readonly detail: string }
  | { readonly kind: "disk-full"; readonly detail: string }
  | { readonly kind: "aborted" }
  /**
   * Nobody can say how it ended: the executor began anew, or failed itself. Nobody's fault; the
   * build is tried again and no attempt is used.
   */
  | { readonly kind: "lost"; readonly detail: string };

export type Executor = {
  /** Setup (60 s), workspace, environment, keys (X-3, V, EV). */
  prepare(job: ExecutorJob, signal: AbortSignal): Promise<StepOutcome>;
  /** pre, then run, both under the job's `timeout`. */
  run(job: ExecutorJob, signal: AbortSignal): Promise<StepOutcome>;
  /** post and cleanup phases, then collect; always, also after time-out and failure (T-2). */
  collect(job: ExecutorJob, after: StepOutcome, signal: AbortSignal): Promise<StepOutcome>;
  /** Pids of ssh processes that serve this build now. */
  readonly pids: (buildId: string) => readonly number[];
};

export type Archive = {
  /** Makes the build's folder; the console begins with "Detailed logs: URL". */
  begin(facts: BuildFacts): Promise<void>;
  /** A line of our own into the build's console. */
  say(buildId: string, text: string): void;
  /** Closes the console; waits ≤ 10 s for the host files; finds evidence; writes the index. */
  finish(
    facts: BuildFacts,
    ending: { result: string; lease: { id: string } | null; timeline: object[] },
    signal: AbortSignal,
  ): Promise<{ evidence: readonly Evidence[] }>;
};

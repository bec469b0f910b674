/**
 * A build as it is kept (life `build`): everything that the saga knows, so that after a kill at
 * any point it goes on from here. Search columns: a = change number, b = project, c = job,
 * d = pipeline, e = result, n = attempt. No secrets: TE data and the lease's token stay in memory.
 */
import type { BuildResult, BuildState, Evidence } from "../../model/build.ts";
import type { Interruption } from "../../model/lease.ts";
import type { LifeKind } from "../../store/store.ts";
import type { BuildFacts, ReadyNode, StepOutcome } from "./build-ports.ts";

/** A moment of the time line (surface.md §8 names the steps). */
export type Mark = {
  readonly step: string;
  readonly atMs: number;
  readonly machine?: string;
  readonly detail?: string;
};

/** Why a build is ended before its time. */
export type Stop =
  /** By a person. */
  | { readonly kind: "cancelled"; readonly why: string }
  /** By the scheduler: superseded, abandoned. */
  | { readonly kind: "superseded"; readonly why: string }
  /** By an operator, through its lease. */
  | { readonly kind: "revoked" }
  | { readonly kind: "rack-lost"; readonly why: string }
  /** The lease ended by our own silence or by its deadline (T-1). */
  | { readonly kind: "lease-over"; readonly why: string }
  | { readonly kind: "rack-unavailable"; readonly why: string }
  | { readonly kind: "node-failure"; readonly why: string }
  | { readonly kind: "restarted" };

/** Place in the queue of its node label: precedence, then age of the item, then job order. */
export type QueuePlace = {
  readonly precedence: number;
  readonly enqueuedMs: number;
  readonly index: number;
};

export type BuildRecord = {
  readonly facts: BuildFacts;
  readonly place: QueuePlace;
  readonly avoid: { readonly hosts: readonly string[]; readonly testenvs: readonly string[] };
  readonly createdMs: number;
  /** The zero of the time line. */
  readonly pushedMs: number;
  /** How often a rack was asked for: part of the key (a lost place is asked for anew). */
  readonly asks: number;
  readonly lease: string | null;
  readonly rack: { readonly te: string; readonly epoch: string; readonly host: string } | null;
  readonly node: ReadyNode | null;
  readonly prepare: StepOutcome | null;
  readonly run: StepOutcome | null;
  readonly collect: StepOutcome | null;
  readonly stop: Stop | null;
  readonly result: BuildResult | null;
  readonly rackFault: boolean;
  /** No attempt is used: a restart of ours ended it. Absent in rows of 0.1. */
  readonly restart?: boolean;
  readonly errorDetail: string | null;
  readonly interruptions: readonly Interruption[];
  readonly evidence: readonly Evidence[];
  readonly marks: readonly Mark[];
  readonly startedMs: number | null;
  readonly endedMs: number | null;
};

export type Build = { readonly state: BuildState; readonly record: BuildRecord };

export const buildLife: LifeKind<BuildRecord> = {
  life: "build",
  columns: ({ facts, result }) => ({
    a: facts.changes.length > 0 ? String(facts.changes.at(-1)!.change) : null,
    b: facts.project,
    c: facts.job.name,
    d: facts.pipeline,
    e: result,
    n: facts.attempt,
  }),
};

/** A build as it is made; the marks so far are the item's. */
export function newBuild(
  facts: BuildFacts,
  given: Pick<BuildRecord, "place" | "avoid" | "createdMs" | "pushedMs" | "marks">,
): Build {
  return {
    state: "waiting",
    record: {
      facts,
      ...given,
      asks: 1,
      lease: null,
      rack: null,
      node: null,
      prepare: null,
      run: null,
      collect: null,
      stop: null,
      result: null,
      rackFault: false,
      errorDetail: null,
      interruptions: [],
      evidence: [],
      startedMs: null,
      endedMs: null,
    },
  };
}

/** `Idempotency-Key` of the lease: build and number of the asking. */
export function rackKey(record: BuildRecord): string {
  return `${record.facts.id}/${record.asks}`;
}

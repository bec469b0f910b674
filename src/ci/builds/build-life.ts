/**
 * The life of a build as one total function (docs/specs/build.md): waiting → acquiring →
 * preparing → running → collecting → releasing → archiving → reported. Every state × event
 * is one of: a step, nothing (a late word of the outside world), or our mistake (assertion).
 * Effects are performed by driver.ts after the step is durable; each may be performed twice.
 */
import { assertNever } from "../../base/assert.ts";
import { AssertionError } from "../../base/assert.ts";
import type { BuildState, Evidence } from "../../model/build.ts";
import type { Interruption } from "../../model/lease.ts";
import type { ReadyNode, StepOutcome } from "./build-ports.ts";
import { classify } from "./classify.ts";
import type { Build, BuildRecord, Mark, Stop } from "./record.ts";

export type BuildEvent =
  /** Its place in the queue is taken; `lease` null: it wants no rack. */
  | { readonly kind: "asked"; readonly lease: string | null }
  /** The lease ended before it was taken, or its node went: asks anew. */
  | { readonly kind: "place-lost"; readonly why: string }
  /** Node assigned and rack taken, in the same step. */
  | {
      readonly kind: "acquired";
      readonly node: ReadyNode;
      readonly nodeReadyMs: number;
      readonly rack: BuildRecord["rack"];
    }
  /** prepare, run or collect came to an end, whichever the state does. */
  | { readonly kind: "stepped"; readonly outcome: StepOutcome }
  | { readonly kind: "stop"; readonly stop: Stop }
  | { readonly kind: "interrupted"; readonly interruptions: readonly Interruption[] }
  | {
      readonly kind: "released";
      readonly interruptions: readonly Interruption[];
      /** Why the node went, where its host began anew or is away. */
      readonly nodeLost: string | null;
    }
  /** Told to the buildset, in the same transaction. */
  | { readonly kind: "reported"; readonly evidence: readonly Evidence[] }
  /** Something for the time line. */
  | { readonly kind: "noted"; readonly mark: Mark }
  /** The server began anew and found the build as it stands. */
  | { readonly kind: "restarted" };

export type BuildEffect =
  | "ask"
  | "acquire"
  | "prepare"
  | "run"
  | "collect"
  | "release"
  | "archive"
  /** Cuts the step that runs on the node; its outcome comes as `stepped`. */
  | "abort"
  /** Clean-up and collection of a build that is wanted no more get a short end. */
  | "hurry"
  /** Q-5, L11: the rack goes back before clean-up has ended. */
  | "release-rack";

export type BuildStep = { readonly build: Build; readonly effects: readonly BuildEffect[] };

/** What a state does; performed on entering it, and again after a restart. */
const work: Readonly<Record<BuildState, readonly BuildEffect[]>> = {
  waiting: ["ask"],
  acquiring: ["acquire"],
  preparing: ["prepare"],
  running: ["run"],
  collecting: ["collect"],
  releasing: ["release"],
  archiving: ["archive"],
  reported: [],
};

export function stepBuild(build: Build, event: BuildEvent, nowMs: number): BuildStep {
  const { state, record } = build;
  const still: BuildStep = { build, effects: [] };
  const to = (next: BuildState, change: Partial<BuildRecord>): BuildStep => ({
    build: { state: next, record: { ...record, ...change } },
    effects: work[next],
  });
  const mistake = (): never => {
    throw new AssertionError(`build ${record.facts.id}: ${event.kind} in ${state}`);
  };
  switch (event.kind) {
    case "asked":
      if (state !== "waiting") return still; // stopped in between
      if (event.lease === null && record.facts.job.node === null) return to("releasing", {});
      return to("acquiring", { lease: event.lease });
    case "place-lost":
      if (state !== "acquiring") return still;
      return to("waiting", { lease: null, asks: record.asks + 1 });
    case "acquired":
      if (state !== "acquiring") return still; // stopped in between
      return to("preparing", acquire(record, event, nowMs));
    case "stepped":
      return stepped(build, event.outcome, nowMs, to, mistake);
    case "stop":
      return stop(build, event.stop, nowMs, to);
    case "interrupted":
      if (state === "reported" || event.interruptions.length === 0) return still;
      return keep(build, { interruptions: union(record, event.interruptions) });
    case "released":
      if (state !== "releasing") return mistake();
      return to("archiving", released(record, event, nowMs));
    case "reported":
      if (state !== "archiving") return mistake();
      return to("reported", { evidence: event.evidence });
    case "noted":
      if (record.marks.some((mark) => isSame(mark, event.mark))) return still;
      return keep(build, { marks: [...record.marks, event.mark] });
    case "restarted":
      // The state's work again: a step on the node is taken up where it is, or is `lost`.
      return { build, effects: [...work[state], ...stopAgain(build)] };
    default:
      return assertNever(event, "event");
  }
}

type To = (next: BuildState, change: Partial<BuildRecord>) => BuildStep;

function keep(build: Build, change: Partial<BuildRecord>): BuildStep {
  return { build: { ...build, record: { ...build.record, ...change } }, effects: [] };
}

function acquire(
  record: BuildRecord,
  event: Extract<BuildEvent, { kind: "acquired" }>,
  nowMs: number,
): Partial<BuildRecord> {
  const marks: Mark[] = [...record.marks, { step: "node-ready", atMs: event.nodeReadyMs }];
  if (event.rack) {
    marks.push({
      step: "leased",
      atMs: nowMs,
      detail: `${event.rack.te}, epoch ${event.rack.epoch}`,
    });
  }
  return { node: event.node, rack: event.rack, startedMs: nowMs, marks };
}

function stepped(
  build: Build,
  outcome: StepOutcome,
  nowMs: number,
  to: To,
  mistake: () => never,
): BuildStep {
  const { state, record } = build;
  const mark = (step: string): readonly Mark[] => [...record.marks, { step, atMs: nowMs }];
  const collect = (change: Partial<BuildRecord>): BuildStep => {
    const step = to("collecting", change);
    return record.stop !== null && endsAnyway(record.stop)
      ? { ...step, effects: [...step.effects, "hurry"] }
      : step;
  };
  switch (state) {
    case "preparing":
      if (outcome.kind === "done" && record.stop === null) {
        return to("running", { prepare: outcome, marks: mark("started") });
      }
      if (outcome.kind === "lost") return to("releasing", { prepare: outcome });
      return collect({ prepare: outcome });
    case "running":
      if (outcome.kind === "lost") return to("releasing", { run: outcome, endedMs: nowMs });
      return collect({ run: outcome, marks: mark("finished"), endedMs: nowMs });
    case "collecting":
      return to("releasing", { collect: outcome, marks: mark("collected") });
    default:
      return mistake();
  }
}

const hurry: readonly BuildEffect[] = ["hurry"];

/** The first reason to stop stays; but what a person or the scheduler wants ends it in any case. */
function stop(build: Build, why: Stop, nowMs: number, to: To): BuildStep {
  const { state, record } = build;
  const wanted = endsAnyway(why);
  if (record.stop !== null && !wanted) return { build, effects: [] };
  const rackToo: BuildEffect[] = wanted && record.lease !== null ? ["release-rack"] : [];
  switch (state) {
    case "waiting":
    case "acquiring":
      return to("releasing", { stop: why, endedMs: nowMs });
    case "preparing":
    case "running":
      return { ...keep(build, { stop: why }), effects: ["abort", ...rackToo] };
    case "collecting":
      return { ...keep(build, { stop: why }), effects: [...(wanted ? hurry : []), ...rackToo] };
    case "releasing":
      return keep(build, { stop: why });
    case "archiving":
    case "reported":
      return { build, effects: [] };
    default:
      return assertNever(state, "state");
  }
}

/** A person, the scheduler or an operator wants the build ended. */
function endsAnyway({ kind }: Stop): boolean {
  return kind === "cancelled" || kind === "superseded" || kind === "revoked";
}

/** What a stop asked for before the restart; the step that is taken up knows nothing of it. */
function stopAgain({ state, record }: Build): BuildEffect[] {
  if (record.stop === null) return [];
  if (state === "preparing" || state === "running") return ["abort"];
  return state === "collecting" && endsAnyway(record.stop) ? ["hurry"] : [];
}

function released(
  record: BuildRecord,
  event: Extract<BuildEvent, { kind: "released" }>,
  nowMs: number,
): Partial<BuildRecord> {
  const interruptions = union(record, event.interruptions);
  const noop = record.facts.job.node === null;
  const verdict = classify({ ...record, interruptions, nodeLost: event.nodeLost, noop });
  const marks = record.marks.map((mark) =>
    mark.step === "finished" ? { ...mark, detail: verdict.result } : mark,
  );
  if (record.rack) marks.push({ step: "lease-ended", atMs: nowMs });
  return {
    interruptions,
    marks,
    result: verdict.result,
    rackFault: verdict.rackFault,
    restart: verdict.restart,
    errorDetail: verdict.detail,
    endedMs: record.endedMs ?? nowMs,
  };
}

function isSame(one: Mark, other: Mark): boolean {
  return one.step === other.step && one.machine === other.machine;
}

/** Each interruption once: the lease tells all of them each time. */
function union(record: BuildRecord, more: readonly Interruption[]): readonly Interruption[] {
  const key = (of: Interruption): string => `${of.at} ${of.code} ${of.machine ?? ""}`;
  const known = new Set(record.interruptions.map(key));
  return [...record.interruptions, ...more.filter((one) => !known.has(key(one)))];
}

/**
 * The life of a TE on its host as one total function over (record, event): docs/specs/testenv.md
 * holds states, events, table and invariants. Pure: time, certificates and deadlines come in,
 * effects go out. The record is made durable before any effect runs (L6); whoever runs effects
 * may stop anywhere, and `resume` says what is still to do.
 */
import { assert, assertNever } from "../base/assert.ts";
import { limits } from "../base/limits.ts";
import type { Certificate } from "../model/testenv.ts";
import { openTerms } from "./testenv-state.ts";
import type {
  Effect,
  Phase,
  ResetReason,
  Step,
  Terms,
  Testenv,
  TestenvEvent,
} from "./testenv-state.ts";

export function step(testenv: Testenv, event: TestenvEvent): Step {
  const next = decide(testenv, event);
  assert(next.testenv.epoch >= testenv.epoch, "an epoch fell");
  return next;
}

function decide(te: Testenv, event: TestenvEvent): Step {
  switch (event.kind) {
    case "prepare":
      return prepare(te, event.terms);
    case "opened":
    case "open-failed":
      return opening(te, event);
    case "end":
      return end(te, event);
    case "deadline":
      return holds(te, event.epoch) ? ending(te, "expired") : same(te);
    case "extend":
      return extend(te, event);
    case "seed-image":
      return holds(te, event.epoch) ? same({ ...te, seedImage: event.digest }) : same(te);
    case "fenced":
      return fenced(te, event.endedAt);
    case "proved":
      return proved(te, event.certificate);
    case "reset-failed":
      return resetFailed(te, event);
    case "retry":
      return retry(te);
    case "order-reset":
      return orderReset(te);
    case "parts-ready":
      return te.phase.state === "provisioning" ? resetting(te, null, "provisioned") : same(te);
    case "parts-broken":
      return partsBroken(te);
    case "rebooted":
      return rebooted(te);
    case "drain":
      return { testenv: { ...te, draining: event.on }, effects: [report] };
    case "outrun":
      return outrun(te, event.epoch);
    case "unwant":
      return unwant(te);
    case "want":
      return want(te, event.testenvKind);
    case "removed":
      return te.phase.state === "removing" ? to(te, { state: "removed" }, [report]) : same(te);
    default:
      return assertNever(event, "event");
  }
}

/** What is still to do for a record found at start (same boot): nothing else is remembered. */
export function resume(te: Testenv): readonly Effect[] {
  const { phase } = te;
  switch (phase.state) {
    case "provisioning":
      return [{ kind: "provision" }];
    case "ready":
    case "quarantined":
    case "removed":
      return [];
    case "preparing":
      return [{ kind: "open", terms: phase.terms }];
    case "leased": {
      const { terms, deadline } = phase;
      return [{ kind: "watch-deadline", terms, deadline }];
    }
    case "resetting":
      return [{ kind: "fence" }];
    case "faulty":
      return [{ kind: "retry-after", ms: retryMs(phase.attempt) }];
    case "removing":
      return [{ kind: "remove" }];
    default:
      return assertNever(phase, "phase");
  }
}

function prepare(te: Testenv, terms: Terms): Step {
  const { phase } = te;
  if (terms.epoch <= te.epoch) {
    const own = openTerms(te);
    const again = own?.lease === terms.lease && own.epoch === terms.epoch;
    // asked twice: it is done, or under way
    return again && phase.state === "preparing" ? same(te) : { testenv: te, effects: [report] };
  }
  const raised = { ...te, epoch: terms.epoch };
  if (phase.state === "ready" && !te.draining && !te.unwanted) {
    return to(raised, { state: "preparing", terms }, [{ kind: "open", terms }]);
  }
  // the broker has given up what we still hold: the higher epoch wins (lease.md §6)
  if (openTerms(te)) return ending(raised, "te-lost");
  // a certificate of a lower epoch is none (L5)
  if (phase.state === "ready") return resetting(raised, null, "ordered");
  return { testenv: raised, effects: [report] };
}

function opening(
  te: Testenv,
  event: Extract<TestenvEvent, { kind: "opened" | "open-failed" }>,
): Step {
  const { phase } = te;
  if (phase.state !== "preparing" || phase.terms.epoch !== event.epoch) return same(te);
  const { terms } = phase;
  if (event.kind === "opened") {
    const { deadline } = event;
    return to(te, { state: "leased", terms, deadline }, [
      { kind: "hand-over", terms, deadline },
      { kind: "watch-deadline", terms, deadline },
      report,
    ]);
  }
  return ending(te, "te-lost");
}

function end(te: Testenv, event: Extract<TestenvEvent, { kind: "end" }>): Step {
  const own = openTerms(te);
  if (own?.lease === event.lease && own.epoch === event.epoch) return ending(te, event.reason);
  return { testenv: te, effects: [report] };
}

function extend(te: Testenv, event: Extract<TestenvEvent, { kind: "extend" }>): Step {
  const { phase } = te;
  if (phase.state !== "leased" || !holds(te, event.epoch) || phase.terms.lease !== event.lease) {
    return { testenv: te, effects: [report] };
  }
  const { terms } = phase;
  const deadline = {
    ...phase.deadline,
    monoMs: phase.deadline.monoMs + event.durationMs,
    at: new Date(Date.parse(phase.deadline.at) + event.durationMs).toISOString(),
  };
  return to(te, { state: "leased", terms, deadline }, [
    { kind: "extend", terms, deadline },
    { kind: "watch-deadline", terms, deadline },
    report,
  ]);
}

function fenced(te: Testenv, endedAt: string): Step {
  const { phase } = te;
  if (phase.state !== "resetting") return same(te);
  const first = { ...phase, endedAt: phase.endedAt ?? endedAt };
  return to(te, first, [report, { kind: "reset" }]);
}

function proved(te: Testenv, certificate: Certificate): Step {
  if (te.phase.state !== "resetting") return same(te);
  // L5: only a certificate of the present epoch counts; a grant refused meanwhile has raised it
  if (certificate.epoch !== te.epoch || certificate.te !== te.number) {
    return { testenv: te, effects: [{ kind: "reset" }] };
  }
  const clean = { ...te, seedImage: null };
  if (te.unwanted) {
    return to(clean, { state: "removing" }, [report, { kind: "remove" }]);
  }
  return to(clean, { state: "ready", certificate }, [report]);
}

/** What is the host's fault is tried again for as long as it takes; the rack's own, three times. */
function resetFailed(te: Testenv, event: { detail: string; ofHost: boolean }): Step {
  const { phase } = te;
  if (phase.state !== "resetting") return same(te);
  const { detail, ofHost } = event;
  const { terms, reason, endedAt } = phase;
  const attempt = ofHost ? phase.attempt - 1 : phase.attempt;
  if (attempt > limits.resetRetryMs.length)
    return to(te, { state: "quarantined", detail }, [report]);
  return to(te, { state: "faulty", terms, reason, attempt, endedAt, detail }, [
    report,
    { kind: "retry-after", ms: ofHost ? limits.resetRetryMs.at(-1)! : retryMs(attempt) },
  ]);
}

function retry(te: Testenv): Step {
  const { phase } = te;
  if (phase.state !== "faulty") return same(te);
  const { terms, reason, endedAt } = phase;
  const again = { terms, reason, endedAt, attempt: phase.attempt + 1 };
  return to(te, { state: "resetting", ...again }, [{ kind: "fence" }, report]);
}

function orderReset(te: Testenv): Step {
  const free = ["ready", "faulty", "quarantined"].includes(te.phase.state);
  return free ? resetting(te, null, "ordered") : { testenv: te, effects: [report] };
}

function partsBroken(te: Testenv): Step {
  if (openTerms(te)) return ending(te, "te-lost");
  if (te.phase.state !== "ready") return same(te);
  return to(te, { state: "provisioning" }, [{ kind: "provision" }, report]);
}

/**
 * The disk under us is an old one: leases and proofs since then are not in our record, so what is
 * there is nobody's and unproved. The next proof bears the epoch that the broker knows (L2, L5).
 */
function outrun(te: Testenv, epoch: number): Step {
  if (epoch <= te.epoch) return same(te);
  const raised = { ...te, epoch };
  if (openTerms(te)) return ending(raised, "te-lost");
  if (te.phase.state === "ready") return resetting(raised, null, "repaired");
  return { testenv: raised, effects: [report] };
}

function rebooted(te: Testenv): Step {
  const { phase } = te;
  switch (phase.state) {
    case "preparing":
    case "leased":
      return ending(te, "te-lost");
    case "ready":
      return to(te, { state: "provisioning" }, [{ kind: "provision" }]);
    case "resetting":
    case "faulty":
      return to(te, restarted(phase), [{ kind: "fence" }]);
    case "provisioning":
    case "quarantined":
    case "removing":
    case "removed":
      return { testenv: te, effects: resume(te) };
    default:
      return assertNever(phase, "phase");
  }
}

function restarted(phase: Extract<Phase, { state: "resetting" | "faulty" }>): Phase {
  const { terms, reason, endedAt } = phase;
  return { state: "resetting", terms, reason, endedAt, attempt: 1 };
}

function unwant(te: Testenv): Step {
  const changed = { ...te, unwanted: true };
  const free = ["provisioning", "ready", "faulty", "quarantined"].includes(te.phase.state);
  if (!free) return same(changed);
  return to(changed, { state: "removing" }, [report, { kind: "remove" }]);
}

function want(te: Testenv, kind: string): Step {
  const { state } = te.phase;
  if (state === "removing") return same(te); // asked again once it is gone
  if (state !== "removed") return same({ ...te, unwanted: false });
  const anew = { ...te, kind, unwanted: false, draining: false };
  return to(anew, { state: "provisioning" }, [{ kind: "provision" }]);
}

function ending(te: Testenv, reason: ResetReason): Step {
  return resetting(te, openTerms(te), reason);
}

function resetting(te: Testenv, terms: Terms | null, reason: ResetReason): Step {
  const phase: Phase = { state: "resetting", terms, reason, attempt: 1, endedAt: null };
  return to(te, phase, [{ kind: "fence" }, report]);
}

/** Whether this is the epoch of a lease that is being prepared or in a holder's hands (L3). */
function holds(te: Testenv, epoch: number): boolean {
  return openTerms(te)?.epoch === epoch;
}

function retryMs(attempt: number): number {
  return limits.resetRetryMs[attempt - 1] ?? limits.resetRetryMs.at(-1)!;
}

function same(testenv: Testenv): Step {
  return { testenv, effects: [] };
}

function to(te: Testenv, phase: Phase, effects: readonly Effect[]): Step {
  return { testenv: { ...te, phase }, effects };
}

/** The broker hears of it as it then is. */
const report: Effect = { kind: "report" };

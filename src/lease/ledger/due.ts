/**
 * When time moves what: the moments at which a lease or host is due, as milliseconds on the
 * broker's clock; Infinity for what waits for no time.
 */
import { assertNever } from "../../base/assert.ts";
import type { Host, Lease, Policy } from "./ledger-state.ts";

/** Until when this holder is believed to be there without another sign. */
export function aliveUntilMs(policy: Policy, lease: Lease): number {
  const { seenMs, streams, streamLostMs } = lease.alive;
  const waits = lease.state.kind === "waiting" || lease.state.kind === "preparing";
  // L14: a stopped or cut-off holder keeps its socket; once it has the rack, only calls count
  if (waits && streams > 0) return Infinity;
  if (waits && streamLostMs !== null) return streamLostMs + policy.streamLossMs;
  return seenMs + policy.holderTtlMs;
}

/** A moment later than asked for: who will not wait at all is still granted what is free. */
function waitOverMs(lease: Lease): number {
  const seconds = lease.request.waitSeconds;
  return seconds === undefined ? Infinity : lease.createdAtMs + seconds * 1_000 + 1;
}

/** When time moves this lease a step. */
export function stepDueMs(policy: Policy, lease: Lease): number {
  const { state } = lease;
  switch (state.kind) {
    case "waiting":
      return Math.min(aliveUntilMs(policy, lease), waitOverMs(lease));
    case "preparing":
      return Math.min(aliveUntilMs(policy, lease), lease.alive.sinceMs + policy.prepareMs);
    case "active": {
      const taken = state.taken ? Infinity : lease.alive.sinceMs + policy.takenMs;
      return Math.min(aliveUntilMs(policy, lease), state.deadlineMs, taken);
    }
    case "ending":
    case "ended":
      return Infinity;
    default:
      return assertNever(state, "lease state");
  }
}

/** When an avoided TE may be taken after all: no step of a life, but a reason to look again. */
export function avoidDueMs(policy: Policy, lease: Lease): number {
  const { hosts, testenvs } = lease.request.avoid;
  const avoids = hosts.length + testenvs.length + lease.shunned.length > 0;
  if (!avoids || lease.state.kind !== "waiting" || !lease.takeable) return Infinity;
  return lease.avoidSinceMs + policy.avoidMs;
}

/**
 * When to look at this lease again. An avoidance that is over already is no reason: the look that
 * it asked for was made, or is made by the next change of a TE.
 */
export function leaseDueMs(policy: Policy, lease: Lease, nowMs: number): number {
  const avoidMs = avoidDueMs(policy, lease);
  return Math.min(stepDueMs(policy, lease), avoidMs > nowMs ? avoidMs : Infinity);
}

export function hostDueMs(policy: Policy, host: Host): number {
  if (host.state === "lost") return Infinity;
  const lost = host.lastSeenMs + policy.hostGraceMs;
  return host.state === "connected" ? Math.min(lost, host.lastSeenMs + policy.hostSuspectMs) : lost;
}

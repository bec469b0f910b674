/**
 * What time alone brings: holders that gave no sign of life, deadlines, waits that are over,
 * offers not answered, data not taken, hosts gone silent. `dueAtMs` says when to look next.
 */
import { assertNever } from "../../base/assert.ts";
import { freshAlive, loseRack, moveTestenv, putHost, interrupt } from "./draft.ts";
import type { Draft } from "./draft.ts";
import { finishLease } from "./holder-events.ts";
import { grantOf, leaseOn, orphanReason } from "./ledger-state.ts";
import type { Host, Lease, Ledger, Policy } from "./ledger-state.ts";
import type { Owed } from "./testenv-life.ts";

/** Carries out whatever is due by now. */
export function sweep(draft: Draft): void {
  for (const host of draft.hosts.values()) sweepHost(draft, host);
  for (const lease of draft.leases.values()) {
    if (leaseDueMs(draft.policy, lease) <= draft.nowMs) sweepLease(draft, lease);
  }
}

/** The next moment at which something may be due; Infinity if nothing can be. */
export function dueAtMs(ledger: Ledger): number {
  let due = Infinity;
  for (const lease of ledger.leases.values()) {
    due = Math.min(due, leaseDueMs(ledger.policy, lease), avoidDueMs(ledger.policy, lease));
  }
  for (const host of ledger.hosts.values()) due = Math.min(due, hostDueMs(ledger.policy, host));
  return due;
}

/** We were away ourselves: nobody is blamed for silence that we could not hear (L14). */
export function beginAnew(draft: Draft): void {
  for (const [id, lease] of draft.leases) {
    const { streams } = lease.alive;
    draft.leases.set(id, { ...lease, alive: { ...freshAlive(draft.nowMs), streams } });
  }
  for (const [id, host] of draft.hosts) {
    if (host.state !== "lost") draft.hosts.set(id, { ...host, lastSeenMs: draft.nowMs });
  }
}

/** Until when this holder is believed to be there without another sign. */
function aliveUntilMs(policy: Policy, lease: Lease): number {
  const { seenMs, streams, streamLostMs } = lease.alive;
  if (streams > 0) return Infinity;
  const waits = lease.state.kind === "waiting" || lease.state.kind === "preparing";
  if (waits && streamLostMs !== null) return streamLostMs + policy.streamLossMs;
  return seenMs + policy.holderTtlMs;
}

/** A moment later than asked for: who will not wait at all is still granted what is free. */
function waitOverMs(lease: Lease): number {
  const seconds = lease.request.waitSeconds;
  return seconds === undefined ? Infinity : lease.createdAtMs + seconds * 1_000 + 1;
}

function leaseDueMs(policy: Policy, lease: Lease): number {
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
function avoidDueMs(policy: Policy, lease: Lease): number {
  const { hosts, testenvs } = lease.request.avoid;
  const avoids = hosts.length + testenvs.length + lease.shunned.length > 0;
  if (!avoids || lease.state.kind !== "waiting" || !lease.takeable) return Infinity;
  return lease.avoidSinceMs + policy.avoidMs;
}

function sweepLease(draft: Draft, lease: Lease): void {
  const { nowMs, policy } = draft;
  const { state } = lease;
  const gone = aliveUntilMs(policy, lease) <= nowMs;
  switch (state.kind) {
    case "waiting":
      if (gone) finishLease(draft, lease, "holder-lost", "holder-gone");
      else finishLease(draft, lease, "wait-timeout", "wait-over");
      return;
    case "preparing":
      if (gone) finishLease(draft, lease, "holder-lost", "holder-gone");
      else prepareFailed(draft, lease);
      return;
    case "active":
      if (state.deadlineMs <= nowMs) finishLease(draft, lease, "expired", "deadline");
      else if (gone) finishLease(draft, lease, "holder-lost", "holder-gone");
      else finishLease(draft, lease, "cancelled", "not-taken");
      return;
    case "ending":
    case "ended":
      return;
    default:
      assertNever(state, "lease state");
  }
}

/** The host did not answer the offer: back to the queue, and that epoch is ended there. */
function prepareFailed(draft: Draft, lease: Lease): void {
  const grant = grantOf(lease.state)!;
  const te = draft.testenvs.get(grant.te);
  loseRack(draft, grant.te);
  if (!te) return;
  moveTestenv(draft, te.id, { kind: "waiter-gone" });
  draft.effects.push({
    kind: "end",
    hostId: te.hostId,
    number: te.number,
    lease: lease.id,
    epoch: grant.epoch,
    reason: "cancelled",
  });
}

function hostDueMs(policy: Policy, host: Host): number {
  if (host.state === "lost") return Infinity;
  const lost = host.lastSeenMs + policy.hostGraceMs;
  return host.state === "connected" ? Math.min(lost, host.lastSeenMs + policy.hostSuspectMs) : lost;
}

function sweepHost(draft: Draft, host: Host): void {
  if (hostDueMs(draft.policy, host) > draft.nowMs) return;
  const silentMs = draft.nowMs - host.lastSeenMs;
  if (silentMs >= draft.policy.hostGraceMs) {
    putHost(draft, { ...host, state: "lost", open: false }, "lost", host.state);
    if (host.open) draft.effects.push({ kind: "drop-session", hostId: host.id });
    for (const te of draft.testenvs.values()) {
      if (te.hostId === host.id) loseTestenv(draft, te.id);
    }
    return;
  }
  putHost(draft, { ...host, state: "suspect" }, "silent", host.state);
  for (const lease of draft.leases.values()) {
    const grant = grantOf(lease.state);
    if (lease.state.kind !== "active" || draft.testenvs.get(grant!.te)?.hostId !== host.id)
      continue;
    interrupt(draft, lease, "host-silent", `host ${host.facts.name} was silent`);
  }
}

/** Offline, and granted to nobody until its host has reported end and reset of that epoch. */
function loseTestenv(draft: Draft, id: string): void {
  const te = draft.testenvs.get(id)!;
  const lease = leaseOn(draft, id);
  let owed: Owed | null = null;
  if (lease) {
    const grant = grantOf(lease.state)!;
    const reason = lease.state.kind === "ending" ? lease.state.reason : "te-lost";
    owed = { lease: lease.id, epoch: grant.epoch, reason };
    loseRack(draft, id);
  } else if (te.life.kind === "resetting" && te.life.lease !== null) {
    owed = { lease: te.life.lease, epoch: te.epoch, reason: orphanReason };
  }
  moveTestenv(draft, id, { kind: "host-lost", owed });
}

/**
 * What time alone brings: holders that gave no sign of life, deadlines, waits that are over,
 * offers not answered, data not taken, hosts gone silent. When each is due says due.ts.
 */
import { assert, assertNever } from "../../base/assert.ts";
import { freshAlive, loseRack, moveTestenv, putHost, interrupt } from "./draft.ts";
import type { Draft } from "./draft.ts";
import { aliveUntilMs, avoidDueMs, hostDueMs, leaseDueMs, stepDueMs } from "./due.ts";
import { finishLease } from "./holder-events.ts";
import { grantOf, leaseOn, orphanReason } from "./ledger-state.ts";
import type { Host, Lease } from "./ledger-state.ts";
import type { Owed } from "./testenv-life.ts";

/** Steps that one lease can take in one moment: not prepared in time, then no time left to wait. */
const STEPS = 3;

/** Carries out whatever is due by now; afterwards the next due moment lies ahead. */
export function sweep(draft: Draft): void {
  const { nowMs } = draft;
  for (let step = 0; step < STEPS && draft.dueMs <= nowMs; step++) {
    sweepOnce(draft);
    draft.dueMs = soonest(draft);
  }
  assert(draft.dueMs > nowMs, "a sweep leaves nothing due");
}

function sweepOnce(draft: Draft): void {
  const { policy, nowMs } = draft;
  for (const host of draft.hosts.values()) sweepHost(draft, host);
  for (const lease of draft.leases.values()) {
    if (stepDueMs(policy, lease) <= nowMs) sweepLease(draft, lease);
    else if (avoidDueMs(policy, lease) <= nowMs) draft.touched.leases.add(lease.id);
  }
}

function soonest({ policy, nowMs, leases, hosts }: Draft): number {
  let due = Infinity;
  for (const lease of leases.values()) due = Math.min(due, leaseDueMs(policy, lease, nowMs));
  for (const host of hosts.values()) due = Math.min(due, hostDueMs(policy, host));
  return due;
}

/** We were away ourselves: nobody is blamed for silence that we could not hear (L14). */
export function beginAnew(draft: Draft): void {
  for (const [id, lease] of draft.leases) {
    const { streams, extendingUntilMs } = lease.alive;
    const alive = { ...freshAlive(draft.nowMs), streams, extendingUntilMs };
    draft.leases.set(id, { ...lease, alive });
  }
  for (const [id, host] of draft.hosts) {
    if (host.state !== "lost") draft.hosts.set(id, { ...host, lastSeenMs: draft.nowMs });
  }
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

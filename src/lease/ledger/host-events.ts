/**
 * What hosts say in the course of a session. Messages may come twice, late, or about a lease
 * that is over: the epoch decides (L2, L3), and what is old does nothing. A host's list at the
 * beginning of a session is reconcile.ts's.
 */
import { assertNever } from "../../base/assert.ts";
import type { EndReason } from "../../model/lease.ts";
import {
  alarm,
  changeTestenv,
  loseRack,
  moveLease,
  moveTestenv,
  putHost,
  putLease,
} from "./draft.ts";
import type { Draft } from "./draft.ts";
import type { HostSaid } from "./ledger-event.ts";
import { grantOf, leaseOn } from "./ledger-state.ts";
import type { Host, Lease, TestenvRecord, Vitals } from "./ledger-state.ts";
import { acceptProof } from "./proof.ts";
import { onHello, onReport } from "./reconcile.ts";

export function onHostSaid(draft: Draft, said: HostSaid): void {
  switch (said.kind) {
    case "hello":
      return onHello(draft, said);
    case "host-open":
      return onOpen(draft, said.hostId);
    case "host-closed":
      return onClosed(draft, said.hostId);
    case "heard":
      return onHeard(draft, said.hostId, said.vitals);
    case "report":
      return onReport(draft, said.hostId, said.report);
    case "interrupted":
      return onInterrupted(draft, said);
    case "prepared":
    case "epoch-too-low":
    case "resetting":
    case "proved":
    case "faulty":
    case "te-removed":
    case "extended":
      return onTestenvSaid(draft, said);
    default:
      return assertNever(said, "host's message");
  }
}

type AboutTestenv = Extract<
  HostSaid,
  {
    kind:
      | "prepared"
      | "epoch-too-low"
      | "resetting"
      | "proved"
      | "faulty"
      | "te-removed"
      | "extended";
  }
>;

function onTestenvSaid(draft: Draft, said: AboutTestenv): void {
  const te = draft.testenvs.get(said.te);
  if (!te || te.life.kind === "removed") return;
  switch (said.kind) {
    case "prepared":
      return onPrepared(draft, te, said);
    case "epoch-too-low":
      return onEpochTooLow(draft, te, said);
    case "resetting":
      return onResetting(draft, te, said);
    case "proved":
      return onProved(draft, te, said);
    case "faulty":
      return onFaulty(draft, te, said);
    case "te-removed":
      loseRack(draft, te.id);
      return moveTestenv(draft, te.id, { kind: "removed" });
    case "extended":
      return onExtended(draft, te, said);
    default:
      return assertNever(said, "host's message");
  }
}

function onOpen(draft: Draft, hostId: string): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const open: Host = { ...host, open: true, state: "connected", lastSeenMs: draft.nowMs };
  if (host.state === "connected") draft.hosts.set(hostId, open);
  else putHost(draft, open, "connected", host.state);
  for (const te of draft.testenvs.values()) {
    if (te.hostId !== hostId || !te.draining) continue;
    draft.effects.push({ kind: "drain", hostId, number: te.number, on: true });
  }
}

/** The session is gone: nothing can be sent, so nothing is granted; lost only after the grace. */
function onClosed(draft: Draft, hostId: string): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const closed: Host = { ...host, open: false };
  if (host.state !== "connected") draft.hosts.set(hostId, closed);
  else putHost(draft, { ...closed, state: "suspect" }, "session-closed", host.state);
}

function onHeard(draft: Draft, hostId: string, vitals: Vitals | null): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const heard: Host = { ...host, lastSeenMs: draft.nowMs, vitals: vitals ?? host.vitals };
  if (host.state === "suspect" && host.open) {
    putHost(draft, { ...heard, state: "connected" }, "heard-again", host.state);
  } else draft.hosts.set(hostId, heard);
}

function onInterrupted(draft: Draft, said: Extract<HostSaid, { kind: "interrupted" }>): void {
  const lease = leaseOn(draft, said.te);
  if (!lease || (said.lease !== null && said.lease !== lease.id)) return;
  if (lease.interruptions.length >= 100) return;
  const entry = { ...said.interruption, te: said.te };
  if (lease.interruptions.some((known) => JSON.stringify(known) === JSON.stringify(entry))) return;
  const noted = { ...lease, interruptions: [...lease.interruptions, entry] };
  putLease(draft, noted, "interrupted", lease.state.kind);
}

/** Said before our last offer reached the host, or by a host whose disk is an old one. */
function isOld(te: TestenvRecord, epoch: number): boolean {
  return epoch < Math.max(te.awaited, te.hostEpoch);
}

/** The lease of that very grant, or undefined: what is said of any other is old. */
function granted(draft: Draft, te: string, lease: string, epoch: number): Lease | undefined {
  const found = draft.leases.get(lease);
  const grant = found && grantOf(found.state);
  return grant?.te === te && grant.epoch === epoch ? found : undefined;
}

function onPrepared(
  draft: Draft,
  te: TestenvRecord,
  said: Extract<HostSaid, { kind: "prepared" }>,
): void {
  const lease = granted(draft, te.id, said.lease, said.epoch);
  if (lease?.state.kind !== "preparing") return;
  moveTestenv(draft, te.id, { kind: "prepared" }, { hostEpoch: said.epoch });
  const deadlineMs = draft.nowMs + lease.durationMs + draft.policy.deadlineSlackMs;
  moveLease(draft, lease, { kind: "prepared", deadlineMs, expiresAt: said.expiresAt });
}

/** L2: the host has seen more than we remember; we move up and grant anew. */
function onEpochTooLow(
  draft: Draft,
  te: TestenvRecord,
  said: Extract<HostSaid, { kind: "epoch-too-low" }>,
): void {
  const lease = granted(draft, te.id, said.lease, said.epoch);
  const highest = Math.max(te.epoch, te.hostEpoch, said.highest);
  alarm(draft, te.id, `its host knows epoch ${said.highest}, ${said.epoch} was offered`);
  if (lease?.state.kind === "preparing") {
    const epoch = highest + 1;
    changeTestenv(draft, te.id, { epoch, awaited: epoch, hostEpoch: said.highest }, "moved-up");
    moveLease(draft, lease, { kind: "moved-up", epoch });
    return;
  }
  const known = { epoch: highest, awaited: said.highest, hostEpoch: said.highest };
  changeTestenv(draft, te.id, known, "moved-up");
  // What it was prepared for is gone, and the host never began: only a new proof says it is clean.
  if (te.life.kind === "resetting") askReset(draft, te);
}

function askReset(draft: Draft, te: TestenvRecord): void {
  draft.effects.push({ kind: "reset", hostId: te.hostId, number: te.number });
}

/** The fence stands; also when the host ended the lease by itself (L7). */
function onResetting(
  draft: Draft,
  te: TestenvRecord,
  said: Extract<HostSaid, { kind: "resetting" }>,
): void {
  if (isOld(te, said.epoch)) return;
  endOnRack(draft, te, said.epoch, said.reason, said.endedAt);
  const epochs = { epoch: Math.max(te.epoch, said.epoch), hostEpoch: said.epoch };
  moveTestenv(draft, te.id, { kind: "fenced", lease: said.lease }, epochs);
}

function endOnRack(
  draft: Draft,
  te: TestenvRecord,
  epoch: number,
  reason: EndReason,
  endedAt: string,
): void {
  const lease = leaseOn(draft, te.id);
  const grant = lease && grantOf(lease.state);
  if (!lease || !grant) return;
  if (grant.epoch < epoch || (reason === "te-lost" && lease.state.kind !== "ending")) {
    loseRack(draft, te.id);
  } else moveLease(draft, lease, { kind: "fenced", reason, endedAt }, "fenced");
}

function onProved(
  draft: Draft,
  te: TestenvRecord,
  said: Extract<HostSaid, { kind: "proved" }>,
): void {
  if (isOld(te, said.epoch)) return;
  const lease = leaseOn(draft, te.id);
  if (lease) {
    // Reset and proved while we thought it in someone's hands: we missed the end.
    if (lease.state.kind === "ending") endOnRack(draft, te, said.epoch, "released", endOf(said));
    else loseRack(draft, te.id);
  }
  acceptProof(draft, te.id, said.epoch, said.certificate, said.proof);
}

function endOf(said: Extract<HostSaid, { kind: "proved" }>): string {
  return said.certificate.began;
}

function onFaulty(
  draft: Draft,
  te: TestenvRecord,
  said: Extract<HostSaid, { kind: "faulty" }>,
): void {
  if (isOld(te, said.epoch)) return;
  loseRack(draft, te.id);
  const epochs = { epoch: Math.max(te.epoch, said.epoch), hostEpoch: said.epoch };
  moveTestenv(draft, te.id, { kind: "failed", detail: said.detail }, epochs);
}

function onExtended(
  draft: Draft,
  te: TestenvRecord,
  said: Extract<HostSaid, { kind: "extended" }>,
): void {
  const lease = granted(draft, te.id, said.lease, said.epoch);
  if (lease?.state.kind !== "active") return;
  // by how much, as the host's own clock tells it; said twice, it adds nothing
  const addedMs = Date.parse(said.expiresAt) - Date.parse(lease.state.expiresAt);
  if (!(addedMs > 0)) return;
  const deadlineMs = lease.state.deadlineMs + addedMs;
  moveLease(draft, lease, { kind: "extended", deadlineMs, expiresAt: said.expiresAt });
}

/**
 * A host's list against ours, at the beginning of a session and whenever a TE of it changed
 * (lease.md §6): the higher epoch wins; a lease that we do not have is ended there; a lease that
 * the host does not have is over here. Messages of former sessions do not count any more.
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
  putTestenv,
} from "./draft.ts";
import type { Draft } from "./draft.ts";
import type { CheckedReport, HostSaid } from "./ledger-event.ts";
import { isoMs } from "./lease-life.ts";
import { grantOf, leaseOn, orphanReason, testenvId, unknownVitals } from "./ledger-state.ts";
import type { Grant } from "./lease-life.ts";
import type { Host, Lease, TestenvRecord } from "./ledger-state.ts";
import { acceptProof } from "./proof.ts";

export function onHello(draft: Draft, hello: Extract<HostSaid, { kind: "hello" }>): void {
  const { facts } = hello;
  replaceNamesake(draft, facts.hostId, facts.name);
  const known = draft.hosts.get(facts.hostId);
  const host: Host = {
    id: facts.hostId,
    facts,
    state: known?.state ?? "suspect",
    lastSeenMs: draft.nowMs,
    open: false,
    vitals: { ...(known?.vitals ?? unknownVitals), processes: hello.processes },
  };
  putHost(draft, { ...host, state: "suspect" }, "hello", known?.state ?? null);
  const listed = new Set<string>();
  for (const report of hello.reports) {
    const id = register(draft, host, report);
    listed.add(id);
    adoptReport(draft, id, report, true);
  }
  for (const te of draft.testenvs.values()) {
    if (te.hostId !== facts.hostId || listed.has(te.id) || te.life.kind === "removed") continue;
    loseRack(draft, te.id);
    moveTestenv(draft, te.id, { kind: "removed" });
  }
}

/** A TE that changed in the course of a session. */
export function onReport(draft: Draft, hostId: string, checked: CheckedReport): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const id = register(draft, host, checked);
  adoptReport(draft, id, checked, false);
}

/** Another host of this name took its place (the broker let it in): the old one's TEs go. */
function replaceNamesake(draft: Draft, hostId: string, name: string): void {
  for (const other of draft.hosts.values()) {
    if (other.facts.name !== name || other.id === hostId) continue;
    for (const te of draft.testenvs.values()) {
      if (te.hostId !== other.id || te.life.kind === "removed") continue;
      loseRack(draft, te.id);
      moveTestenv(draft, te.id, { kind: "removed" });
    }
    if (other.state !== "lost")
      putHost(draft, { ...other, state: "lost", open: false }, "replaced", other.state);
  }
}

/** Makes the TE known, or brings what is told about it up to date. */
function register(draft: Draft, host: Host, { report }: CheckedReport): string {
  const id = testenvId(host.facts.name, report.number);
  const { state: _s, epoch: _e, lease: _l, certificate: _c, detail: _d, ...told } = report;
  const known = draft.testenvs.get(id);
  if (!known) {
    const te: TestenvRecord = {
      id,
      hostId: host.id,
      host: host.facts.name,
      number: report.number,
      report: told,
      epoch: 0,
      hostEpoch: 0,
      awaited: 0,
      draining: false,
      life: { kind: "offline", owed: null },
      certificate: null,
    };
    putTestenv(draft, te, "registered", null);
  } else if (known.hostId !== host.id) {
    // another host of this name: what the old one had confirmed binds only our next epoch
    const anew = { hostId: host.id, hostEpoch: 0, awaited: 0, certificate: null };
    changeTestenv(draft, id, { ...anew, report: told }, "registered");
  } else changeTestenv(draft, id, { report: told }, "reported");
  return id;
}

/**
 * Brings TE and lease in line with a report. `afresh`: a new session, in which nothing that was
 * sent before counts; else our own messages may still be under way, and a report of a lower
 * epoch is merely old.
 */
function adoptReport(draft: Draft, id: string, checked: CheckedReport, afresh: boolean): void {
  const te = draft.testenvs.get(id)!;
  const told = Number(checked.report.epoch);
  if (!afresh && told < te.awaited) return;
  const lease = leaseOn(draft, id);
  if (lease && settleLease(draft, te, lease, checked, afresh)) return;
  if (afresh) changeTestenv(draft, id, { awaited: told }, "heard");
  adoptState(draft, id, checked);
}

/** True where the lease goes on and the TE stays as we have it. */
function settleLease(
  draft: Draft,
  te: TestenvRecord,
  lease: Lease,
  { report }: CheckedReport,
  afresh: boolean,
): boolean {
  const told = Number(report.epoch);
  const grant = grantOf(lease.state)!;
  const theirs = told === grant.epoch && report.lease === lease.id;
  const inHands = report.state === "leased" || report.state === "preparing";
  if (theirs && inHands) {
    if (lease.state.kind === "ending" && afresh) sendEnd(draft, te, grant, lease);
    // asked twice, the host answers twice: its first answer may have been lost
    if (lease.state.kind === "preparing" && afresh) offerAgain(draft, te, lease, grant);
    return true;
  }
  if (!afresh && theirs && report.state === "resetting") return true; // its own message follows
  if (
    afresh &&
    told < grant.epoch &&
    lease.state.kind === "preparing" &&
    report.state === "ready" &&
    told >= te.hostEpoch
  ) {
    offerAgain(draft, te, lease, grant);
    return true;
  }
  overOnHost(draft, te, lease);
  return false;
}

/** The host may not have got our offer, or we not its answer: it gets the same again. */
function offerAgain(draft: Draft, te: TestenvRecord, lease: Lease, grant: Grant): void {
  restartWait(draft, lease);
  const { hostId, number } = te;
  const { wants: _w, alive: _a, ...record } = lease;
  draft.effects.push({ kind: "prepare", hostId, number, lease: record, epoch: grant.epoch });
}

function restartWait(draft: Draft, lease: Lease): void {
  draft.leases.set(lease.id, { ...lease, alive: { ...lease.alive, sinceMs: draft.nowMs } });
}

/** The host is past this lease, or never had it. */
function overOnHost(draft: Draft, te: TestenvRecord, lease: Lease): void {
  const { state } = lease;
  if (state.kind === "active" && draft.nowMs >= state.deadlineMs) {
    const endedAt = isoMs(draft.nowMs);
    moveLease(draft, lease, { kind: "fenced", reason: "expired", endedAt }, "fenced");
  } else loseRack(draft, te.id);
}

function sendEnd(draft: Draft, te: TestenvRecord, grant: Grant, lease: Lease): void {
  const reason = lease.state.kind === "ending" ? lease.state.reason : orphanReason;
  const { hostId, number } = te;
  draft.effects.push({
    kind: "end",
    hostId,
    number,
    lease: lease.id,
    epoch: grant.epoch,
    reason,
  });
}

/** The TE without a lease of ours: what its host says it is. */
function adoptState(draft: Draft, id: string, { report, proof }: CheckedReport): void {
  const te = draft.testenvs.get(id)!;
  const told = Number(report.epoch);
  const detail = report.detail ?? "";
  if (told < te.hostEpoch) {
    // It once confirmed more: its disk is an old one, and its proof of an old time (L2, L5).
    alarm(draft, id, `its host reports epoch ${told}, once it had ${te.hostEpoch}`);
    moveTestenv(draft, id, { kind: "failed", detail: `its host lost epoch ${te.hostEpoch}` });
    draft.effects.push({ kind: "reset", hostId: te.hostId, number: te.number });
    return;
  }
  const epochs = { epoch: Math.max(te.epoch, told), hostEpoch: told };
  switch (report.state) {
    case "ready":
      return acceptProof(draft, id, told, report.certificate, proof);
    case "leased":
    case "preparing":
      endOrphan(draft, te, report.lease, told);
      return moveTestenv(draft, id, { kind: "fenced", lease: report.lease }, epochs);
    case "resetting":
      return moveTestenv(draft, id, { kind: "fenced", lease: report.lease }, epochs);
    case "faulty":
      return moveTestenv(draft, id, { kind: "failed", detail }, epochs);
    case "offline":
    case "provisioning":
    case "held":
    case "quarantined":
      return moveTestenv(draft, id, { kind: "reported", as: report.state, detail }, epochs);
    default:
      return assertNever(report.state, "reported state");
  }
}

/** A lease on the host that is none of ours any more: it is ended there. */
function endOrphan(draft: Draft, te: TestenvRecord, lease: string | null, epoch: number): void {
  if (lease === null) return;
  const owed = te.life.kind === "offline" ? te.life.owed : null;
  const reason: EndReason = owed?.lease === lease ? owed.reason : orphanReason;
  const { hostId, number } = te;
  draft.effects.push({ kind: "end", hostId, number, lease, epoch, reason });
}

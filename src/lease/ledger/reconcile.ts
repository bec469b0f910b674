/**
 * A host's TEs against ours, in its hello and in every report (lease.md §6). A report is a level:
 * the latest one is what is, and it is compared with what we have in one way, whenever it comes.
 * Epochs decide: a lower one than our offer has not seen it yet, a lower one than the host once
 * confirmed is an old disk's, and the higher one wins. Where the host has it otherwise than it is
 * wanted, it is told what is wanted (`wanted`), and reports again.
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
import {
  grantOf,
  leaseOn,
  ofLife,
  orphanReason,
  testenvId,
  unknownVitals,
} from "./ledger-state.ts";
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
    adoptReport(draft, id, report);
    restartWait(draft, id);
  }
  for (const te of draft.testenvs.values()) {
    if (te.hostId !== facts.hostId || listed.has(te.id)) continue;
    removeTestenv(draft, te);
  }
}

/** A TE that changed in the course of a session. */
export function onReport(draft: Draft, hostId: string, checked: CheckedReport): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  adoptReport(draft, register(draft, host, checked), checked);
}

/** Another host of this name took its place (the broker let it in): the old one's TEs go. */
function replaceNamesake(draft: Draft, hostId: string, name: string): void {
  for (const other of draft.hosts.values()) {
    if (other.facts.name !== name || other.id === hostId) continue;
    for (const te of draft.testenvs.values()) {
      if (te.hostId === other.id) removeTestenv(draft, te);
    }
    if (other.state !== "lost")
      putHost(draft, { ...other, state: "lost", open: false }, "replaced", other.state);
  }
}

function removeTestenv(draft: Draft, te: TestenvRecord): void {
  if (te.life.kind === "removed") return;
  loseRack(draft, te.id);
  moveTestenv(draft, te.id, { kind: "removed" });
}

/** Makes the TE known, or brings what is told about it up to date. */
function register(draft: Draft, host: Host, { report }: CheckedReport): string {
  const id = testenvId(host.facts.name, report.number);
  const madeOf = { ...report };
  for (const key of ofLife) delete (madeOf as Partial<typeof madeOf>)[key];
  const told: TestenvRecord["report"] = madeOf;
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
      draining: report.draining,
      life: { kind: "offline", owed: null },
      certificate: null,
    };
    putTestenv(draft, te, "registered", null);
  } else if (known.hostId !== host.id) {
    // another host of this name: what the old one had confirmed binds only our next epoch
    const anew = { hostId: host.id, hostEpoch: 0, certificate: null };
    changeTestenv(draft, id, { ...anew, report: told }, "registered");
  } else changeTestenv(draft, id, { report: told }, "reported");
  return id;
}

/** Brings TE and lease in line with a report, and the host in line with what is wanted. */
function adoptReport(draft: Draft, id: string, checked: CheckedReport): void {
  const { report } = checked;
  const te = draft.testenvs.get(id)!;
  const told = Number(report.epoch);
  if (report.state === "removed") return removeTestenv(draft, te);
  if (report.draining !== te.draining) want(draft, te);
  if (told < te.hostEpoch) return outrun(draft, te, told);
  const epochs = { epoch: Math.max(te.epoch, told), hostEpoch: told };
  changeTestenv(draft, id, epochs, "heard");
  const lease = leaseOn(draft, id);
  if (lease && settleLease(draft, lease, checked)) return;
  // What it says is older than what we granted last: not clean, and not ready, for that epoch (L5).
  if (told < te.epoch) return behind(draft, te);
  adoptState(draft, id, checked);
}

function want(draft: Draft, te: TestenvRecord): void {
  draft.effects.push({ kind: "wanted", hostId: te.hostId, number: te.number });
}

/**
 * It once confirmed more: its disk is an old one, and its proof of an old time (L2, L5). It is told
 * the epoch that it forgot, resets, and proves itself for that one.
 */
function outrun(draft: Draft, te: TestenvRecord, told: number): void {
  const detail = `its host lost epoch ${te.hostEpoch}`;
  const known = te.life.kind === "faulty" && te.life.detail === detail;
  if (!known) alarm(draft, te.id, `its host reports epoch ${told}, once it had ${te.hostEpoch}`);
  loseRack(draft, te.id);
  moveTestenv(draft, te.id, { kind: "failed", detail });
  want(draft, te);
}

/** A grant that its host never saw is over: told of that epoch, the host proves itself for it. */
function behind(draft: Draft, te: TestenvRecord): void {
  moveTestenv(draft, te.id, { kind: "fenced", lease: null });
  want(draft, te);
}

/** True where the lease goes on and the TE stays as we have it. */
function settleLease(draft: Draft, lease: Lease, checked: CheckedReport): boolean {
  const { report } = checked;
  const told = Number(report.epoch);
  const grant = grantOf(lease.state)!;
  // Our offer is on its way, or goes out with the welcome; it is answered by a report of its epoch.
  if (told < grant.epoch) return true;
  const theirs = report.lease === lease.id && Number(report.leaseEpoch) === grant.epoch;
  if (!theirs) return passedBy(draft, lease, checked);
  switch (report.state) {
    case "preparing":
    case "leased":
      return inHands(draft, lease, report);
    case "resetting":
    case "faulty":
    case "quarantined":
      // Its end is not yet that of its credentials: the fence does not stand (L4).
      if (report.ended !== null && report.ended.fencedAt === null) return true;
      endOnRack(draft, lease, report.ended?.reason ?? "te-lost", report.ended?.fencedAt ?? null);
      return false;
    case "offline":
    case "provisioning":
    case "ready":
    case "held":
    case "removed":
      overOnHost(draft, lease);
      return false;
    default:
      return assertNever(report.state, "reported state");
  }
}

function inHands(draft: Draft, lease: Lease, report: CheckedReport["report"]): true {
  const { state } = lease;
  const { deadlineAt } = report;
  const te = draft.testenvs.get(grantOf(state)!.te)!;
  if (deadlineAt === null) return true;
  if (state.kind === "preparing") {
    moveTestenv(draft, te.id, { kind: "prepared" });
    const deadlineMs = draft.nowMs + lease.durationMs + draft.policy.deadlineSlackMs;
    moveLease(draft, lease, { kind: "prepared", deadlineMs, expiresAt: deadlineAt });
  } else if (state.kind === "active") {
    // by how much, as the host's own clock tells it; said twice, it adds nothing
    const addedMs = Date.parse(deadlineAt) - Date.parse(state.expiresAt);
    if (!(addedMs > 0)) return true;
    const deadlineMs = state.deadlineMs + addedMs;
    moveLease(draft, lease, { kind: "extended", deadlineMs, expiresAt: deadlineAt });
  }
  return true;
}

/**
 * The host has seen this epoch, and not, or no longer, for this lease. A clean rack that knows more
 * than we do is offered anew above it (L2); any other is lost to the lease, which it may have
 * refused, or had and ended.
 */
function passedBy(draft: Draft, lease: Lease, { report, proof }: CheckedReport): boolean {
  const { state } = lease;
  const { te } = grantOf(state)!;
  const told = Number(report.epoch);
  const proved = report.certificate?.lease === lease.id ? report.certificate : null;
  const clean = report.state === "ready" && proof.kind === "valid";
  if (state.kind === "preparing" && clean && !proved) {
    alarm(draft, te, `its host knows epoch ${told}, ${state.grant.epoch} was offered`);
    const epoch = told + 1;
    changeTestenv(draft, te, { epoch }, "moved-up");
    moveLease(draft, lease, { kind: "moved-up", epoch });
    return true;
  }
  // Reset and proved while we thought it in someone's hands: we missed the end.
  if (clean && proved) {
    endOnRack(draft, lease, proved.reason === "expired" ? "expired" : "te-lost", proved.began);
  } else overOnHost(draft, lease);
  return false;
}

/** The fence stands; also when the host ended the lease by itself (L7). */
function endOnRack(draft: Draft, lease: Lease, reason: EndReason, fencedAt: string | null): void {
  const { te } = grantOf(lease.state)!;
  const lost = reason === "te-lost" && lease.state.kind !== "ending";
  if (lost || fencedAt === null) loseRack(draft, te);
  else moveLease(draft, lease, { kind: "fenced", reason, endedAt: fencedAt }, "fenced");
}

/** The host is past this lease, or never had it. */
function overOnHost(draft: Draft, lease: Lease): void {
  const { state } = lease;
  if (state.kind === "active" && draft.nowMs >= state.deadlineMs) {
    const endedAt = isoMs(draft.nowMs);
    moveLease(draft, lease, { kind: "fenced", reason: "expired", endedAt }, "fenced");
  } else loseRack(draft, grantOf(state)!.te);
}

/** A new session: an offer goes out with its welcome, and has its time from now. */
function restartWait(draft: Draft, te: string): void {
  const lease = leaseOn(draft, te);
  if (lease?.state.kind !== "preparing") return;
  draft.leases.set(lease.id, { ...lease, alive: { ...lease.alive, sinceMs: draft.nowMs } });
}

/** The TE without a lease of ours: what its host says it is. */
function adoptState(draft: Draft, id: string, { report, proof }: CheckedReport): void {
  const te = draft.testenvs.get(id)!;
  const detail = report.detail ?? "";
  switch (report.state) {
    case "ready":
      return acceptProof(draft, id, Number(report.epoch), report.certificate, proof);
    case "leased":
    case "preparing":
      endOrphan(draft, te, report);
      return moveTestenv(draft, id, { kind: "fenced", lease: report.lease });
    case "resetting":
      return moveTestenv(draft, id, { kind: "fenced", lease: report.lease });
    case "faulty":
      return moveTestenv(draft, id, { kind: "failed", detail });
    case "removed":
      return moveTestenv(draft, id, { kind: "removed" });
    case "offline":
    case "provisioning":
    case "held":
    case "quarantined":
      return moveTestenv(draft, id, { kind: "reported", as: report.state, detail });
    default:
      return assertNever(report.state, "reported state");
  }
}

/** A lease on the host that is none of ours any more: it is ended there. */
function endOrphan(draft: Draft, te: TestenvRecord, report: CheckedReport["report"]): void {
  const { lease, leaseEpoch } = report;
  if (lease === null || leaseEpoch === null) return;
  const owed = te.life.kind === "offline" ? te.life.owed : null;
  const reason: EndReason = owed?.lease === lease ? owed.reason : orphanReason;
  const { hostId, number } = te;
  const epoch = Number(leaseEpoch);
  draft.effects.push({ kind: "end", hostId, number, lease, epoch, reason });
}

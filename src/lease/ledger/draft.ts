/**
 * A ledger being changed by events: copies of its maps, and the effects so far. Every step of a
 * life passes through here, so that none is taken without its record. The maps note what is set
 * in them: the index follows the leases, and the queue looks only at what changed. Local to one
 * call of decide; what comes out is a new ledger.
 */
import { assert } from "../../base/assert.ts";
import { copyIndex, reindex } from "./ledger-index.ts";
import type { WritableIndex } from "./ledger-index.ts";
import { hostDueMs, leaseDueMs } from "./due.ts";
import type { LedgerEffect } from "./ledger-event.ts";
import { isoMs, stepLease } from "./lease-life.ts";
import type { LeaseEvent } from "./lease-life.ts";
import { leaseOn } from "./ledger-state.ts";
import type {
  Alive,
  Host,
  HostRecord,
  Lease,
  LeaseRecord,
  Ledger,
  Policy,
  TestenvRecord,
} from "./ledger-state.ts";
import { stepTestenv } from "./testenv-life.ts";
import type { TestenvEvent } from "./testenv-life.ts";

export type Draft = {
  readonly policy: Policy;
  readonly nowMs: number;
  readonly leases: Map<string, Lease>;
  readonly testenvs: Map<string, TestenvRecord>;
  readonly hosts: Map<string, Host>;
  readonly index: WritableIndex;
  readonly effects: LedgerEffect[];
  /** What may have become grantable since the queue was last looked at. */
  readonly touched: Touched;
  dueMs: number;
  nextOrder: number;
  usedShare: number;
};

export type Touched = {
  readonly testenvs: Set<string>;
  readonly leases: Set<string>;
  /** What registered TEs and hosts are, or may be granted at all, changed: all is looked at. */
  all: boolean;
};

export function openDraft(ledger: Ledger, nowMs: number): Draft {
  const { policy } = ledger;
  const index = copyIndex(ledger.index);
  const touched: Touched = { testenvs: new Set(), leases: new Set(), all: false };
  const due = (atMs: number): void => {
    if (atMs < draft.dueMs) draft.dueMs = atMs;
  };
  const draft: Draft = {
    policy,
    nowMs,
    index,
    touched,
    leases: noting(ledger.leases, (before, after) => {
      reindex(index, before, after);
      if (after?.state.kind === "waiting" && opens(before, after)) touched.leases.add(after.id);
      if (after) due(leaseDueMs(policy, after, nowMs));
    }),
    testenvs: noting(ledger.testenvs, (before, after) => {
      if (!after || before?.report !== after.report || before.hostId !== after.hostId) {
        touched.all = true;
      } else if ((before.life.kind === "removed") !== (after.life.kind === "removed")) {
        touched.all = true;
      } else touched.testenvs.add(after.id);
    }),
    hosts: noting(ledger.hosts, (before, after) => {
      if (!after || !before || grantable(before) !== grantable(after)) touched.all = true;
      else if (before.facts !== after.facts) touched.all = true;
      if (after) due(hostDueMs(policy, after));
    }),
    effects: [],
    dueMs: ledger.dueMs,
    nextOrder: ledger.nextOrder,
    usedShare: ledger.usedShare,
  };
  return draft;
}

export function closeDraft(draft: Draft): Ledger {
  const { policy, leases, testenvs, hosts, index, dueMs, nextOrder, usedShare } = draft;
  return { policy, leases, testenvs, hosts, index, dueMs, nextOrder, usedShare };
}

/** A copy of the map that tells of each change. */
function noting<V>(
  from: ReadonlyMap<string, V>,
  onChange: (before: V | undefined, after: V | undefined) => void,
): Map<string, V> {
  const map = new Map(from);
  const set = map.set.bind(map);
  const remove = map.delete.bind(map);
  map.set = (key, value) => {
    onChange(map.get(key), value);
    return set(key, value);
  };
  map.delete = (key) => {
    if (map.has(key)) onChange(map.get(key), undefined);
    return remove(key);
  };
  return map;
}

/** Signs of life alone make a waiter no easier to serve. */
function opens(before: Lease | undefined, after: Lease): boolean {
  return (
    before?.state.kind !== "waiting" ||
    before.takeable !== after.takeable ||
    before.shunned !== after.shunned ||
    before.avoidSinceMs !== after.avoidSinceMs
  );
}

function grantable(host: Host): boolean {
  const { state, open, facts, vitals } = host;
  return state === "connected" && open && !facts.draining && vitals.health === "ok";
}

export function freshAlive(nowMs: number): Alive {
  return { seenMs: nowMs, streams: 0, streamLostMs: null, sinceMs: nowMs, extendingUntilMs: 0 };
}

/** What is written: the lease without what begins anew after a start. */
export function leaseRecord(lease: Lease): LeaseRecord {
  const { wants: _wants, alive: _alive, ...record } = lease;
  return record;
}

export function hostRecord(host: Host): HostRecord {
  const { open: _open, vitals: _vitals, ...record } = host;
  return record;
}

/** Keeps a lease, with its record; an ended one leaves the ledger. */
export function putLease(draft: Draft, lease: Lease, event: string, from: string | null): void {
  if (lease.state.kind === "ended") draft.leases.delete(lease.id);
  else draft.leases.set(lease.id, lease);
  draft.effects.push({
    kind: "record",
    life: "lease",
    id: lease.id,
    from,
    event,
    to: lease.state.kind,
    body: leaseRecord(lease),
  });
}

/** One step of a lease's life, with its record and what its host must be told. */
export function moveLease(draft: Draft, lease: Lease, event: LeaseEvent, name?: string): Lease {
  const step = stepLease(lease.state, event, draft.nowMs);
  assert(step !== null, `lease ${lease.id}: ${event.kind} while ${lease.state.kind}`);
  if (step.state === lease.state) return lease;
  const moved: Lease = {
    ...lease,
    state: step.state,
    alive:
      step.state.kind === lease.state.kind
        ? lease.alive
        : { ...lease.alive, seenMs: Math.max(lease.alive.seenMs, seenAt(draft, event, lease)) },
  };
  const begun =
    step.state.kind === lease.state.kind
      ? { ...moved, alive: { ...moved.alive, extendingUntilMs: 0 } }
      : { ...moved, alive: { ...moved.alive, sinceMs: draft.nowMs } };
  noteUse(draft, lease, begun);
  putLease(draft, begun, name ?? event.kind, lease.state.kind);
  for (const effect of step.effects) tellHost(draft, begun, effect);
  return begun;
}

/** A grant is no sign of life, but its clock starts when the holder can first act on it. */
function seenAt(draft: Draft, event: LeaseEvent, lease: Lease): number {
  return event.kind === "prepared" ? draft.nowMs : lease.alive.seenMs;
}

function tellHost(
  draft: Draft,
  lease: Lease,
  effect: NonNullable<ReturnType<typeof stepLease>>["effects"][number],
): void {
  const te = draft.testenvs.get(effect.grant.te);
  if (!te) return;
  const { hostId, number } = te;
  const { epoch } = effect.grant;
  if (effect.kind === "prepare") {
    draft.effects.push({ kind: "prepare", hostId, number, lease: leaseRecord(lease), epoch });
    return;
  }
  const reason = effect.kind === "end" ? effect.reason : "released";
  draft.effects.push({ kind: effect.kind, hostId, number, lease: lease.id, epoch, reason });
}

/** Learns which part of its time a holder really used; a tenth of each new value. */
function noteUse(draft: Draft, before: Lease, after: Lease): void {
  if (before.state.kind !== "active" || after.state.kind === "active") return;
  if (after.state.kind === "waiting" || !before.state.taken) return;
  const used = (draft.nowMs - before.state.preparedAtMs) / before.durationMs;
  draft.usedShare += (Math.min(1, Math.max(0, used)) - draft.usedShare) / 10;
}

export function putTestenv(
  draft: Draft,
  te: TestenvRecord,
  event: string,
  from: string | null,
): void {
  draft.testenvs.set(te.id, te);
  const to = te.life.kind;
  draft.effects.push({ kind: "record", life: "testenv", id: te.id, from, event, to, body: te });
}

/** One step of a TE's life together with changes of its record; nothing written if nothing is. */
export function moveTestenv(
  draft: Draft,
  id: string,
  event: TestenvEvent,
  changes: Partial<TestenvRecord> = {},
): void {
  const te = draft.testenvs.get(id);
  assert(te !== undefined, `no test environment ${id}`);
  const life = stepTestenv(te.life, event);
  assert(life !== null, `test environment ${id}: ${event.kind} while ${te.life.kind}`);
  const moved: TestenvRecord = { ...te, ...changes, life };
  if (life === te.life && sameRecord(te, moved)) return;
  putTestenv(draft, moved, event.kind, te.life.kind);
}

/** Changes a TE's record where its life does not move. */
export function changeTestenv(
  draft: Draft,
  id: string,
  changes: Partial<TestenvRecord>,
  name: string,
): void {
  const te = draft.testenvs.get(id);
  if (!te) return;
  const changed = { ...te, ...changes };
  if (!sameRecord(te, changed)) putTestenv(draft, changed, name, te.life.kind);
}

function sameRecord(a: TestenvRecord, b: TestenvRecord): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

export function putHost(draft: Draft, host: Host, event: string, from: string | null): void {
  draft.hosts.set(host.id, host);
  draft.effects.push({
    kind: "record",
    life: "host",
    id: host.id,
    from,
    event,
    to: host.state,
    body: hostRecord(host),
  });
}

export function alarm(draft: Draft, te: string, what: string): void {
  draft.effects.push({ kind: "alarm", te, what });
}

/**
 * A lease's rack is lost to it: back to the queue where nobody had it yet, else `te-lost`.
 * The TE is shunned by this request from now on (L13).
 */
export function loseRack(draft: Draft, te: string): Lease | undefined {
  const lease = leaseOn(draft, te);
  if (!lease) return undefined;
  const mayRequeue = lease.request.requeue && !lease.requeued;
  const held = lease.state.kind === "active";
  const shunning: Lease = {
    ...lease,
    shunned: [...new Set([...lease.shunned, te])],
    avoidSinceMs: draft.nowMs,
    requeued: lease.requeued || (held && mayRequeue),
  };
  return moveLease(draft, shunning, { kind: "rack-lost", mayRequeue }, "rack-lost");
}

/** Something host or network did to the rack while this lease had it. */
export function interrupt(draft: Draft, lease: Lease, code: string, text: string): void {
  const te = lease.state.kind === "active" ? lease.state.grant.te : undefined;
  const entry = { at: isoMs(draft.nowMs), code, text, ...(te === undefined ? {} : { te }) };
  const noted = { ...lease, interruptions: [...lease.interruptions, entry] };
  putLease(draft, noted, "interrupted", lease.state.kind);
}

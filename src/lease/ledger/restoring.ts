/**
 * The ledger as it stands in the store, made whole again after a start: the queue in its order,
 * TTLs begun anew, hosts unheard of until they say hello (L6, L14).
 */
import { assert } from "../../base/assert.ts";
import { freshAlive } from "./draft.ts";
import { parseLabels } from "./label-expression.ts";
import { indexOf } from "./ledger-index.ts";
import { unknownVitals } from "./ledger-state.ts";
import type {
  Host,
  HostRecord,
  Lease,
  LeaseRecord,
  Ledger,
  Policy,
  TestenvRecord,
} from "./ledger-state.ts";

export function emptyLedger(policy: Policy): Ledger {
  return {
    policy,
    leases: new Map(),
    testenvs: new Map(),
    hosts: new Map(),
    index: indexOf([]),
    dueMs: Infinity,
    nextOrder: 1,
    usedShare: 0.5,
  };
}

export function restoreLedger(
  policy: Policy,
  records: {
    readonly leases: readonly LeaseRecord[];
    readonly testenvs: readonly TestenvRecord[];
    readonly hosts: readonly HostRecord[];
  },
  nowMs: number,
): Ledger {
  const leases = records.leases
    .filter((record) => record.state.kind !== "ended")
    .map((record) => restoreLease(record, nowMs))
    .sort((a, b) => a.order - b.order);
  return {
    ...emptyLedger(policy),
    leases: new Map(leases.map((lease) => [lease.id, lease])),
    testenvs: new Map(records.testenvs.map((te) => [te.id, te])),
    hosts: new Map(records.hosts.map((record) => [record.id, restoreHost(record, nowMs)])),
    index: indexOf(leases),
    dueMs: nowMs, // what is due is found by the first sweep
    nextOrder: Math.max(0, ...leases.map((lease) => lease.order)) + 1,
  };
}

function restoreLease(record: LeaseRecord, nowMs: number): Lease {
  const labels = parseLabels(record.request.labels ?? "");
  assert(labels.ok, `lease ${record.id} was recorded with labels that cannot be read`);
  return { ...record, wants: labels.expression, alive: freshAlive(nowMs) };
}

function restoreHost(record: HostRecord, nowMs: number): Host {
  const state = record.state === "lost" ? "lost" : "suspect";
  return { ...record, state, lastSeenMs: nowMs, open: false, vitals: unknownVitals };
}

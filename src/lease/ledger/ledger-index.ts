/**
 * What is looked up at every event, kept beside the leases instead of searched for: which lease
 * has a TE, who waits in which order, how many leases a caller has. Made of the leases alone, so
 * a restored ledger makes it anew.
 */
import { grantOf } from "./ledger-state.ts";
import type { Lease, LedgerIndex } from "./ledger-state.ts";

export type WritableIndex = {
  readonly onTe: Map<string, string>;
  readonly callers: Map<string, number>;
  queue: readonly Lease[];
};

export function copyIndex(index: LedgerIndex): WritableIndex {
  return { onTe: new Map(index.onTe), callers: new Map(index.callers), queue: index.queue };
}

export function indexOf(leases: Iterable<Lease>): LedgerIndex {
  const index: WritableIndex = { onTe: new Map(), callers: new Map(), queue: [] };
  const waiting: Lease[] = [];
  for (const lease of leases) {
    if (lease.state.kind === "waiting") waiting.push(lease);
    enter(index, lease);
  }
  index.queue = waiting.sort((a, b) => a.order - b.order);
  return index;
}

/** A lease changed: `before` is absent for a new one, `after` for one that left. */
export function reindex(
  index: WritableIndex,
  before: Lease | undefined,
  after: Lease | undefined,
): void {
  if (before) leave(index, before);
  if (after) enter(index, after);
  requeue(index, before, after);
}

function enter(index: WritableIndex, lease: Lease): void {
  const grant = grantOf(lease.state);
  if (grant) index.onTe.set(grant.te, lease.id);
  index.callers.set(lease.caller, (index.callers.get(lease.caller) ?? 0) + 1);
}

function leave(index: WritableIndex, lease: Lease): void {
  const grant = grantOf(lease.state);
  if (grant && index.onTe.get(grant.te) === lease.id) index.onTe.delete(grant.te);
  const count = (index.callers.get(lease.caller) ?? 1) - 1;
  if (count > 0) index.callers.set(lease.caller, count);
  else index.callers.delete(lease.caller);
}

function requeue(index: WritableIndex, before: Lease | undefined, after: Lease | undefined): void {
  const was = before?.state.kind === "waiting" ? before : undefined;
  const is = after?.state.kind === "waiting" ? after : undefined;
  if (!was && !is) return;
  const at = placeInQueue(index.queue, (was ?? is)!.order);
  index.queue = index.queue.toSpliced(at, was ? 1 : 0, ...(is ? [is] : []));
}

/** Where a waiter of this order stands, or would stand; orders are never used twice. */
export function placeInQueue(queue: readonly Lease[], order: number): number {
  let from = 0;
  let to = queue.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (queue[middle]!.order < order) from = middle + 1;
    else to = middle;
  }
  return from;
}

/**
 * Who is next: first come, first served; one that is not takeable is passed over and keeps its
 * place. A grant raises the TE's epoch in the same step (L2), and is the only place that does
 * so for a lease that waits.
 */
import { assert } from "../../base/assert.ts";
import { moveLease, moveTestenv } from "./draft.ts";
import type { Draft } from "./draft.ts";
import { grantOf, leaseOn } from "./ledger-state.ts";
import type { Lease, TestenvRecord } from "./ledger-state.ts";
import { chooseTestenv, freeTestenvs } from "./matching.ts";

/** Grants whatever can be granted now. */
export function grantReady(draft: Draft): void {
  let free = freeTestenvs(draft);
  if (free.length === 0) return;
  for (const lease of waitingLeases(draft.leases)) {
    if (!lease.takeable) continue;
    const te = chooseTestenv(draft, free, lease, draft.nowMs);
    if (!te) continue;
    grant(draft, lease, te);
    free = free.filter((other) => other.id !== te.id);
    if (free.length === 0) return;
  }
}

/** In the queue's order. */
export function waitingLeases(leases: ReadonlyMap<string, Lease>): Lease[] {
  return [...leases.values()]
    .filter((lease) => lease.state.kind === "waiting")
    .sort((a, b) => a.order - b.order);
}

function grant(draft: Draft, lease: Lease, te: TestenvRecord): void {
  assert(leaseOn(draft, te.id) === undefined, `L1: ${te.id} has a lease already`);
  const epoch = te.epoch + 1;
  moveTestenv(draft, te.id, { kind: "granted", lease: lease.id }, { epoch });
  const right = { te: te.id, epoch, kind: te.report.kind, host: te.host };
  moveLease(draft, lease, { kind: "granted", grant: right });
}

/** The waiter is gone, or is over: what was being prepared for it is cleaned up (L11). */
export function abandonPreparation(draft: Draft, lease: Lease): void {
  if (lease.state.kind !== "preparing") return;
  const grant = grantOf(lease.state);
  if (grant && draft.testenvs.has(grant.te)) {
    moveTestenv(draft, grant.te, { kind: "waiter-gone" });
  }
}

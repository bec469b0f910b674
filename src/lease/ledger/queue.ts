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
import { freeTestenvs, openShelf } from "./matching.ts";

/**
 * Grants whatever can be granted now. Before this event nothing could: so only a waiter that
 * changed, or a TE that changed, can make a pair (L9: the queue's order decides among them).
 */
export function grantReady(draft: Draft): void {
  const { touched } = draft;
  const free = freeTestenvs(
    draft,
    touched.all || touched.leases.size > 0 ? null : touched.testenvs,
  );
  if (free.length > 0) {
    const shelf = openShelf(draft, free);
    for (const lease of candidates(draft)) {
      if (shelf.empty) break;
      if (!lease.takeable) continue;
      const everything = touched.all || touched.leases.has(lease.id);
      const te = shelf.choose(lease, everything ? null : touched.testenvs);
      if (!te) continue;
      grant(draft, lease, te);
      shelf.take(te);
    }
  }
  touched.testenvs.clear();
  touched.leases.clear();
  touched.all = false;
}

/** In the queue's order: where no TE changed, the waiters that did are enough. */
function candidates({ index, touched, leases }: Draft): readonly Lease[] {
  if (touched.all || touched.testenvs.size > 0) return index.queue;
  return [...touched.leases]
    .flatMap((id) => leases.get(id) ?? [])
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

/**
 * What is wanted of a TE, as its host is to be told (model/session.ts `Wanted`): computed from the
 * ledger alone, so that it can be told again at any time. Without the token's hash, which the
 * ledger does not know.
 */
import type { EndReason } from "../../model/lease.ts";
import { leaseOn } from "./ledger-state.ts";
import type { LeaseRecord, Ledger, TestenvRecord } from "./ledger-state.ts";

export type WantedOfTestenv = {
  /** The host has seen this epoch: a lower record of it is an old disk's (L2). */
  readonly epoch: number;
  readonly draining: boolean;
  readonly lease: { readonly record: LeaseRecord; readonly epoch: number } | null;
  readonly ended: {
    readonly lease: string;
    readonly epoch: number;
    readonly reason: EndReason;
  } | null;
};

/** `ended`: the lease that an effect says is over, where the ledger has it no more. */
export function wantedOf(
  ledger: Pick<Ledger, "leases" | "index">,
  te: TestenvRecord,
  ended: WantedOfTestenv["ended"] = null,
): WantedOfTestenv {
  const lease = leaseOn(ledger, te.id);
  const { draining } = te;
  switch (lease?.state.kind) {
    case "preparing":
    case "active": {
      // An offer is not yet seen: what the host is behind of is what it has confirmed.
      const { epoch } = lease.state.grant;
      return { epoch: te.hostEpoch, draining, lease: { record: lease, epoch }, ended: null };
    }
    case "ending": {
      const { grant, reason } = lease.state;
      const over = { lease: lease.id, epoch: grant.epoch, reason };
      return { epoch: te.hostEpoch, draining, lease: null, ended: over };
    }
    default: {
      const owed = te.life.kind === "offline" ? te.life.owed : null;
      return { epoch: te.epoch, draining, lease: null, ended: ended ?? owed };
    }
  }
}

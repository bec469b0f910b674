/** The broker's policy and a request, as tests of leases begin with. */
import type { Policy } from "../../src/lease/ledger/ledger-state.ts";
import type { LeaseRequest } from "../../src/model/lease.ts";

/** The product's own spans, and no limit on numbers that a test would meet by chance. */
export function samplePolicy(changes: Partial<Policy> = {}): Policy {
  return {
    holderTtlMs: 30_000,
    streamLossMs: 2_000,
    takenMs: 10_000,
    prepareMs: 15_000,
    avoidMs: 60_000,
    maxDurationMs: 600_000,
    deadlineSlackMs: 5_000,
    hostSuspectMs: 30_000,
    hostGraceMs: 60_000,
    turnMs: 3_000,
    waiters: 3_000,
    leasesPerHolder: 5_000,
    ...changes,
  };
}

export function sampleRequest(changes: Partial<LeaseRequest> = {}): LeaseRequest {
  return {
    machines: { count: 1 },
    environments: 1,
    durationSeconds: 300,
    priority: "normal",
    takeable: true,
    requeue: false,
    avoid: { hosts: [], testenvs: [] },
    holder: { name: "test", addresses: [] },
    ...changes,
  };
}

/**
 * When a waiting request will start, as an interval: the queue played forward over the TEs that
 * fit, three times. Earliest: every holder releases at once; likely: holders use the share of
 * their time that holders have used so far; latest: all use all of it. One pass serves a whole
 * list. A guess for people; nothing decides by it.
 */
import type { Lease, Ledger, TestenvRecord } from "./ledger-state.ts";
import { leaseOn } from "./ledger-state.ts";
import { fits, obstacle } from "./matching.ts";

export type Forecast = {
  readonly earliestMs: number;
  readonly likelyMs: number;
  readonly latestMs: number;
};

/** Forecasts of all requests that wait and can be foreseen. */
export function forecasts(ledger: Ledger, nowMs: number): ReadonlyMap<string, Forecast> {
  const shares = [0, ledger.usedShare, 1];
  const [earliest, likely, latest] = shares.map((share) => play(ledger, nowMs, share));
  const found = new Map<string, Forecast>();
  for (const [id, earliestMs] of earliest!) {
    const likelyMs = likely!.get(id) ?? earliestMs;
    const latestMs = latest!.get(id) ?? likelyMs;
    found.set(id, {
      earliestMs,
      likelyMs: Math.max(earliestMs, likelyMs),
      latestMs: Math.max(earliestMs, likelyMs, latestMs),
    });
  }
  return found;
}

type Slot = { readonly te: TestenvRecord; freeMs: number };

function play(ledger: Ledger, nowMs: number, share: number): Map<string, number> {
  const slots: Slot[] = [];
  for (const te of ledger.testenvs.values()) {
    const freeMs = freeAtMs(ledger, te, nowMs, share);
    if (freeMs !== null) slots.push({ te, freeMs });
  }
  const starts = new Map<string, number>();
  for (const lease of ledger.index.queue) {
    const slot = soonest(ledger, slots, lease);
    if (!slot) continue;
    starts.set(lease.id, slot.freeMs);
    // one that is passed over delays nobody who can start now
    if (lease.takeable) slot.freeMs += lease.durationMs * share + ledger.policy.turnMs;
  }
  return starts;
}

function soonest(ledger: Ledger, slots: readonly Slot[], lease: Lease): Slot | undefined {
  let best: Slot | undefined;
  for (const slot of slots) {
    if ((!best || slot.freeMs < best.freeMs) && fits(ledger, slot.te, lease)) best = slot;
  }
  return best;
}

/** When this TE could be granted again; null where nobody can say. */
function freeAtMs(ledger: Ledger, te: TestenvRecord, nowMs: number, share: number): number | null {
  if (te.life.kind === "resetting") return nowMs + ledger.policy.turnMs;
  if (obstacle(ledger, te) !== null) return null;
  const lease = leaseOn(ledger, te.id);
  if (!lease) return nowMs;
  const { state } = lease;
  if (state.kind === "active") {
    const ends = state.preparedAtMs + lease.durationMs * share;
    return Math.max(nowMs, share === 1 ? state.deadlineMs : ends) + ledger.policy.turnMs;
  }
  if (state.kind === "preparing") return nowMs + lease.durationMs * share + ledger.policy.turnMs;
  return nowMs + ledger.policy.turnMs;
}

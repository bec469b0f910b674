/**
 * What holders ask of the ledger: ask, patch, signs of life, take, renew, extend, release, and
 * an operator's revoke. A refusal changes nothing.
 */
import { assertNever } from "../../base/assert.ts";
import type { EndReason } from "../../model/lease.ts";
import { freshAlive, moveLease, putLease } from "./draft.ts";
import type { Draft } from "./draft.ts";
import { refuseAddresses } from "./addresses.ts";
import { parseLabels } from "./label-expression.ts";
import type { HolderEvent, Refusal } from "./ledger-event.ts";
import type { Lease } from "./ledger-state.ts";
import { fits, missing } from "./matching.ts";
import { abandonPreparation } from "./queue.ts";

export function onHolderEvent(draft: Draft, event: HolderEvent): Refusal | null {
  if (event.kind === "ask") return ask(draft, event);
  const lease = draft.leases.get(event.id);
  if (!lease) return over(event.id);
  switch (event.kind) {
    case "patch":
      return patch(draft, lease, event);
    case "look":
      return seen(draft, lease, {});
    case "stream-opened":
      return seen(draft, lease, { streams: lease.alive.streams + 1 });
    case "stream-closed": {
      const streams = Math.max(0, lease.alive.streams - 1);
      const lost = event.lost && streams === 0;
      return seen(draft, lease, { streams, streamLostMs: lost ? draft.nowMs : null });
    }
    case "take":
      return take(draft, lease);
    case "renew":
      if (lease.state.kind === "ending") return over(lease.id, lease.state.reason);
      return seen(draft, lease, {});
    case "check-extend":
      return mayExtend(draft, lease, event.durationMs);
    case "release":
      return finishLease(draft, lease, "released", "release");
    case "revoke":
      return finishLease(draft, lease, "revoked", "revoke");
    default:
      return assertNever(event, "holder's event");
  }
}

/** Ends a lease from the holder's side; the rack follows. */
export function finishLease(draft: Draft, lease: Lease, reason: EndReason, name: string): null {
  abandonPreparation(draft, lease);
  moveLease(draft, lease, { kind: "finish", reason }, name);
  return null;
}

type Ask = Extract<HolderEvent, { kind: "ask" }>;

function ask(draft: Draft, event: Ask): Refusal | null {
  if (draft.leases.has(event.id)) return null; // the same request again: the same lease
  const { request } = event;
  const labels = parseLabels(request.labels ?? "");
  if (!labels.ok) {
    const fault = { pointer: "/labels", code: "label-expression", detail: labels.detail };
    return { code: "bad-request", detail: `labels: ${labels.detail}`, faults: [fault] };
  }
  const most = Math.floor(draft.policy.maxDurationMs / 1_000);
  if (request.durationSeconds > most) {
    const detail = `no lease lasts longer than ${most} s (leases.maxDurationSeconds)`;
    const asked = `${detail}, asked for are ${request.durationSeconds} s`;
    const fault = { pointer: "/durationSeconds", code: "too-long", detail };
    return { code: "bad-request", detail: asked, faults: [fault] };
  }
  const foreign = event.paired ? null : refuseAddresses(draft, request.holder.addresses);
  if (foreign) return foreign;
  const crowd = crowded(draft, event.caller);
  if (crowd) return crowd;
  const faults = missing(draft, { request, wants: labels.expression });
  if (faults.length > 0) {
    const detail = faults.map((fault) => fault.detail).join("; ");
    return { code: "unsatisfiable", detail, faults };
  }
  const lease: Lease = {
    id: event.id,
    order: draft.nextOrder,
    tenant: event.tenant,
    caller: event.caller,
    group: event.group,
    request,
    durationMs: request.durationSeconds * 1_000,
    createdAtMs: draft.nowMs,
    takeable: request.takeable,
    addresses: request.holder.addresses,
    requeued: false,
    shunned: [],
    avoidSinceMs: draft.nowMs,
    state: { kind: "waiting" },
    interruptions: [],
    certified: false,
    wants: labels.expression,
    alive: freshAlive(draft.nowMs),
  };
  draft.nextOrder++;
  putLease(draft, lease, "asked", null);
  return null;
}

function crowded(draft: Draft, caller: string): Refusal | null {
  const waiting = draft.index.queue.length;
  const own = draft.index.callers.get(caller) ?? 0;
  const { waiters, leasesPerHolder } = draft.policy;
  if (waiting >= waiters) {
    return { code: "too-many", detail: `${waiting} requests wait already: that is the limit` };
  }
  if (own >= leasesPerHolder) {
    const detail = `${caller} has ${own} leases or requests already: that is the limit`;
    return { code: "too-many", detail, remedy: "release some: rackyard lease list" };
  }
  return null;
}

function patch(
  draft: Draft,
  lease: Lease,
  { takeable, addresses, paired }: Extract<HolderEvent, { kind: "patch" }>,
): Refusal | null {
  const foreign = paired ? null : refuseAddresses(draft, addresses ?? []);
  if (foreign) return foreign;
  if (lease.state.kind !== "waiting") {
    // Granted meanwhile: what is in force stays; asking for what is so already is no conflict.
    if (takeable) return seen(draft, lease, {});
    const detail = `lease ${lease.id} is ${lease.state.kind}: only a waiting one can be held back`;
    return { code: "conflict", detail, remedy: "release it, or take it" };
  }
  const changed: Lease = {
    ...lease,
    takeable,
    addresses: addresses ?? lease.addresses,
    alive: alive(draft, lease, {}),
  };
  const same =
    changed.takeable === lease.takeable && changed.addresses.join() === lease.addresses.join();
  if (same) draft.leases.set(lease.id, changed);
  else putLease(draft, changed, "patched", lease.state.kind);
  return null;
}

function take(draft: Draft, lease: Lease): Refusal | null {
  switch (lease.state.kind) {
    case "waiting":
    case "preparing": {
      seen(draft, lease, {});
      const detail = `lease ${lease.id} is ${lease.state.kind}: it has no test environment yet`;
      return { code: "conflict", detail, remedy: "wait until it is active" };
    }
    case "active":
      seen(draft, lease, {});
      moveLease(draft, draft.leases.get(lease.id)!, { kind: "taken" });
      return null;
    case "ending":
      return over(lease.id, lease.state.reason);
    case "ended":
      return over(lease.id, lease.state.reason);
    default:
      return assertNever(lease.state, "lease state");
  }
}

/** L8: while nobody starves, and within the policy's longest duration. */
function mayExtend(draft: Draft, lease: Lease, durationMs: number): Refusal | null {
  const { state } = lease;
  if (state.kind !== "active") {
    if (state.kind === "ending") return over(lease.id, state.reason);
    return { code: "conflict", detail: `lease ${lease.id} is ${state.kind}, not active` };
  }
  if (lease.alive.extendingUntilMs > draft.nowMs) {
    const detail = `an extension of lease ${lease.id} is under way`;
    return { code: "conflict", detail, remedy: "ask again when it is answered" };
  }
  seen(draft, lease, {});
  const whole = state.deadlineMs + durationMs - state.preparedAtMs;
  if (whole > draft.policy.maxDurationMs + draft.policy.deadlineSlackMs) {
    const most = Math.floor(draft.policy.maxDurationMs / 1_000);
    return { code: "not-allowed", detail: `no lease lasts longer than ${most} s in all` };
  }
  const te = draft.testenvs.get(state.grant.te);
  const starving = draft.index.queue.find(
    (other) => other.takeable && te !== undefined && fits(draft, te, other),
  );
  if (!starving) {
    // What the host adds is counted when it says so: until then nobody adds on the same sum.
    return seen(draft, lease, { extendingUntilMs: draft.nowMs + draft.policy.prepareMs });
  }
  const who = starving.request.holder.name;
  return { code: "conflict", detail: `${who} waits for ${state.grant.te}: no extension now` };
}

function seen(draft: Draft, lease: Lease, changes: Partial<Lease["alive"]>): null {
  draft.leases.set(lease.id, { ...lease, alive: alive(draft, lease, changes) });
  return null;
}

function alive(draft: Draft, lease: Lease, changes: Partial<Lease["alive"]>): Lease["alive"] {
  return { ...lease.alive, seenMs: draft.nowMs, streamLostMs: null, ...changes };
}

function over(id: string, reason?: string): Refusal {
  const detail = reason ? `lease ${id} is over: ${reason}` : `lease ${id} is over`;
  return { code: "lease-over", detail };
}

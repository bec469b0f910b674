/**
 * Why a request waits, in words that a person can act on (lease.md §4): which TEs fit, who has
 * them and until when, what keeps them, who is ahead. The first entry is the reason that
 * matters most.
 */
import type { Why } from "../../model/lease.ts";
import type { Lease, Ledger, TestenvRecord } from "./ledger-state.ts";
import { placeInQueue } from "./ledger-index.ts";
import { leaseOn } from "./ledger-state.ts";
import { avoidance, fits, leastAvoidance, obstacle } from "./matching.ts";
import { isoMs } from "./lease-life.ts";

/** Entries at most; the rest is counted in one. */
const ENTRIES = 20;

/** Place in the queue, from 1; undefined when it does not wait. */
export function placeOf(ledger: Ledger, lease: Lease): number | undefined {
  if (lease.state.kind !== "waiting") return undefined;
  return placeInQueue(ledger.index.queue, lease.order) + 1;
}

export function whyWaiting(ledger: Ledger, lease: Lease): Why[] {
  if (lease.state.kind !== "waiting") return [];
  const fitting = [...ledger.testenvs.values()].filter((te) => fits(ledger, te, lease));
  const why = [
    ...notTakeable(lease),
    ...onlyOffline(ledger, fitting),
    ...fitting.map((te) => whyNot(ledger, te, lease)),
    ...ahead(ledger, lease, fitting),
  ];
  if (why.length <= ENTRIES) return why;
  const more = why.length - ENTRIES + 1;
  return [
    ...why.slice(0, ENTRIES - 1),
    { code: "more", text: `and ${more} more reasons of this kind` },
  ];
}

function notTakeable(lease: Lease): Why[] {
  if (lease.takeable) return [];
  const text = "no node is ready for it yet: it keeps its place and is passed over until then";
  return [{ code: "not-takeable", text }];
}

function onlyOffline(ledger: Ledger, fitting: readonly TestenvRecord[]): Why[] {
  if (fitting.length === 0) {
    const text = "no test environment that fits is registered any more";
    return [{ code: "none-fits", text }];
  }
  const away = fitting.every((te) => obstacle(ledger, te)?.code === "te-offline");
  if (!away) return [];
  const text = "every test environment that fits is offline: it starts when a host comes back";
  return [{ code: "only-offline", text }];
}

function whyNot(ledger: Ledger, te: TestenvRecord, lease: Lease): Why {
  const blocked = obstacle(ledger, te);
  if (blocked) return { ...blocked, te: te.id };
  const other = leaseOn(ledger, te.id);
  if (other) return heldBy(te, other);
  if (avoidance(te, lease) > leastAvoidance(ledger, lease)) {
    const untilAt = isoMs(lease.avoidSinceMs + ledger.policy.avoidMs);
    const text =
      `${te.id} is free, but to be avoided: it is taken all the same from ` +
      `${timeText(untilAt)} on`;
    return { code: "te-avoided", text, te: te.id, untilAt };
  }
  return { code: "te-free", text: `${te.id} is free`, te: te.id };
}

function heldBy(te: TestenvRecord, other: Lease): Why {
  const holder = other.request.holder.name;
  switch (other.state.kind) {
    case "preparing":
      return {
        code: "te-preparing",
        text: `${te.id} is being prepared for ${holder}`,
        te: te.id,
        holder,
      };
    case "active": {
      const untilAt = other.state.expiresAt;
      const text = `${te.id} is leased by ${holder} until ${timeText(untilAt)} at the latest`;
      return { code: "te-leased", text, te: te.id, holder, untilAt };
    }
    default:
      return {
        code: "te-ending",
        text: `${te.id} is being given back by ${holder}`,
        te: te.id,
        holder,
      };
  }
}

/** For sentences; `untilAt` beside it is exact. */
const timeText = (at: string): string => `${at.slice(0, 10)} ${at.slice(11, 19)} UTC`;

/** Requests before this one that want one of the same TEs and can take it. */
function ahead(ledger: Ledger, lease: Lease, fitting: readonly TestenvRecord[]): Why[] {
  const before = ledger.index.queue.filter(
    (other) =>
      other.order < lease.order && other.takeable && fitting.some((te) => fits(ledger, te, other)),
  );
  if (before.length === 0) return [];
  const names = before.slice(0, 5).map((other) => other.request.holder.name);
  const rest = before.length > names.length ? ` and ${before.length - names.length} more` : "";
  const asked = before.length === 1 ? "1 request that came" : `${before.length} requests that came`;
  const text = `${asked} earlier: ${names.join(", ")}${rest}`;
  const first = before[0]!.request.holder.name;
  return [{ code: "ahead", text, holder: first }];
}

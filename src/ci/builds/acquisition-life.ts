/**
 * How one waiting build comes to node and rack (docs/specs/acquisition.md) as one total function:
 * queued → offering → offered → granted → taking → over. Its node is its own from the moment it
 * is offered until the broker has confirmed that it is offered no more. Pure; acquisition.ts
 * performs the effects and tells how they ended.
 */
import { assertNever } from "../../base/assert.ts";
import type { ReadyNode } from "./build-ports.ts";
import type { QueuePlace, Stop } from "./record.ts";

export const acquisitionStates = [
  "queued",
  "offering",
  "offered",
  "withdrawing",
  "granted",
  "taking",
  "over",
] as const;
export type AcquisitionState = (typeof acquisitionStates)[number];

export type Waiter = {
  readonly build: string;
  readonly label: string;
  readonly place: QueuePlace;
  /** False: the job wants no rack; its node is all it waits for. */
  readonly wantsRack: boolean;
  readonly state: AcquisitionState;
  /** Reserved for it; null while it is queued. */
  readonly node: ReadyNode | null;
  readonly sinceMs: number;
  /** How long its lease could be granted, in all, before the present offer. */
  readonly rackWaitMs: number;
  readonly offeredSinceMs: number | null;
};

export type AcquisitionEvent =
  /** The pass chose this node for it. */
  | { readonly kind: "paired"; readonly node: ReadyNode }
  /** The pass chose none, or another, or the node is there no more. */
  | { readonly kind: "unpaired" }
  /** The broker has done what it was asked: offered, or offered no more. */
  | { readonly kind: "confirmed" }
  /** It did not answer, or refused: what it has done is not known. */
  | { readonly kind: "failed" }
  /** A rack is made ready for it, or is ready. */
  | { readonly kind: "granted" }
  | { readonly kind: "active" }
  | { readonly kind: "node-gone" }
  | { readonly kind: "taken" }
  | { readonly kind: "take-failed"; readonly why: string }
  /** One of its waits is over. */
  | { readonly kind: "waited"; readonly stop: Stop }
  /** The build waits no more. */
  | { readonly kind: "left" };

export type AcquisitionEffect =
  | { readonly kind: "offer"; readonly node: ReadyNode }
  | { readonly kind: "withdraw" }
  /** Assigns the node and fetches the TE data. */
  | { readonly kind: "take"; readonly node: ReadyNode }
  /** The lease goes back, and the build asks anew. */
  | { readonly kind: "lose"; readonly why: string }
  | { readonly kind: "stop"; readonly stop: Stop };

export type AcquisitionStep = {
  readonly waiter: Waiter;
  readonly effects: readonly AcquisitionEffect[];
};

export function newWaiter(
  of: Pick<Waiter, "build" | "label" | "place" | "wantsRack">,
  nowMs: number,
): Waiter {
  const clock = { sinceMs: nowMs, rackWaitMs: 0, offeredSinceMs: null };
  return { ...of, state: "queued", node: null, ...clock };
}

/** How long its lease could have been granted: a new offer goes on where the last one ended. */
export function rackWaitMs(waiter: Waiter, nowMs: number): number {
  const { offeredSinceMs } = waiter;
  return waiter.rackWaitMs + (offeredSinceMs === null ? 0 : nowMs - offeredSinceMs);
}

/** Moves no more: a rack is prepared for it, or taken. */
export function isPinned({ state }: Waiter): boolean {
  return state === "granted" || state === "taking";
}

export function stepAcquisition(
  waiter: Waiter,
  event: AcquisitionEvent,
  nowMs: number,
): AcquisitionStep {
  const { state } = waiter;
  const still: AcquisitionStep = { waiter, effects: [] };
  const to = (next: AcquisitionState, ...effects: AcquisitionEffect[]): AcquisitionStep => ({
    waiter: moved(waiter, next, nowMs),
    effects,
  });
  const lost = (why: string): AcquisitionStep => to("over", { kind: "lose", why });
  if (state === "over") return still;
  switch (event.kind) {
    case "paired": {
      if (state !== "queued") return still;
      const { node } = event;
      const step = waiter.wantsRack
        ? to("offering", { kind: "offer", node })
        : to("taking", { kind: "take", node });
      return { ...step, waiter: { ...step.waiter, node } };
    }
    case "unpaired":
      // One that waits for the broker's confirmation asks it again.
      return state === "offered" || state === "withdrawing"
        ? to("withdrawing", { kind: "withdraw" })
        : still;
    case "confirmed":
      if (state === "offering") return to("offered");
      return state === "withdrawing" ? to("queued") : still;
    case "failed":
      // The offer may have come: its node stays reserved until it surely is offered no more.
      return state === "offering" ? to("withdrawing") : still;
    case "granted":
      if (state === "queued") return lost("a rack was granted without a node");
      return isPinned(waiter) ? still : to("granted");
    case "active":
      if (state === "queued") return lost("a rack was granted without a node");
      return state === "taking" ? still : to("taking", { kind: "take", node: waiter.node! });
    case "node-gone":
      return state === "granted" ? lost("the node went while the rack was made ready") : still;
    case "taken":
      return state === "taking" ? to("over") : still;
    case "take-failed":
      return state === "taking" ? lost(event.why) : still;
    case "waited":
      return isPinned(waiter) ? still : to("over", { kind: "stop", stop: event.stop });
    case "left":
      return to("over");
    default:
      return assertNever(event, "event");
  }
}

/** The rack's wait runs from the offer until the offer is withdrawn. */
function moved(waiter: Waiter, state: AcquisitionState, nowMs: number): Waiter {
  if (state === "offered" || state === "granted") {
    return { ...waiter, state, offeredSinceMs: waiter.offeredSinceMs ?? nowMs };
  }
  const waited = { rackWaitMs: rackWaitMs(waiter, nowMs), offeredSinceMs: null };
  return { ...waiter, state, ...waited, node: state === "queued" ? null : waiter.node };
}

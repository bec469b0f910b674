/**
 * The life of a TE as the broker knows it: docs/specs/lease.md, table 2, as a union and one
 * total step. The host owns the TE; this is what may be granted, and what is still owed.
 */
import { assertNever } from "../../base/assert.ts";
import type { EndReason } from "../../model/lease.ts";

/** A lease whose end and reset its host has not yet reported (lease.md §6). */
export type Owed = { readonly lease: string; readonly epoch: number; readonly reason: EndReason };

export type TestenvLife =
  | { readonly kind: "offline"; readonly owed: Owed | null }
  | { readonly kind: "provisioning" }
  | { readonly kind: "ready" }
  | { readonly kind: "preparing"; readonly lease: string }
  | { readonly kind: "leased"; readonly lease: string }
  | { readonly kind: "held" }
  | { readonly kind: "resetting"; readonly lease: string | null }
  | { readonly kind: "faulty"; readonly detail: string }
  | { readonly kind: "quarantined"; readonly detail: string }
  /** The host has it no more; its highest epoch is remembered. */
  | { readonly kind: "removed" };

export type TestenvEvent =
  | { readonly kind: "granted"; readonly lease: string }
  | { readonly kind: "prepared" }
  /** The waiter it was prepared for is gone: the host cleans up, then proves. */
  | { readonly kind: "waiter-gone" }
  | { readonly kind: "fenced"; readonly lease: string | null }
  /** Ready, with a certificate of its present epoch whose signature holds (L5). */
  | { readonly kind: "proved" }
  | { readonly kind: "failed"; readonly detail: string }
  | {
      readonly kind: "reported";
      readonly as: "offline" | "provisioning" | "held" | "quarantined";
      readonly detail: string;
    }
  | { readonly kind: "host-lost"; readonly owed: Owed | null }
  | { readonly kind: "removed" };

/** Total, like stepLease: the same object where there is nothing to do, null for our mistake. */
export function stepTestenv(state: TestenvLife, event: TestenvEvent): TestenvLife | null {
  switch (event.kind) {
    case "granted":
      return state.kind === "ready" ? { kind: "preparing", lease: event.lease } : null;
    case "prepared":
      return state.kind === "preparing" ? { kind: "leased", lease: state.lease } : state;
    case "waiter-gone":
      return state.kind === "preparing" ? { kind: "resetting", lease: state.lease } : state;
    case "fenced":
      return state.kind === "resetting" && state.lease === event.lease
        ? state
        : { kind: "resetting", lease: event.lease };
    case "proved":
      return state.kind === "ready" ? state : { kind: "ready" };
    case "failed":
      return state.kind === "faulty" && state.detail === event.detail
        ? state
        : { kind: "faulty", detail: event.detail };
    case "reported":
      return reported(state, event.as, event.detail);
    case "host-lost":
      return state.kind === "offline" || state.kind === "removed"
        ? state
        : { kind: "offline", owed: event.owed };
    case "removed":
      return state.kind === "removed" ? state : { kind: "removed" };
    default:
      return assertNever(event, "test environment event");
  }
}

function reported(
  state: TestenvLife,
  as: "offline" | "provisioning" | "held" | "quarantined",
  detail: string,
): TestenvLife {
  switch (as) {
    case "offline":
      return state.kind === "offline" ? state : { kind: "offline", owed: null };
    case "provisioning":
    case "held":
      return state.kind === as ? state : { kind: as };
    case "quarantined":
      return state.kind === as && state.detail === detail ? state : { kind: as, detail };
    default:
      return assertNever(as, "reported state");
  }
}

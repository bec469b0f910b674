/**
 * The life of a lease: docs/specs/lease.md, table 1, as a union and one total step. It knows
 * nothing of queues, hosts or time-outs; the ledger says what happened. What it answers with is
 * for the rack's host; what is durable is the state itself.
 */
import { assertNever } from "../../base/assert.ts";
import type { EndReason } from "../../model/lease.ts";

/** The right to one TE: fenced by `epoch`. `kind` and `host` are kept for whoever reads it. */
export type Grant = {
  readonly te: string;
  readonly epoch: number;
  readonly kind: string;
  readonly host: string;
};

export type LeaseState =
  | { readonly kind: "waiting" }
  | { readonly kind: "preparing"; readonly grant: Grant }
  | {
      readonly kind: "active";
      readonly grant: Grant;
      readonly preparedAtMs: number;
      /** By the broker's clock; the host's own is what ends it. */
      readonly deadlineMs: number;
      /** The host's deadline as it told it. */
      readonly expiresAt: string;
      /** The TE data were handed out (L8). */
      readonly taken: boolean;
    }
  | {
      readonly kind: "ending";
      readonly grant: Grant;
      readonly preparedAtMs: number;
      readonly expiresAt: string;
      readonly reason: EndReason;
    }
  | {
      readonly kind: "ended";
      readonly grant: Grant | null;
      readonly preparedAtMs: number | null;
      readonly expiresAt: string | null;
      readonly reason: EndReason;
      /** When the fence stood. */
      readonly endedAt: string;
    };

export type LeaseEvent =
  | { readonly kind: "granted"; readonly grant: Grant }
  /** The host knows a higher epoch (L2): the grant is made anew above it. */
  | { readonly kind: "moved-up"; readonly epoch: number }
  | { readonly kind: "prepared"; readonly deadlineMs: number; readonly expiresAt: string }
  | { readonly kind: "taken" }
  | { readonly kind: "extended"; readonly deadlineMs: number; readonly expiresAt: string }
  /** Someone or something ends it: holder, deadline, silence, operator. */
  | { readonly kind: "finish"; readonly reason: EndReason }
  /** The host says: the fence stands. */
  | { readonly kind: "fenced"; readonly reason: EndReason; readonly endedAt: string }
  /** The rack failed, or its host is gone. */
  | { readonly kind: "rack-lost"; readonly mayRequeue: boolean };

export type LeaseEffect =
  | { readonly kind: "prepare"; readonly grant: Grant }
  | { readonly kind: "taken"; readonly grant: Grant }
  | { readonly kind: "end"; readonly grant: Grant; readonly reason: EndReason };

export type LeaseStep = { readonly state: LeaseState; readonly effects: readonly LeaseEffect[] };

export type LeaseEventKind = LeaseEvent["kind"];

/**
 * Total: every state takes every event. An event that finds nothing to do gives the same state
 * object and no effects; null says it can only be our own mistake.
 */
export function stepLease(state: LeaseState, event: LeaseEvent, nowMs: number): LeaseStep | null {
  switch (event.kind) {
    case "granted":
      if (state.kind !== "waiting") return null;
      return to({ kind: "preparing", grant: event.grant }, [
        { kind: "prepare", grant: event.grant },
      ]);
    case "moved-up": {
      if (state.kind !== "preparing") return to(state);
      const grant = { ...state.grant, epoch: event.epoch };
      return to({ kind: "preparing", grant }, [{ kind: "prepare", grant }]);
    }
    case "prepared": {
      if (state.kind !== "preparing") return to(state);
      const { deadlineMs, expiresAt } = event;
      const { grant } = state;
      return to({
        kind: "active",
        grant,
        preparedAtMs: nowMs,
        deadlineMs,
        expiresAt,
        taken: false,
      });
    }
    case "taken":
      if (state.kind !== "active" || state.taken) return to(state);
      return to({ ...state, taken: true }, [{ kind: "taken", grant: state.grant }]);
    case "extended":
      if (state.kind !== "active") return to(state);
      return to({ ...state, deadlineMs: event.deadlineMs, expiresAt: event.expiresAt });
    case "finish":
      return finish(state, event.reason, nowMs);
    case "fenced":
      return fenced(state, event.reason, event.endedAt);
    case "rack-lost":
      return rackLost(state, event.mayRequeue, nowMs);
    default:
      return assertNever(event, "lease event");
  }
}

/** While waiting, or before anyone had the TE data, leaving is `cancelled`. */
function beforeTaking(reason: EndReason): EndReason {
  return reason === "released" || reason === "holder-lost" ? "cancelled" : reason;
}

function finish(state: LeaseState, reason: EndReason, nowMs: number): LeaseStep {
  switch (state.kind) {
    case "waiting":
      return to(ended(state, beforeTaking(reason), isoMs(nowMs)));
    case "preparing": {
      // nobody has the data yet: the request is over at once, the TE only after its reset
      const why = beforeTaking(reason);
      const { grant } = state;
      return to(ended(state, why, isoMs(nowMs)), [{ kind: "end", grant, reason: why }]);
    }
    case "active": {
      const why = state.taken ? reason : beforeTaking(reason);
      const { grant, preparedAtMs, expiresAt } = state;
      return to({ kind: "ending", grant, preparedAtMs, expiresAt, reason: why }, [
        { kind: "end", grant, reason: why },
      ]);
    }
    case "ending":
    case "ended":
      return to(state);
    default:
      return assertNever(state, "lease state");
  }
}

function fenced(state: LeaseState, reason: EndReason, endedAt: string): LeaseStep {
  switch (state.kind) {
    case "waiting":
    case "ended":
      return to(state);
    case "preparing":
      return to({ kind: "waiting" });
    case "active":
      return to(ended(state, reason, endedAt));
    case "ending":
      return to(ended(state, state.reason, endedAt));
    default:
      return assertNever(state, "lease state");
  }
}

function rackLost(state: LeaseState, mayRequeue: boolean, nowMs: number): LeaseStep {
  switch (state.kind) {
    case "waiting":
    case "ended":
      return to(state);
    case "preparing":
      return to({ kind: "waiting" });
    case "active":
      if (mayRequeue && !state.taken) return to({ kind: "waiting" });
      return to(ended(state, "te-lost", isoMs(nowMs)));
    case "ending":
      return to(ended(state, state.reason, isoMs(nowMs)));
    default:
      return assertNever(state, "lease state");
  }
}

function ended(state: LeaseState, reason: EndReason, endedAt: string): LeaseState {
  return {
    kind: "ended",
    grant: state.kind === "waiting" ? null : state.grant,
    preparedAtMs: "preparedAtMs" in state ? state.preparedAtMs : null,
    expiresAt: "expiresAt" in state ? state.expiresAt : null,
    reason,
    endedAt,
  };
}

function to(state: LeaseState, effects: readonly LeaseEffect[] = []): LeaseStep {
  return { state, effects };
}

/** RFC 3339 of a time handed in. */
export function isoMs(ms: number): string {
  return new Date(ms).toISOString();
}

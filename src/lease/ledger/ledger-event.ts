/**
 * What may happen to the ledger, and what it may want done. Certificates come in already
 * checked against their host's key; tokens and TE data never come in at all.
 */
import type { EndReason, Interruption, LeaseRequest } from "../../model/lease.ts";
import type { Certificate, TestenvReport } from "../../model/testenv.ts";
import type { HostFacts, HostRecord, LeaseRecord, TestenvRecord, Vitals } from "./ledger-state.ts";

export type HolderEvent =
  | {
      readonly kind: "ask";
      readonly id: string;
      readonly request: LeaseRequest;
      readonly caller: string;
      readonly group: string;
      readonly tenant: string;
      /** Its addresses are of nodes that our own scheduler paired it with. */
      readonly paired: boolean;
    }
  | {
      readonly kind: "patch";
      readonly id: string;
      readonly takeable: boolean;
      readonly addresses: readonly string[] | null;
      readonly paired: boolean;
    }
  /** A call with the lease's token: a sign of life. */
  | { readonly kind: "look"; readonly id: string }
  | { readonly kind: "stream-opened"; readonly id: string }
  /** `lost`: the holder went away; else a poll that had its answer. */
  | { readonly kind: "stream-closed"; readonly id: string; readonly lost: boolean }
  | { readonly kind: "take"; readonly id: string }
  | { readonly kind: "renew"; readonly id: string }
  | { readonly kind: "check-extend"; readonly id: string; readonly durationMs: number }
  | { readonly kind: "release"; readonly id: string }
  | { readonly kind: "revoke"; readonly id: string };

/** A TE as its host reports it; `proof` says what its certificate is worth. */
export type CheckedReport = { readonly report: TestenvReport; readonly proof: Proof };

/** `valid`: signed by the host, for this TE and this epoch. Else why it is not. */
export type Proof = { readonly kind: "valid" } | { readonly kind: "bad"; readonly why: string };

export type HostSaid =
  | {
      readonly kind: "hello";
      readonly facts: HostFacts;
      readonly reports: readonly CheckedReport[];
      readonly processes: Vitals["processes"];
    }
  /** The answer to its hello went out. */
  | { readonly kind: "host-open"; readonly hostId: string }
  | { readonly kind: "host-closed"; readonly hostId: string }
  | { readonly kind: "heard"; readonly hostId: string; readonly vitals: Vitals | null }
  | { readonly kind: "report"; readonly hostId: string; readonly report: CheckedReport }
  | {
      readonly kind: "interrupted";
      readonly te: string;
      readonly lease: string | null;
      readonly interruption: Interruption;
    };

export type LedgerEvent =
  | HolderEvent
  | HostSaid
  | { readonly kind: "drain"; readonly te: string; readonly on: boolean }
  /** Time went on: what is due by nowMs happens. Every other event does this too. */
  | { readonly kind: "tick" }
  /** We ourselves were away (stopped, starved): all signs of life begin anew. */
  | { readonly kind: "woke" };

type Recorded<Life extends string, Body> = {
  readonly kind: "record";
  readonly life: Life;
  readonly id: string;
  readonly from: string | null;
  readonly event: string;
  readonly to: string;
  readonly body: Body;
};
export type RecordEffect =
  | Recorded<"lease", LeaseRecord>
  | Recorded<"testenv", TestenvRecord>
  | Recorded<"host", HostRecord>;

export type LedgerEffect =
  /** Written before any other effect is carried out (L6). */
  | RecordEffect
  | {
      readonly kind: "prepare";
      readonly hostId: string;
      readonly number: number;
      readonly lease: LeaseRecord;
      readonly epoch: number;
    }
  | {
      readonly kind: "taken" | "end";
      readonly hostId: string;
      readonly number: number;
      readonly lease: string;
      readonly epoch: number;
      readonly reason: EndReason;
    }
  /** The host has it otherwise than it is wanted: it is told what is (wanted.ts). */
  | { readonly kind: "wanted"; readonly hostId: string; readonly number: number }
  | {
      readonly kind: "drain";
      readonly hostId: string;
      readonly number: number;
      readonly on: boolean;
    }
  /** A host taken for lost must begin anew, with a list of all it has. */
  | { readonly kind: "drop-session"; readonly hostId: string }
  /** A reset was proved: kept with the lease that it followed. */
  | {
      readonly kind: "certified";
      readonly te: string;
      readonly lease: string | null;
      readonly certificate: Certificate;
    }
  /** Someone must know: an invariant was in danger. */
  | { readonly kind: "alarm"; readonly what: string; readonly te: string };

/** Why an event of a holder was not taken. Codes of base/errors.ts. */
export type Refusal = {
  readonly code:
    | "bad-request"
    | "unsatisfiable"
    | "address-not-yours"
    | "too-many"
    | "lease-over"
    | "conflict"
    | "not-allowed"
    | "not-found";
  readonly detail: string;
  readonly faults?: readonly RequestFault[];
  readonly remedy?: string;
};

/** One field of a request: RFC 6901 pointer, and what is wrong. */
export type RequestFault = {
  readonly pointer: string;
  readonly code: string;
  readonly detail: string;
  readonly remedy?: string;
};

/**
 * A TE as its host records it, what happens to it and what that brings about (te-host.md §4): the
 * words of its life, which life.ts decides. Values only; a record is never changed in place.
 */
import type { EndReason } from "../model/lease.ts";
import type { Certificate } from "../model/testenv.ts";

/** What a lease was granted with. */
export type Terms = {
  readonly lease: string;
  readonly epoch: number;
  readonly durationMs: number;
  readonly holderName: string;
  readonly holderAddresses: readonly string[];
  /** SHA-256 of the lease's token, hex. */
  readonly tokenHash: string;
  readonly compat: "2014" | null;
};

/** The host's deadline: by the monotonic clock of one boot, and told as wall time (L8). */
export type Deadline = { readonly bootId: string; readonly monoMs: number; readonly at: string };

/** Why a reset runs: a lease's end, or something of the host's own. */
export type ResetReason = EndReason | "provisioned" | "repaired" | "ordered";

export type Phase =
  | { readonly state: "provisioning" }
  | { readonly state: "ready"; readonly certificate: Certificate }
  | { readonly state: "preparing"; readonly terms: Terms }
  | { readonly state: "leased"; readonly terms: Terms; readonly deadline: Deadline }
  | {
      readonly state: "resetting";
      readonly terms: Terms | null;
      readonly reason: ResetReason;
      /** First, second, third try. */
      readonly attempt: number;
      /** When the fence stood, for `resetting`; null until then. */
      readonly endedAt: string | null;
    }
  | {
      readonly state: "faulty";
      readonly terms: Terms | null;
      readonly reason: ResetReason;
      readonly attempt: number;
      readonly endedAt: string | null;
      readonly detail: string;
    }
  | { readonly state: "quarantined"; readonly detail: string }
  | { readonly state: "removing" }
  | { readonly state: "removed" };

export type Testenv = {
  readonly number: number;
  readonly kind: string;
  /** The highest epoch ever seen (L2); never falls, not even when the TE is removed. */
  readonly epoch: number;
  readonly draining: boolean;
  /** No longer in the carve plan: goes once it is free. */
  readonly unwanted: boolean;
  /** Digest of the uploaded base of the seed's disk; null: an empty disk. */
  readonly seedImage: string | null;
  readonly phase: Phase;
};

export type TestenvEvent =
  | { readonly kind: "parts-ready" }
  | { readonly kind: "parts-broken"; readonly detail: string }
  | { readonly kind: "prepare"; readonly terms: Terms }
  | { readonly kind: "opened"; readonly epoch: number; readonly deadline: Deadline }
  | { readonly kind: "open-failed"; readonly epoch: number; readonly detail: string }
  | {
      readonly kind: "end";
      readonly lease: string;
      readonly epoch: number;
      readonly reason: EndReason;
    }
  | { readonly kind: "deadline"; readonly epoch: number }
  | {
      readonly kind: "extend";
      readonly lease: string;
      readonly epoch: number;
      readonly durationMs: number;
    }
  | { readonly kind: "seed-image"; readonly epoch: number; readonly digest: string }
  | { readonly kind: "fenced"; readonly endedAt: string }
  | { readonly kind: "proved"; readonly certificate: Certificate }
  /** `ofHost`: its disk was full, say; that counts no try of the rack's. */
  | { readonly kind: "reset-failed"; readonly detail: string; readonly ofHost: boolean }
  | { readonly kind: "retry" }
  | { readonly kind: "order-reset" }
  /** The broker remembers an epoch of this TE that our record does not: ours is an old one. */
  | { readonly kind: "outrun"; readonly epoch: number }
  | { readonly kind: "rebooted" }
  | { readonly kind: "drain"; readonly on: boolean }
  /** The carve plan no longer holds it, or holds it with another kind. */
  | { readonly kind: "unwant" }
  /** The carve plan holds it; `kind` is taken where nothing of it is there. */
  | { readonly kind: "want"; readonly testenvKind: string }
  | { readonly kind: "removed" };

export type Effect =
  /** Parts are to be made: the reconciler's next pass does it. */
  | { readonly kind: "provision" }
  /** Make credentials, open the port, build TE data; answers `opened` or `open-failed`. */
  | { readonly kind: "open"; readonly terms: Terms }
  /** It is in the holder's hands from now on: consoles are followed, the data may be told. */
  | { readonly kind: "hand-over"; readonly terms: Terms; readonly deadline: Deadline }
  | { readonly kind: "watch-deadline"; readonly terms: Terms; readonly deadline: Deadline }
  /** The key line is made anew for the later deadline. */
  | { readonly kind: "extend"; readonly terms: Terms; readonly deadline: Deadline }
  /** Credentials die, connections are cut, ≤ 1 s; answers `fenced`. */
  | { readonly kind: "fence" }
  /** Steps 2–7 of te-host.md §8; answers `proved` or `reset-failed`. */
  | { readonly kind: "reset" }
  | { readonly kind: "retry-after"; readonly ms: number }
  /** Takes all parts away; answers `removed`. */
  | { readonly kind: "remove" }
  /** The whole TE as it now is, to the broker. */
  | { readonly kind: "report" };

export type Step = { readonly testenv: Testenv; readonly effects: readonly Effect[] };

/** A TE that was never there. */
export function newTestenv(number: number, kind: string): Testenv {
  return {
    number,
    kind,
    epoch: 0,
    draining: false,
    unwanted: false,
    seedImage: null,
    phase: { state: "provisioning" },
  };
}

/** The lease whose credentials may exist; null in every other state. */
export function openTerms(testenv: Testenv): Terms | null {
  const { phase } = testenv;
  return phase.state === "preparing" || phase.state === "leased" ? phase.terms : null;
}

/** Phases that a holder, or the next one, gets something from: told when they are recorded. */
export function gives(phase: Phase): boolean {
  return phase.state === "preparing" || phase.state === "leased" || phase.state === "ready";
}

/**
 * All the ledger knows: leases that are not over, TEs, hosts, and the policy. Durable parts are
 * the `record`s, written with every step; the rest (signs of life, vitals) begins anew after a
 * start (L14). Values only: nothing here is ever changed in place.
 */
import type { EndReason, Interruption, LeaseRequest } from "../../model/lease.ts";
import type { Hello } from "../../model/session.ts";
import type { Certificate, TestenvReport } from "../../model/testenv.ts";
import type { LabelExpression } from "./label-expression.ts";
import type { LeaseState } from "./lease-life.ts";
import type { TestenvLife } from "./testenv-life.ts";

/** All spans in milliseconds. */
export type Policy = {
  readonly holderTtlMs: number;
  readonly streamLossMs: number;
  readonly takenMs: number;
  readonly prepareMs: number;
  readonly avoidMs: number;
  readonly maxDurationMs: number;
  readonly deadlineSlackMs: number;
  readonly hostSuspectMs: number;
  readonly hostGraceMs: number;
  /** What a reset and a preparation take together, about. */
  readonly turnMs: number;
  readonly waiters: number;
  readonly leasesPerHolder: number;
};

export type LeaseRecord = {
  readonly id: string;
  /** Place in the queue: first come, first served. Kept when a lease goes back to waiting. */
  readonly order: number;
  readonly tenant: string;
  /** Name of the token that asked. */
  readonly caller: string;
  readonly group: string;
  readonly request: LeaseRequest;
  /** Asked for, capped by policy. */
  readonly durationMs: number;
  readonly createdAtMs: number;
  readonly takeable: boolean;
  /** From where the holder will reach its seed. */
  readonly addresses: readonly string[];
  readonly requeued: boolean;
  /** TEs that failed this request; avoided as if asked for. */
  readonly shunned: readonly string[];
  readonly avoidSinceMs: number;
  readonly state: LeaseState;
  readonly interruptions: readonly Interruption[];
  /** The reset after it was proved (kept for whoever reads the history). */
  readonly certified: boolean;
};

/** Signs of life of a holder. */
export type Alive = {
  readonly seenMs: number;
  readonly streams: number;
  /** When its last stream was lost; null after any later sign. */
  readonly streamLostMs: number | null;
  /** Since when this state is waited in: prepared, taken. */
  readonly sinceMs: number;
  /** The host was asked to extend it, and has not answered; until then there is no other. */
  readonly extendingUntilMs: number;
};

export type Lease = LeaseRecord & {
  readonly wants: LabelExpression | null;
  readonly alive: Alive;
};

/** What of a report tells of the TE's life, and not of what it is made of. */
export const ofLife = [
  "state",
  "epoch",
  "draining",
  "lease",
  "leaseEpoch",
  "deadlineAt",
  "ended",
  "certificate",
  "detail",
] as const satisfies readonly (keyof TestenvReport)[];

export type TestenvRecord = {
  /** `here:1` */
  readonly id: string;
  readonly hostId: string;
  readonly host: string;
  readonly number: number;
  readonly report: Omit<TestenvReport, (typeof ofLife)[number]>;
  /** Highest epoch ever granted or reported (L2). */
  readonly epoch: number;
  /** Highest epoch that the host itself confirmed. */
  readonly hostEpoch: number;
  readonly draining: boolean;
  readonly life: TestenvLife;
  /** The latest that held. */
  readonly certificate: Certificate | null;
};

export type HostFacts = Omit<Hello, "kind" | "testenvs" | "nodes" | "images" | "processes">;

export type HostRecord = {
  readonly id: string;
  readonly facts: HostFacts;
  readonly state: "connected" | "suspect" | "lost";
  readonly lastSeenMs: number;
};

export type Vitals = {
  readonly load: number | null;
  readonly freeMemoryMiB: number | null;
  readonly health: "ok" | "degraded" | "failing";
  readonly problems: readonly string[];
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
};

export type Host = HostRecord & {
  /** Messages may go out: its hello was answered. */
  readonly open: boolean;
  readonly vitals: Vitals;
};

/** Made of the leases (ledger-index.ts). */
export type LedgerIndex = {
  /** TE → the lease that is preparing, active or ending on it (L1: at most one). */
  readonly onTe: ReadonlyMap<string, string>;
  /** Caller → its leases that are not over. */
  readonly callers: ReadonlyMap<string, number>;
  /** Those who wait, in the order of the queue. */
  readonly queue: readonly Lease[];
};

export type Ledger = {
  readonly policy: Policy;
  /** In the order of the queue. Ended ones are gone from here; the store has them. */
  readonly leases: ReadonlyMap<string, Lease>;
  readonly testenvs: ReadonlyMap<string, TestenvRecord>;
  readonly hosts: ReadonlyMap<string, Host>;
  readonly index: LedgerIndex;
  /**
   * Nothing is due before this moment by time alone; Infinity if nothing can be. A bound: it may
   * lie before the next thing that is really due, never after it, and after a step it lies ahead.
   */
  readonly dueMs: number;
  readonly nextOrder: number;
  /** Which part of what they asked for holders use, on the average; for predictions. */
  readonly usedShare: number;
};

export const unknownVitals: Vitals = {
  load: null,
  freeMemoryMiB: null,
  health: "ok",
  problems: [],
  processes: [],
};

export function testenvId(host: string, number: number): string {
  return `${host}:${number}`;
}

/** The lease that is preparing, active or ending on this TE (L1: at most one). */
export function leaseOn(ledger: Pick<Ledger, "leases" | "index">, te: string): Lease | undefined {
  const id = ledger.index.onTe.get(te);
  return id === undefined ? undefined : ledger.leases.get(id);
}

export function grantOf(state: LeaseState): (LeaseState & { kind: "preparing" })["grant"] | null {
  return state.kind === "preparing" || state.kind === "active" || state.kind === "ending"
    ? state.grant
    : null;
}

/** Why its rack must end where the lease itself does not say. */
export const orphanReason: EndReason = "revoked";

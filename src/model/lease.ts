/**
 * The lease as it is asked for and as it reads (lease.md §§2, 4): schemas and words shared by
 * broker, API, holder and CLI. The life itself is in lease/ledger.
 */
import { z } from "zod";

export const leaseStates = ["waiting", "preparing", "active", "ending", "ended"] as const;
export type LeaseStateName = (typeof leaseStates)[number];

export const endReasons = [
  "released",
  "expired",
  "holder-lost",
  "revoked",
  "te-lost",
  "held",
  "cancelled",
  "wait-timeout",
  "unsatisfiable",
] as const;
export type EndReason = (typeof endReasons)[number];

export const priorities = ["high", "normal", "low", "health"] as const;

export const leaseRequestSchema = z.strictObject({
  machines: z
    .strictObject({
      count: z.int().min(1).max(15).default(1),
      memoryMiB: z.int().min(1).optional(),
      cpus: z.int().min(1).optional(),
      diskGiB: z.int().min(1).optional(),
    })
    .prefault({}),
  /** A label expression: `! && || ( )` over names (surface.md §6). */
  labels: z.string().max(1_000).optional(),
  environments: z.literal(1).default(1),
  durationSeconds: z.int().min(1),
  waitSeconds: z.int().min(0).optional(),
  group: z.string().max(200).optional(),
  priority: z.enum(["high", "normal", "low"]).default("normal"),
  takeable: z.boolean().default(true),
  requeue: z.boolean().default(false),
  avoid: z
    .strictObject({
      hosts: z.array(z.string()).max(100).default([]),
      testenvs: z.array(z.string()).max(1_000).default([]),
    })
    .prefault({}),
  compat: z.enum(["2014"]).optional(),
  holder: z.strictObject({
    name: z.string().min(1).max(200),
    url: z.string().max(2_000).optional(),
    addresses: z.array(z.ipv4()).max(20).default([]),
  }),
});
/** As asked, defaults filled in. */
export type LeaseRequest = z.output<typeof leaseRequestSchema>;
export type LeaseRequestInput = z.input<typeof leaseRequestSchema>;

export const leasePatchSchema = z.strictObject({
  takeable: z.boolean(),
  holder: z.strictObject({ addresses: z.array(z.ipv4()).max(20) }).optional(),
});
export type LeasePatch = z.output<typeof leasePatchSchema>;

export const extendSchema = z.strictObject({ durationSeconds: z.int().min(1) });

export const whySchema = z.strictObject({
  code: z.string(),
  /** In words that a person can act on. */
  text: z.string(),
  te: z.string().optional(),
  holder: z.string().optional(),
  untilAt: z.string().optional(),
});
export type Why = z.output<typeof whySchema>;

/** Something host or network did to a rack while a job had it (product.md). */
export const interruptionSchema = z.strictObject({
  at: z.string(),
  code: z.string(),
  text: z.string(),
  te: z.string().optional(),
  machine: z.string().optional(),
});
export type Interruption = z.output<typeof interruptionSchema>;

export const leaseViewSchema = z.strictObject({
  id: z.uuid(),
  tenant: z.string(),
  state: z.enum(leaseStates),
  reason: z.enum(endReasons).optional(),
  holder: z.strictObject({ name: z.string(), url: z.string().optional() }),
  group: z.string(),
  priority: z.enum(priorities),
  createdAt: z.string(),
  preparedAt: z.string().optional(),
  expiresAt: z.string().optional(),
  endedAt: z.string().optional(),
  place: z.int().optional(),
  predictedStart: z
    .strictObject({ earliestAt: z.string(), likelyAt: z.string(), latestAt: z.string() })
    .optional(),
  why: z.array(whySchema).optional(),
  testenvs: z.array(
    z.strictObject({
      id: z.string(),
      epoch: z.string(),
      kind: z.string(),
      host: z.string(),
      certificate: z.string().optional(),
    }),
  ),
  interruptions: z.array(interruptionSchema),
});
export type LeaseView = z.output<typeof leaseViewSchema>;

/** What `POST /v1/leases` answers: the lease and, this once, its token. */
export const leaseGrantedSchema = leaseViewSchema.extend({ token: z.string() });
export type LeaseCreated = z.output<typeof leaseGrantedSchema>;

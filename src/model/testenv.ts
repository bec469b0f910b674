/**
 * The test environment as hosts report it and as it reads (lease.md §2, te-host.md §§8, 12).
 * An epoch is a whole number, sent and shown as a string of digits.
 */
import { z } from "zod";
import { endReasons } from "./lease.ts";

export const testenvStates = [
  "offline",
  "provisioning",
  "ready",
  "preparing",
  "leased",
  "held",
  "resetting",
  "faulty",
  "quarantined",
] as const;
export const hostStates = ["connected", "suspect", "lost"] as const;
export type TestenvState = (typeof testenvStates)[number];

export const epochSchema = z.string().regex(/^[0-9]{1,15}$/, "must be a whole number");

/** `host:number`, e.g. `here:1`. */
export const testenvIdSchema = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}:[0-9]{1,3}$/);

export const machineReportSchema = z.strictObject({
  /** `te1-n0`, `te1-seed`. */
  name: z.string(),
  /** libvirt's name: `baremetalbrbm1_0`. */
  domain: z.string(),
  uuid: z.uuid(),
  macs: z.array(z.string()),
  power: z.enum(["on", "off", "unknown"]),
});

/** Reset certificate (H-8.2); checked by its signature, shown as it is. */
export const certificateSchema = z.looseObject({
  schema: z.literal("reset/1"),
  host: z.string(),
  te: z.int(),
  epoch: z.int(),
  lease: z.string().nullable(),
  reason: z.string(),
  began: z.string(),
  ended: z.string(),
  durationMs: z.number(),
  signature: z.string(),
});
export type Certificate = z.output<typeof certificateSchema>;

/**
 * A TE as its host has it: in `hello`, and whenever something about it changed. A level, not a
 * step: the latest one is the whole truth, and whatever was said before it may be lost.
 */
export const testenvReportSchema = z.object({
  number: z.int().min(1).max(160),
  kind: z.string(),
  labels: z.array(z.string()),
  /**
   * `removed`: the host has it no more; its epoch is remembered. One that only a newer host knows
   * is `offline` to us: there, and not to be granted.
   */
  state: z.enum([...testenvStates, "removed"]).catch("offline"),
  /** The highest epoch that the host ever saw for this TE (L2). */
  epoch: epochSchema,
  draining: z.boolean().default(false),
  /** The lease it is in the hands of, or whose reset runs, and the epoch that it was granted. */
  lease: z.uuid().nullable(),
  leaseEpoch: epochSchema.nullable().default(null),
  /** Of a leased one: the host's deadline, told as wall time (L8). */
  deadlineAt: z.string().nullable().default(null),
  /** Since the lease's end: why, and when the fence stood (null: not yet). */
  ended: z
    .object({ reason: z.enum(endReasons).catch("revoked"), fencedAt: z.string().nullable() })
    .nullable()
    .default(null),
  machines: z.strictObject({
    count: z.int(),
    memoryMiB: z.int(),
    cpus: z.int(),
    diskGiB: z.int(),
  }),
  machineList: z.array(machineReportSchema),
  seedIp: z.string(),
  certificate: certificateSchema.nullable(),
  detail: z.string().nullable(),
});
export type TestenvReport = z.output<typeof testenvReportSchema>;

export const testenvViewSchema = z.strictObject({
  id: z.string(),
  host: z.string(),
  number: z.int(),
  kind: z.string(),
  labels: z.array(z.string()),
  state: z.enum(testenvStates),
  draining: z.boolean(),
  epoch: z.string(),
  lease: z.string().nullable(),
  seedIp: z.string().nullable(),
  machines: z.strictObject({
    count: z.int(),
    memoryMiB: z.int(),
    cpus: z.int(),
    diskGiB: z.int(),
  }),
  machineList: z.array(machineReportSchema),
  detail: z.string().nullable(),
});
export type TestenvView = z.output<typeof testenvViewSchema>;

export const hostViewSchema = z.strictObject({
  id: z.uuid(),
  name: z.string(),
  state: z.enum(hostStates),
  version: z.string(),
  labels: z.array(z.string()),
  accelerator: z.enum(["kvm", "tcg"]),
  lastSeenAt: z.string(),
  load: z.number().nullable(),
  freeMemoryMiB: z.number().nullable(),
  health: z.string(),
  problems: z.array(z.string()),
  testNetwork: z
    .strictObject({ cidr: z.string(), hostIp: z.string(), machineIp: z.string() })
    .nullable(),
  ssh: z.strictObject({ host: z.string(), port: z.int(), hostKey: z.string() }).nullable(),
  ca: z.string().nullable(),
  /** Ed25519 public key, SPKI PEM: whoever has it checks this host's certificates (H-8.2). */
  certificateKey: z.string(),
  cell: z.strictObject({ netns: z.string() }).nullable(),
  libvirt: z.string().nullable(),
  processes: z.array(z.strictObject({ name: z.string(), pid: z.int() })),
});
export type HostView = z.output<typeof hostViewSchema>;

export const testenvDataSchema = z.looseObject({
  "env-num": z.string(),
  "host-ip": z.string(),
  "seed-ip": z.string(),
  "ssh-user": z.string(),
  "ssh-key": z.string(),
  nodes: z.array(z.looseObject({ mac: z.array(z.string()), memory: z.string() })),
});
/** TE data (te-host.md §12): made by the host, secret, kept in memory only by the broker. */
export type TestenvData = z.output<typeof testenvDataSchema>;

/**
 * What broker and host say to each other (lease.md §6): one schema, both ends. Frames,
 * acknowledgement and resume are `session/`'s. A durable message is acknowledged only when the
 * receiver has recorded it, and is sent again until then; a fleeting one (heartbeat, console
 * data) may be lost.
 */
import { z } from "zod";
import { endReasons, interruptionSchema } from "./lease.ts";
import {
  certificateSchema,
  epochSchema,
  testenvDataSchema,
  testenvReportSchema,
  testenvStates,
} from "./testenv.ts";

const lease = z.uuid();
const testenv = z.int().min(1).max(160);
const processes = z.array(z.strictObject({ name: z.string(), pid: z.int() }));

export const nodeReportSchema = z.strictObject({
  id: z.uuid(),
  label: z.string(),
  state: z.enum(["building", "ready", "failed", "deleting"]),
  address: z.string().nullable(),
  hostKey: z.string().nullable(),
});

export const imageReportSchema = z.strictObject({
  name: z.string(),
  recipe: z.string(),
  digest: z.string(),
  sizeBytes: z.int(),
  builtAt: z.string(),
});

/** First message of a session: who the host is and all it has. */
export const helloSchema = z.strictObject({
  kind: z.literal("hello"),
  hostId: z.uuid(),
  name: z.string(),
  version: z.string(),
  /** Grows with every session of this host; an older one is refused. */
  sessionNumber: z.int().min(1),
  bootId: z.string(),
  labels: z.array(z.string()),
  accelerator: z.enum(["kvm", "tcg"]),
  capacity: z.strictObject({ memoryMiB: z.int(), cpus: z.int(), diskGiB: z.int() }),
  /** Ed25519 public key, SPKI PEM: signs reset certificates (H-8.2). */
  certificateKey: z.string(),
  ca: z.string().nullable(),
  testNetwork: z.strictObject({ cidr: z.string(), hostIp: z.string(), machineIp: z.string() }),
  ssh: z.strictObject({ host: z.string(), port: z.int(), hostKey: z.string() }),
  cell: z.strictObject({ netns: z.string() }).nullable(),
  libvirt: z.string().nullable(),
  draining: z.boolean(),
  testenvs: z.array(testenvReportSchema),
  nodes: z.array(nodeReportSchema),
  images: z.array(imageReportSchema),
  processes,
});
export type Hello = z.output<typeof helloSchema>;

const recipeFile = z.strictObject({
  path: z.string(),
  mode: z.int(),
  sha256: z.string(),
  contentBase64: z.string(),
});

/** What a lease needs, sent with `prepare`. */
export const needsSchema = z.strictObject({
  machines: z.int(),
  compat: z.enum(["2014"]).nullable(),
});

/** Broker → host. */
export const toHostSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("welcome"),
    brokerTime: z.string(),
    /** What the broker believes; the higher epoch wins. */
    testenvs: z.array(
      z.strictObject({
        number: testenv,
        state: z.enum(testenvStates),
        epoch: epochSchema,
        lease: lease.nullable(),
      }),
    ),
    nodes: z.array(z.uuid()),
  }),
  z.strictObject({
    kind: z.literal("prepare"),
    testenv,
    lease,
    epoch: epochSchema,
    durationMs: z.int().min(1),
    needs: needsSchema,
    holderName: z.string(),
    holderAddresses: z.array(z.string()),
    /** SHA-256 of the lease's token, hex. */
    tokenHash: z.string(),
  }),
  z.strictObject({ kind: z.literal("taken"), testenv, lease, epoch: epochSchema }),
  z.strictObject({
    kind: z.literal("end"),
    testenv,
    lease,
    epoch: epochSchema,
    reason: z.enum(endReasons),
  }),
  z.strictObject({
    kind: z.literal("extend"),
    testenv,
    lease,
    epoch: epochSchema,
    durationMs: z.int(),
  }),
  z.strictObject({ kind: z.literal("drain"), testenv: testenv.nullable(), on: z.boolean() }),
  z.strictObject({ kind: z.literal("reset"), testenv }),
  z.strictObject({
    kind: z.literal("testenv-data"),
    request: z.string(),
    testenv,
    lease,
    epoch: epochSchema,
  }),
  z.strictObject({
    kind: z.literal("node-create"),
    id: z.uuid(),
    label: z.string(),
    image: z.string(),
    memoryMiB: z.int(),
    cpus: z.int(),
    diskGiB: z.int(),
    authorizedKey: z.string(),
  }),
  z.strictObject({ kind: z.literal("node-delete"), id: z.uuid() }),
  z.strictObject({
    kind: z.literal("image-build"),
    name: z.string(),
    /** SHA-256 over the recipe's files: the cache's key. */
    recipe: z.string(),
    diskGiB: z.int(),
    files: z.array(recipeFile),
  }),
  z.strictObject({
    kind: z.literal("console-open"),
    stream: z.string(),
    testenv,
    machine: z.string(),
    fromByte: z.int().min(0),
    /** A file under the lease's record, where the lease is over. */
    lease: lease.nullable(),
    epoch: epochSchema.nullable(),
    credit: z.int(),
  }),
  z.strictObject({ kind: z.literal("console-credit"), stream: z.string(), credit: z.int() }),
  z.strictObject({ kind: z.literal("console-close"), stream: z.string() }),
]);
export type ToHost = z.output<typeof toHostSchema>;

/** One line of the flight recorder that the server wants to know at once (H-11.1). */
export const hostEventSchema = z.strictObject({
  kind: z.literal("event"),
  at: z.string(),
  testenv: testenv.nullable(),
  lease: lease.nullable(),
  epoch: epochSchema.nullable(),
  machine: z.string().nullable(),
  /** power-on, power-off, console-phase, seed-up, machine-up, interruption, verb, … */
  what: z.string(),
  detail: z.string(),
  interruption: interruptionSchema.nullable(),
});
export type HostEvent = z.output<typeof hostEventSchema>;

/** Host → broker. */
export const toBrokerSchema = z.discriminatedUnion("kind", [
  helloSchema,
  z.strictObject({
    kind: z.literal("prepared"),
    testenv,
    lease,
    epoch: epochSchema,
    /** The host's deadline, told as wall time (L8). */
    deadlineAt: z.string(),
    data: testenvDataSchema,
  }),
  z.strictObject({
    kind: z.literal("epoch-too-low"),
    testenv,
    lease,
    offered: epochSchema,
    highest: epochSchema,
  }),
  /** The fence stands: credentials are dead; the reset begins. Also when the host ended it. */
  z.strictObject({
    kind: z.literal("resetting"),
    testenv,
    lease: lease.nullable(),
    epoch: epochSchema,
    reason: z.enum(endReasons),
    endedAt: z.string(),
  }),
  z.strictObject({
    kind: z.literal("ready"),
    testenv,
    epoch: epochSchema,
    certificate: certificateSchema,
  }),
  z.strictObject({
    kind: z.literal("faulty"),
    testenv,
    lease: lease.nullable(),
    epoch: epochSchema,
    detail: z.string(),
  }),
  z.strictObject({ kind: z.literal("testenv"), report: testenvReportSchema }),
  z.strictObject({ kind: z.literal("testenv-removed"), testenv }),
  z.strictObject({
    kind: z.literal("extended"),
    testenv,
    lease,
    epoch: epochSchema,
    deadlineAt: z.string(),
  }),
  z.strictObject({
    kind: z.literal("answer"),
    request: z.string(),
    data: testenvDataSchema.nullable(),
    code: z.string().nullable(),
    detail: z.string().nullable(),
  }),
  z.strictObject({
    kind: z.literal("node-ready"),
    id: z.uuid(),
    address: z.string(),
    hostKey: z.string(),
  }),
  z.strictObject({ kind: z.literal("node-failed"), id: z.uuid(), reason: z.string() }),
  z.strictObject({ kind: z.literal("node-gone"), id: z.uuid() }),
  z.strictObject({ kind: z.literal("image-ready"), report: imageReportSchema }),
  z.strictObject({
    kind: z.literal("image-failed"),
    name: z.string(),
    recipe: z.string(),
    detail: z.string(),
  }),
  z.strictObject({ kind: z.literal("image-progress"), name: z.string(), step: z.string() }),
  z.strictObject({
    kind: z.literal("console-data"),
    stream: z.string(),
    offset: z.int(),
    dataBase64: z.string(),
  }),
  z.strictObject({ kind: z.literal("console-end"), stream: z.string(), detail: z.string() }),
  hostEventSchema,
  z.strictObject({
    kind: z.literal("heartbeat"),
    load: z.number(),
    freeMemoryMiB: z.int(),
    health: z.enum(["ok", "degraded", "failing"]),
    problems: z.array(z.string()),
    processes,
  }),
]);
export type ToBroker = z.output<typeof toBrokerSchema>;

/** Messages that may be lost: never numbered, never sent again. */
export const fleetingKinds: ReadonlySet<string> = new Set([
  "heartbeat",
  "console-data",
  "console-credit",
  "image-progress",
  "hello",
  "welcome",
]);

/** One WebSocket text frame. */
export const frameSchema = z.union([
  z.strictObject({ seq: z.int().min(1), message: z.unknown() }),
  z.strictObject({ message: z.unknown() }),
  z.strictObject({ ack: z.int().min(1) }),
]);

/**
 * What broker and host say to each other (lease.md §6): one schema, both ends. Frames,
 * acknowledgement and resume are `session/`'s. A durable message is acknowledged only when the
 * receiver has recorded it, and is sent again until then; a fleeting one (heartbeat, console
 * data) may be lost. What a newer version adds to a message is left out; a message that cannot be
 * understood is refused by itself, and the session goes on.
 */
import { z } from "zod";
import { endReasons, interruptionSchema } from "./lease.ts";
import { epochSchema, testenvDataSchema, testenvReportSchema } from "./testenv.ts";

const lease = z.uuid();
const testenv = z.int().min(1).max(160);
const processes = z.array(z.object({ name: z.string(), pid: z.int() }));

export const nodeReportSchema = z.object({
  id: z.uuid(),
  label: z.string(),
  state: z.enum(["building", "ready", "failed", "deleting"]),
  address: z.string().nullable(),
  hostKey: z.string().nullable(),
});

export const imageReportSchema = z.object({
  name: z.string(),
  recipe: z.string(),
  digest: z.string(),
  sizeBytes: z.int(),
  builtAt: z.string(),
});

/** First message of a session: who the host is and all it has. */
export const helloSchema = z.object({
  kind: z.literal("hello"),
  hostId: z.uuid(),
  name: z.string(),
  version: z.string(),
  /** Grows with every session of this host; an older one is refused. */
  sessionNumber: z.int().min(1),
  bootId: z.string(),
  labels: z.array(z.string()),
  accelerator: z.enum(["kvm", "tcg"]),
  capacity: z.object({ memoryMiB: z.int(), cpus: z.int(), diskGiB: z.int() }),
  /** Ed25519 public key, SPKI PEM: signs reset certificates (H-8.2). */
  certificateKey: z.string(),
  ca: z.string().nullable(),
  testNetwork: z.object({ cidr: z.string(), hostIp: z.string(), machineIp: z.string() }),
  ssh: z.object({ host: z.string(), port: z.int(), hostKey: z.string() }),
  cell: z.object({ netns: z.string() }).nullable(),
  libvirt: z.string().nullable(),
  draining: z.boolean(),
  testenvs: z.array(testenvReportSchema),
  nodes: z.array(nodeReportSchema),
  images: z.array(imageReportSchema),
  processes,
});
export type Hello = z.output<typeof helloSchema>;

const recipeFile = z.object({
  path: z.string(),
  mode: z.int(),
  sha256: z.string(),
  contentBase64: z.string(),
});

/** What a lease needs, sent with `prepare`. */
export const needsSchema = z.object({
  machines: z.int(),
  compat: z.enum(["2014"]).nullable(),
});

/**
 * What the broker wants of a TE: a level. The host compares it with what it has and does what is
 * missing; said twice it does nothing, and one that was lost is made up for by the next.
 */
export const wantedSchema = z.object({
  testenv,
  /** The host has seen this one, as the broker remembers: a lower record of it is an old disk's. */
  epoch: epochSchema,
  draining: z.boolean(),
  /** In whose hands it is to be; null: in nobody's. */
  lease: z
    .object({
      id: lease,
      epoch: epochSchema,
      durationMs: z.int().min(1),
      needs: needsSchema,
      holderName: z.string(),
      holderAddresses: z.array(z.string()),
      /** SHA-256 of the lease's token, hex. */
      tokenHash: z.string(),
    })
    .nullable(),
  /** The lease that was last in its hands, and why it is over. */
  ended: z.object({ lease, epoch: epochSchema, reason: z.enum(endReasons) }).nullable(),
});
export type Wanted = z.output<typeof wantedSchema>;

/** Broker → host. */
export const toHostSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("welcome"),
    brokerTime: z.string(),
    /** What is wanted of each TE that the broker knows of this host. */
    testenvs: z.array(wantedSchema),
    nodes: z.array(z.uuid()),
  }),
  /** What is wanted of one TE, sent whenever it changed; the latest one counts. */
  z.object({ kind: z.literal("wanted"), wanted: wantedSchema }),
  z.object({ kind: z.literal("taken"), testenv, lease, epoch: epochSchema }),
  z.object({
    kind: z.literal("extend"),
    testenv,
    lease,
    epoch: epochSchema,
    durationMs: z.int(),
  }),
  z.object({ kind: z.literal("reset"), testenv }),
  z.object({
    kind: z.literal("testenv-data"),
    request: z.string(),
    testenv,
    lease,
    epoch: epochSchema,
  }),
  z.object({
    kind: z.literal("node-create"),
    id: z.uuid(),
    label: z.string(),
    image: z.string(),
    memoryMiB: z.int(),
    cpus: z.int(),
    diskGiB: z.int(),
    authorizedKey: z.string(),
  }),
  z.object({ kind: z.literal("node-delete"), id: z.uuid() }),
  z.object({
    kind: z.literal("image-build"),
    name: z.string(),
    /** SHA-256 over the recipe's files: the cache's key. */
    recipe: z.string(),
    diskGiB: z.int(),
    files: z.array(recipeFile),
  }),
  z.object({
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
  z.object({ kind: z.literal("console-credit"), stream: z.string(), credit: z.int() }),
  z.object({ kind: z.literal("console-close"), stream: z.string() }),
]);
export type ToHost = z.output<typeof toHostSchema>;

/** One line of the flight recorder that the server wants to know at once (H-11.1). */
export const hostEventSchema = z.object({
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
  /** A TE as it now is; `data` with one that is leased, if they are at hand. */
  z.object({
    kind: z.literal("testenv"),
    report: testenvReportSchema,
    data: testenvDataSchema.nullable().default(null),
  }),
  z.object({
    kind: z.literal("answer"),
    request: z.string(),
    data: testenvDataSchema.nullable(),
    code: z.string().nullable(),
    detail: z.string().nullable(),
  }),
  z.object({
    kind: z.literal("node-ready"),
    id: z.uuid(),
    address: z.string(),
    hostKey: z.string(),
  }),
  z.object({ kind: z.literal("node-failed"), id: z.uuid(), reason: z.string() }),
  z.object({ kind: z.literal("node-gone"), id: z.uuid() }),
  z.object({ kind: z.literal("image-ready"), report: imageReportSchema }),
  z.object({
    kind: z.literal("image-failed"),
    name: z.string(),
    recipe: z.string(),
    detail: z.string(),
  }),
  z.object({ kind: z.literal("image-progress"), name: z.string(), step: z.string() }),
  z.object({
    kind: z.literal("console-data"),
    stream: z.string(),
    offset: z.int(),
    dataBase64: z.string(),
  }),
  z.object({ kind: z.literal("console-end"), stream: z.string(), detail: z.string() }),
  hostEventSchema,
  z.object({
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
  z.strictObject({ ack: z.int().min(1), refused: z.string() }),
]);

/**
 * `rackyard.yaml`, the operator's configuration (surface.md §7): one schema, defaults included,
 * so that no file at all is a complete configuration. Keys that no issue has built yet are
 * absent here, and so are faults. Secrets stand only behind `…File` keys.
 */
import { z } from "zod";
import { kindSchema } from "./machine.ts";

const address = z
  .string()
  .regex(/^(\[[0-9a-f:]+\]|[0-9a-z.-]+):[0-9]{1,5}$/i, "must be address:port");
const name = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "must be a name of a-z 0-9 . _ -");

const server = z.strictObject({
  /** Port 0: any free one, told in ready.json. */
  listen: z.array(address).min(1).default(["127.0.0.1:7225"]),
  /** How people reach it; default: the first listener. Addresses are made by adding to it. */
  url: z
    .url({ protocol: /^https?$/, error: "must be an address that begins with http:// or https://" })
    .refine((text) => !/[?#]/.test(text), "must have no ? and no #: addresses are made of it")
    .transform((text) => text.replace(/\/+$/, ""))
    .optional(),
  layout: z.string().default("./layout"),
  anonymousRead: z.enum(["loopback", "off"]).default("loopback"),
  /** Named by the switch's flows too, so that it is never `any free one`. */
  nodesDoorPort: z.int().min(1).max(65_535).default(7226),
  /** Spelled out to listen without TLS beyond loopback (surface.md §4). */
  insecure: z.boolean().default(false),
});

const label = z.strictObject({
  image: name,
  memoryMiB: z.int().min(256).default(512),
  cpus: z.int().min(1).default(1),
  diskGiB: z.int().min(2).default(8),
  minReady: z.int().min(0).max(100).default(1),
});

const image = z.strictObject({
  driver: z.literal("mmdebstrap"),
  recipe: z.string(),
});

const provider = z.strictObject({
  driver: z.literal("te-host"),
  labels: z.array(name).min(1),
  maxNodes: z.int().min(0).max(100).default(2),
});

const teHost = z.strictObject({
  name: name.default("here"),
  profile: z.enum(["cell"]).default("cell"),
  broker: z.string().default("unix:run/api.sock"),
  labels: z.array(z.string()).default([]),
  accelerator: z.enum(["auto", "kvm", "tcg"]).default("auto"),
  kinds: z
    .record(name, kindSchema)
    .prefault({ two: {} })
    .refine((kinds) => Object.keys(kinds).length > 0, "must name at least one kind"),
  carve: z
    .strictObject({
      max: z.int().min(1).max(160).default(32),
      cpuOvercommit: z.number().min(0.1).max(64).default(4),
      diskFill: z.number().min(0.01).max(1).default(0.3),
      memoryPerTeMiB: z.int().min(1).optional(),
      cpusPerTe: z.number().min(0.1).optional(),
      diskPerTeGiB: z.int().min(1).optional(),
    })
    .prefault({}),
  nodes: z
    .strictObject({
      reserve: z
        .strictObject({
          memoryMiB: z.int().min(0),
          cpus: z.number().min(0),
          diskGiB: z.int().min(0),
        })
        .optional(),
    })
    .prefault({}),
  testNetwork: z
    .strictObject({
      driver: z.literal("local").default("local"),
      cidr: z
        .string()
        .regex(/^(auto|[0-9.]+\/24)$/, "must be auto or a /24 network")
        .default("auto"),
      uplink: z.enum(["none"]).default("none"),
      mtu: z.int().min(576).max(9_000).default(1_500),
    })
    .prefault({}),
  ssh: z.strictObject({ port: z.int().min(1).max(65_535).default(22) }).prefault({}),
  images: z
    .strictObject({
      maxVirtualGiB: z.int().min(1).default(512),
      /** A second, read-only store that installations may share (H-7.1). */
      cache: z.string().optional(),
    })
    .prefault({}),
});

export const configSchema = z.strictObject({
  server: server.prefault({}),
  store: z
    .strictObject({
      driver: z.literal("sqlite").default("sqlite"),
      keepDays: z.int().min(1).default(365),
      keepStepsDays: z.int().min(1).default(30),
    })
    .prefault({}),
  archive: z
    .strictObject({
      driver: z.literal("files").default("files"),
      keepDays: z.int().min(1).default(30),
      maxGiB: z.int().min(1).default(20),
    })
    .prefault({}),
  connections: z
    .record(name, z.strictObject({ driver: z.literal("git") }))
    // a second one would share addresses, numbers and repositories with the first
    .refine((all) => Object.keys(all).length === 1, {
      message: "exactly one connection has driver git: the server has one built-in review system",
    })
    .prefault({ local: { driver: "git" } }),
  leases: z
    .strictObject({
      defaultDurationSeconds: z.int().min(1).default(3_600),
      maxDurationSeconds: z.int().min(1).default(14_400),
      holderTtlSeconds: z.int().min(1).default(30),
      graceSeconds: z.int().min(1).default(60),
      keepFilesDays: z.int().min(1).default(7),
    })
    .prefault({}),
  nodes: z
    .strictObject({
      images: z
        .record(name, image)
        .prefault({ "debian-12": { driver: "mmdebstrap", recipe: "program:images/debian-12" } }),
      labels: z.record(name, label).prefault({ worker: { image: "debian-12" } }),
      providers: z
        .record(name, provider)
        .prefault({ here: { driver: "te-host", labels: ["worker"] } }),
    })
    .prefault({}),
  teHost: teHost.prefault({}),
});
export type Config = z.output<typeof configSchema>;

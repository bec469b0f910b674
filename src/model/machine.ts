/**
 * What racks and nodes are made of, in plain values: kinds, machines, their names. Pure.
 * Names are fixed, because 2014's clients build them themselves (te-host.md §0).
 */
import { z } from "zod";

export const seedSizeSchema = z.strictObject({
  memoryMiB: z.int().min(64).max(1_048_576).default(256),
  cpus: z.int().min(1).max(64).default(1),
  diskGiB: z.int().min(1).max(16_384).default(4),
});

export const machineSizeSchema = z.strictObject({
  /** H-1.7: 1–15 machines beside the seed. */
  count: z.int().min(1).max(15).default(2),
  /** How many may be on at once; default all. */
  running: z.int().min(1).max(15).optional(),
  memoryMiB: z.int().min(64).max(1_048_576).default(256),
  cpus: z.int().min(1).max(64).default(1),
  diskGiB: z.int().min(1).max(16_384).default(4),
});

/** What a TE is made of (H-1.7). `count: auto` takes what the host has room for (H-1.6). */
export const kindSchema = z.strictObject({
  count: z.union([z.literal("auto"), z.int().min(0).max(160)]).default("auto"),
  labels: z.array(z.string()).default([]),
  seed: seedSizeSchema.prefault({}),
  machines: machineSizeSchema.prefault({}),
});
export type Kind = z.output<typeof kindSchema>;

/** Index of a machine in its TE; the seed stands apart. */
export type MachineIndex = "seed" | number;

export function domainName(testenv: number, machine: MachineIndex): string {
  return machine === "seed" ? `seed_${testenv}` : `baremetalbrbm${testenv}_${machine}`;
}

/** For BMCs, Ironic (which refuses `_`), consoles and people: `te3-seed`, `te3-n0`. */
export function machineName(testenv: number, machine: MachineIndex): string {
  return machine === "seed" ? `te${testenv}-seed` : `te${testenv}-n${machine}`;
}

export function privateBridge(testenv: number): string {
  return `brbm${testenv}`;
}

/** ≤ 15 characters, the kernel's limit. A seed's NIC 0 is on the test network, 1 private. */
export function tapName(testenv: number, machine: MachineIndex, nic: number): string {
  return machine === "seed" ? `te${testenv}s${nic}` : `te${testenv}n${machine}p${nic}`;
}

export function nodeDomainName(nodeId: string): string {
  return `node_${nodeId.slice(0, 8)}`;
}

export function nodeTapName(nodeId: string): string {
  return `nd${nodeId.slice(0, 8)}`;
}

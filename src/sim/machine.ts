/**
 * A simulated machine with racks: what outlives its agent. Its disk, its clock, and the racks as
 * things: what opens a gate, whose traces are on the disks.
 */
import type { KeyObject } from "node:crypto";
import type { Registry } from "../testenv/registry.ts";
import type { Life } from "./clock.ts";
import type { Disk } from "./disk.ts";

export type Machine = {
  readonly name: string;
  readonly id: string;
  readonly keys: { readonly privateKey: KeyObject; readonly publicPem: string };
  readonly disk: Disk;
  readonly racks: ReadonlyMap<number, Rack>;
  bootId: string;
  bootedMs: number;
  wallOffMs: number;
  agent: Agent | undefined;
};

export type Agent = {
  readonly life: Life;
  readonly registry: Registry;
  /** All its actors have taken up their work. */
  ready: boolean;
  readyMs: number;
};

type Key = { readonly lease: string; readonly epoch: number };

/** One rack as it is. */
export type Rack = {
  readonly number: number;
  /** What opens its gate just now. */
  readonly keys: Map<string, Key>;
  /** Whose traces are on its disks; null: the base image alone. */
  dirtyOf: string | null;
  data: { readonly lease: { readonly id: string; readonly epoch: string } } | undefined;
  /** When a work on its gate last failed, or took long. */
  gateFailedMs: number;
};

export function newRack(number: number): Rack {
  return {
    number,
    keys: new Map(),
    dirtyOf: "whoever had the disk",
    data: undefined,
    gateFailedMs: -1e9,
  };
}

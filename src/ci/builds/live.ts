/**
 * A build while this process has it in hand: its record and what lives in memory alone (the
 * lease's token, the TE data, what to abort). And what the driver is given to work with.
 */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Scope } from "../../base/scope.ts";
import type { Evidence } from "../../model/build.ts";
import type { LeaseView } from "../../model/lease.ts";
import type { Store } from "../../store/store.ts";
import type { Archive, Executor, HeldLease, NodePool } from "./build-ports.ts";
import type { EndRecords } from "./completion.ts";
import type { AskedRack, RackPort } from "./rack-port.ts";
import type { Build } from "./record.ts";

export type Live = {
  readonly id: string;
  build: Build;
  asked: AskedRack | null;
  /** What the broker last said of it. */
  view: LeaseView | null;
  held: HeldLease | null;
  /** Why the broker took no request of it yet, in words. */
  refused: string | null;
  /** Cuts what runs on the node. */
  readonly abort: AbortController;
  /** Cuts clean-up and collection of a build that is wanted no more. */
  readonly hurry: AbortController;
  /** The step on the node may have begun in an earlier life of the server. */
  resumed: boolean;
  watching: AbortController | null;
  /** Events are handled in order behind this. */
  tail: Promise<void>;
};

export type DriverOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly scope: Scope;
  readonly nodePool: NodePool;
  readonly executor: Executor;
  readonly archive: Archive;
  readonly racks: RackPort;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  readonly ends: EndRecords;
  /** How long the fence of a given-back rack is waited for; by default as long as a host may be. */
  readonly fenceMs?: number;
  /** After each recorded step. */
  readonly onStep: (build: Build, event: string) => void;
  /** Archived: only its buildset has to be told. */
  readonly onEnded: (build: Build, evidence: readonly Evidence[]) => void;
};

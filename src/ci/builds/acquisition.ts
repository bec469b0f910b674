/**
 * Node and rack acquired together (ci.md N-1, lease.md §4; docs/specs/acquisition.md): passes over
 * all waiters choose who is to have which node, each waiter's life says what follows, and here it
 * is done: offers one after another in the queue's order, takings side by side. Neither wait
 * counts against the job.
 */
import type { Clock } from "../../base/clock.ts";
import { openBell } from "../../base/bell.ts";
import { describeError, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { untilDone } from "../../base/retry.ts";
import type { Scope } from "../../base/scope.ts";
import type { Troubles } from "../../base/troubles.ts";
import { pause } from "../../base/wait.ts";
import type { LeaseView } from "../../model/lease.ts";
import type { TestenvData } from "../../model/testenv.ts";
import { isPinned, newWaiter, rackWaitMs, stepAcquisition } from "./acquisition-life.ts";
import type { AcquisitionEffect, AcquisitionEvent, Waiter } from "./acquisition-life.ts";
import type { HeldLease, NodePool, ReadyNode } from "./build-ports.ts";
import { byPlace, pair } from "./pairing.ts";
import type { AskedRack, RackPort } from "./rack-port.ts";
import type { QueuePlace, Stop } from "./record.ts";

export type Acquired = { readonly node: ReadyNode; readonly held: HeldLease | null };

export type Waiting = {
  readonly build: string;
  readonly label: string;
  readonly place: QueuePlace;
  /** Null: the job wants no rack. */
  readonly rack: AskedRack | null;
  /** As it read last. */
  readonly lease: LeaseView | null;
  /** Limit of the wait for a rack while it could be taken. */
  readonly leaseWaitMs: number;
  /** Each is told once; afterwards the build waits no more. */
  readonly onAcquired: (acquired: Acquired) => void;
  readonly onPlaceLost: (why: string) => void;
  readonly onStop: (stop: Stop) => void;
};

type Entry = {
  readonly of: Waiting;
  waiter: Waiter;
  lease: LeaseView | null;
  /** An offer or withdrawal of it is under way or stands in line. */
  calling: boolean;
  /** The pool had failed already when it came: it gets a new try of the pool first. */
  readonly cameToFailure: boolean;
};

export type Acquisition = ReturnType<typeof openAcquisition>;

export function openAcquisition(options: {
  readonly nodePool: NodePool;
  readonly racks: RackPort;
  readonly clock: Clock;
  readonly log: Log;
  readonly scope: Scope;
  readonly troubles: Pick<Troubles, "begin" | "end">;
}) {
  const { nodePool, racks, clock, log, scope } = options;
  const entries = new Map<string, Entry>();
  /** Label → when a node of it was last given or returned, and how many builds have one. */
  const use = new Map<string, { atMs: number; count: number }>();
  const bell = openBell(clock);
  /** Offers and withdrawals, one after another: whoever is first in the queue is offered first. */
  let calls: Promise<void> = Promise.resolve();

  nodePool.onChange(bell.ring);
  scope.spawn("acquisition", async (signal) => {
    while (!signal.aborted) {
      pass();
      await bell.wait(signal, limits.heartbeatMs);
    }
  });

  /** Decides for all waiters at once; what follows ends in events of their own. */
  function pass(): void {
    tellDemand();
    for (const entry of entries.values()) hearLease(entry);
    const all = [...entries.values()];
    const open = all.filter(({ waiter }) => waiter.state !== "withdrawing" && !isPinned(waiter));
    const pairs = pair(
      open.map(({ waiter }) => ({ ...waiter, node: waiter.node?.id ?? null, pinned: false })),
      (label) => free(label),
    );
    for (const entry of all) {
      const { waiter } = entry;
      if (isPinned(waiter)) {
        if (!isThere(waiter)) post(entry, { kind: "node-gone" });
      } else if (entry.calling) {
        continue; // its answer is the next event
      } else if (waiter.state !== "queued" && pairs.get(waiter.build)?.id !== waiter.node?.id) {
        post(entry, { kind: "unpaired" });
      }
    }
    for (const entry of all.toSorted((x, y) => byPlace(x.waiter, y.waiter))) {
      const node = pairs.get(entry.waiter.build);
      if (entry.waiter.state === "queued" && node && !isReserved(node)) {
        post(entry, { kind: "paired", node });
      }
      checkWaits(entry);
    }
  }

  /** Ready nodes but those of whoever moves no more, or is not surely without it yet. */
  function free(label: string): ReadyNode[] {
    const fixed = [...entries.values()]
      .filter(({ waiter }) => isPinned(waiter) || waiter.state === "withdrawing")
      .map(({ waiter }) => waiter.node?.id);
    return nodePool.ready(label).filter((node) => !fixed.includes(node.id));
  }

  const isThere = ({ label, node }: Waiter): boolean =>
    nodePool.ready(label).some((one) => one.id === node?.id);

  const isReserved = ({ id }: ReadyNode): boolean =>
    [...entries.values()].some(({ waiter }) => waiter.node?.id === id);

  /** N-1, N-3: the pool launches for those who wait. */
  function tellDemand(): void {
    const demand = new Map<string, number>();
    for (const { of } of entries.values()) demand.set(of.label, (demand.get(of.label) ?? 0) + 1);
    nodePool.demand(demand);
  }

  function post(entry: Entry, event: AcquisitionEvent): void {
    const { build } = entry.of;
    if (entries.get(build) !== entry) return;
    const { waiter, effects } = stepAcquisition(entry.waiter, event, clock.monoMs());
    entry.waiter = waiter;
    if (waiter.state === "over") entries.delete(build);
    for (const effect of effects) perform(entry, effect);
    if (effects.length > 0 || waiter.state === "over") bell.ring();
  }

  function perform(entry: Entry, effect: AcquisitionEffect): void {
    switch (effect.kind) {
      case "offer":
        return offer(entry, effect.node);
      case "withdraw":
        return offer(entry, null);
      case "take":
        return scope.spawn(`acquire ${entry.of.build}`, () => take(entry, effect.node));
      case "lose":
        return lose(entry, effect.why);
      case "stop":
        return entry.of.onStop(effect.stop);
    }
  }

  /** With an address, or with none any more; what the broker answers is the event. */
  function offer(entry: Entry, node: ReadyNode | null): void {
    const { rack, build } = entry.of;
    if (!rack) return;
    const wanted = node ? "offering" : "withdrawing";
    entry.calling = true;
    calls = calls.then(async () => {
      entry.calling = false;
      // What became of it meanwhile decides whether it is still asked for.
      if (scope.closed || entry.waiter.state !== wanted) return;
      entry.calling = true;
      const asked = racks.offer(rack, node !== null, node ? [node.address] : []);
      try {
        const view = await asked.finally(() => (entry.calling = false));
        if (isGranted(view)) entry.lease = view;
        else post(entry, { kind: "confirmed" });
      } catch (error) {
        log.warn({ build, detail: describeError(error) }, "lease not offered");
        // A refused withdrawal is looked at by the next pass, and by what the lease says.
        post(entry, { kind: "failed" });
        if (scope.closed) return;
        clock.after(limits.pollMs, bell.ring);
        return;
      }
      bell.ring();
    });
  }

  function hearLease(entry: Entry): void {
    const { state } = entry.lease ?? {};
    if (state === "preparing") post(entry, { kind: "granted" });
    else if (state === "active" && entry.of.rack) {
      const { waiter } = entry;
      if (waiter.node && waiter.state !== "taking" && !isThere(waiter)) {
        post(entry, { kind: "granted" });
        post(entry, { kind: "node-gone" });
      } else post(entry, { kind: "active" });
    }
  }

  function checkWaits(entry: Entry): void {
    const { of, waiter } = entry;
    if (entries.get(of.build) !== entry || isPinned(waiter)) return;
    const nowMs = clock.monoMs();
    if (of.rack && rackWaitMs(waiter, nowMs) > of.leaseWaitMs) {
      const seconds = Math.round(of.leaseWaitMs / 1_000);
      const why = entry.lease?.why?.map((reason) => reason.text).join("; ");
      const said = `no rack within ${seconds} s${why ? `: ${why}` : ""}`;
      return post(entry, { kind: "waited", stop: { kind: "rack-unavailable", why: said } });
    }
    if (waiter.state !== "queued") return;
    const failure = nodePool.failure(of.label);
    const retried = !entry.cameToFailure || nowMs - waiter.sinceMs > limits.backoffLastMs;
    if (failure !== undefined && retried) {
      return post(entry, { kind: "waited", stop: { kind: "node-failure", why: failure } });
    }
    const last = use.get(of.label);
    const fromMs = Math.max(waiter.sinceMs, last?.atMs ?? 0);
    if ((last?.count ?? 0) === 0 && nowMs - fromMs > limits.nodeWaitMs) {
      const why = `no node within ${limits.nodeWaitMs / 1_000} s: ${nodePool.why(of.label)}`;
      post(entry, { kind: "waited", stop: { kind: "node-failure", why } });
    }
  }

  /** The grant: the node is assigned and the rack taken in one step (I2, L8). */
  async function take(entry: Entry, node: ReadyNode): Promise<void> {
    const { of } = entry;
    let assigned: ReadyNode | undefined;
    let acquired: Acquired | undefined;
    try {
      assigned = await nodePool.assign(node.id, of.build);
      const held = of.rack && heldLease(entry.lease!, await racks.data(of.rack));
      acquired = { node: assigned, held };
    } catch (error) {
      if (!isRackyardError(error, "conflict")) {
        // A pool or broker that is away: not again at once.
        await pause(limits.backoffFirstMs, scope.signal).catch(() => undefined);
      }
      post(entry, { kind: "take-failed", why: describeError(error) });
    }
    const wanted = acquired !== undefined && entries.get(of.build) === entry;
    if (acquired && wanted) {
      counted(of.label, 1);
      post(entry, { kind: "taken" });
      return of.onAcquired(acquired);
    }
    if (assigned) await giveBack(assigned);
  }

  async function giveBack({ id }: ReadyNode): Promise<void> {
    await untilDone("giving nodes back", () => nodePool.release(id), {
      signal: scope.signal,
      troubles: options.troubles,
      firstMs: limits.pollMs,
      lastMs: limits.heartbeatMs,
    });
  }

  /** What was granted cannot be used: it goes back, and the build asks anew. */
  function lose({ of }: Entry, why: string): void {
    const { rack } = of;
    if (rack) {
      scope.spawn(`give back ${rack.id}`, async () => {
        await racks.release(rack).catch((error: unknown) => {
          // Not followed any more it ends by its own silence (L11).
          log.warn({ lease: rack.id, detail: describeError(error) }, "lease not released");
        });
      });
    }
    of.onPlaceLost(why);
  }

  function counted(label: string, change: 1 | -1): void {
    const count = Math.max(0, (use.get(label)?.count ?? 0) + change);
    use.set(label, { atMs: clock.monoMs(), count });
  }

  return {
    enter(of: Waiting): void {
      const { build, label, place, rack, lease } = of;
      entries.set(build, {
        of,
        waiter: newWaiter({ build, label, place, wantsRack: rack !== null }, clock.monoMs()),
        cameToFailure: nodePool.failure(label) !== undefined,
        lease,
        calling: false,
      });
      bell.ring();
    },
    /** The build waits no more; its rack is given back by whoever says so. */
    leave(build: string): void {
      const entry = entries.get(build);
      if (entry) post(entry, { kind: "left" });
    },
    /** What the broker says of a waiter's lease. */
    leaseChanged(build: string, view: LeaseView): void {
      const entry = entries.get(build);
      if (!entry) return;
      entry.lease = view;
      bell.ring();
    },
    /** A build that went on after a restart has a node; or one gave its node back. */
    nodeInUse: (label: string): void => counted(label, 1),
    nodeReturned(label: string): void {
      counted(label, -1);
      bell.ring();
    },
    /** Why a build waits, in words; null if it does not. */
    why(build: string): string | null {
      const entry = entries.get(build);
      if (!entry) return null;
      if (entry.waiter.state === "queued") return nodePool.why(entry.of.label);
      const reasons = entry.lease?.why?.map((reason) => reason.text) ?? [];
      return reasons.join("; ") || "waits for a rack";
    },
  };
}

/** The broker has chosen a rack: the offer moves no more. */
function isGranted(view: LeaseView): boolean {
  return view.state === "preparing" || view.state === "active";
}

function heldLease(view: LeaseView, data: TestenvData): HeldLease {
  const testenv = view.testenvs[0];
  if (!testenv) throw new Error(`lease ${view.id} has no rack`);
  return { id: view.id, te: testenv.id, epoch: testenv.epoch, host: testenv.host, data };
}

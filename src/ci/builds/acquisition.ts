/**
 * Node and rack acquired together (ci.md N-1, lease.md §4): who waits for nodes, which waiter is
 * takeable and with which node's address, and the step in which the grant assigns the node.
 * Nobody holds one while waiting for the other, and neither wait counts against the job. Passes
 * run one after another; what they send is what the broker has confirmed.
 */
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Scope } from "../../base/scope.ts";
import { pause } from "../../base/wait.ts";
import type { LeaseView } from "../../model/lease.ts";
import type { TestenvData } from "../../model/testenv.ts";
import type { HeldLease, NodePool, ReadyNode } from "./build-ports.ts";
import { pair } from "./pairing.ts";
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

type Waiter = {
  readonly of: Waiting;
  readonly sinceMs: number;
  /** The pool had failed already when it came: it gets a new try of the pool first. */
  readonly cameToFailure: boolean;
  lease: LeaseView | null;
  /** What the broker has confirmed: takeable with this node's address. */
  offered: ReadyNode | null;
  offeredSinceMs: number;
  rackWaitMs: number;
  busy: boolean;
};

export type Acquisition = ReturnType<typeof openAcquisition>;

export function openAcquisition(options: {
  readonly nodePool: NodePool;
  readonly racks: RackPort;
  readonly clock: Clock;
  readonly log: Log;
  readonly scope: Scope;
}) {
  const { nodePool, racks, clock, log, scope } = options;
  const waiters = new Map<string, Waiter>();
  /** Label → when a node of it was last given or returned, and how many builds have one. */
  const use = new Map<string, { atMs: number; count: number }>();
  let passing: Promise<void> | undefined;
  let again = false;

  nodePool.onChange(wake);
  scope.spawn("acquisition", async (signal) => {
    while (!signal.aborted) {
      await pause(limits.heartbeatMs, signal);
      wake();
    }
  });

  function wake(): void {
    again = true;
    passing ??= passes().finally(() => {
      passing = undefined;
      if (again && !scope.closed) wake();
    });
  }

  async function passes(): Promise<void> {
    while (again && !scope.closed) {
      again = false;
      await pass().catch((error: unknown) => {
        log.error({ err: error }, "pairing of nodes and racks failed");
      });
    }
  }

  async function pass(): Promise<void> {
    tellDemand();
    for (const waiter of waiters.values()) checkGrant(waiter);
    const idle = [...waiters.values()].filter((waiter) => !waiter.busy);
    const pairs = pair(idle.map(asWaiter), free);
    // Withdrawals first: a node is free for another only when it is offered no more.
    for (const waiter of idle) {
      const kept = pairs.get(waiter.of.build)?.id === waiter.offered?.id;
      if (waiter.offered && !kept) await offer(waiter, null);
    }
    for (const waiter of idle) {
      const node = pairs.get(waiter.of.build);
      const taken = [...waiters.values()].some((other) => other.offered?.id === node?.id);
      if (node && !taken && !isGranted(waiter.lease)) {
        if (waiter.of.rack) await offer(waiter, node);
        else take(waiter, node);
      }
      checkGrant(waiter);
      checkWaits(waiter);
    }
  }

  /** Ready nodes that nobody is being given just now. */
  function free(label: string): ReadyNode[] {
    const busy = [...waiters.values()].filter((waiter) => waiter.busy);
    return nodePool.ready(label).filter((node) => !busy.some((one) => one.offered?.id === node.id));
  }

  /** A rack came: with its node still there it is taken, else it goes back at once. */
  function checkGrant(waiter: Waiter): void {
    const { of, offered } = waiter;
    if (waiter.busy || !of.rack || !waiters.has(of.build) || !isGranted(waiter.lease)) return;
    const there = nodePool.ready(of.label).some((node) => node.id === offered?.id);
    if (!offered || !there) lose(waiter, "the node went while the rack was made ready");
    else if (waiter.lease?.state === "active") take(waiter, offered);
  }

  /** N-1, N-3: the pool launches for those who wait. */
  function tellDemand(): void {
    const demand = new Map<string, number>();
    for (const { of } of waiters.values()) demand.set(of.label, (demand.get(of.label) ?? 0) + 1);
    nodePool.demand(demand);
  }

  const asWaiter = (waiter: Waiter) => ({
    build: waiter.of.build,
    label: waiter.of.label,
    place: waiter.of.place,
    node: waiter.offered?.id ?? null,
    pinned: isGranted(waiter.lease),
  });

  /**
   * With an address, or with none any more. Whoever is granted keeps the address it was offered
   * with: then a withdrawal is refused, and an offer was itself what the grant came from.
   */
  async function offer(waiter: Waiter, node: ReadyNode | null): Promise<void> {
    const { rack } = waiter.of;
    if (!rack) return;
    try {
      const view = await racks.offer(rack, node !== null, node ? [node.address] : []);
      setOffered(waiter, node);
      if (isGranted(view)) waiter.lease = view;
    } catch (error) {
      log.warn({ build: waiter.of.build, detail: describeError(error) }, "lease not offered");
    }
  }

  function setOffered(waiter: Waiter, node: ReadyNode | null): void {
    const nowMs = clock.monoMs();
    if (waiter.offered && !node) waiter.rackWaitMs += nowMs - waiter.offeredSinceMs;
    if (!waiter.offered && node) waiter.offeredSinceMs = nowMs;
    waiter.offered = node;
  }

  function checkWaits(waiter: Waiter): void {
    const { of } = waiter;
    if (waiter.busy || !waiters.has(of.build)) return;
    const nowMs = clock.monoMs();
    const running = waiter.offered ? nowMs - waiter.offeredSinceMs : 0;
    if (of.rack && waiter.rackWaitMs + running > of.leaseWaitMs) {
      const seconds = Math.round(of.leaseWaitMs / 1_000);
      const why = waiter.lease?.why?.map((reason) => reason.text).join("; ");
      return end(waiter, () =>
        of.onStop({
          kind: "rack-unavailable",
          why: `no rack within ${seconds} s${why ? `: ${why}` : ""}`,
        }),
      );
    }
    if (waiter.offered) return;
    const failure = nodePool.failure(of.label);
    const retried = !waiter.cameToFailure || nowMs - waiter.sinceMs > limits.backoffLastMs;
    if (failure !== undefined && retried) {
      return end(waiter, () => of.onStop({ kind: "node-failure", why: failure }));
    }
    const last = use.get(of.label);
    const fromMs = Math.max(waiter.sinceMs, last?.atMs ?? 0);
    if ((last?.count ?? 0) === 0 && nowMs - fromMs > limits.nodeWaitMs) {
      const why = `no node within ${limits.nodeWaitMs / 1_000} s: ${nodePool.why(of.label)}`;
      end(waiter, () => of.onStop({ kind: "node-failure", why }));
    }
  }

  /** The grant: the node is assigned and the rack taken in one step (I2, L8). */
  function take(waiter: Waiter, node: ReadyNode): void {
    waiter.busy = true;
    waiter.offered = node;
    scope.spawn(`acquire ${waiter.of.build}`, async () => {
      const { of } = waiter;
      let assigned: ReadyNode | undefined;
      try {
        assigned = await nodePool.assign(node.id, of.build);
        const held = of.rack && heldLease(waiter.lease!, await racks.data(of.rack));
        if (!waiters.has(of.build)) throw new Error("the build waits no more");
        counted(of.label, 1);
        const chosen = assigned;
        end(waiter, () => of.onAcquired({ node: chosen, held }));
      } catch (error) {
        if (assigned) await nodePool.release(assigned.id);
        waiter.busy = false;
        if (of.rack) return lose(waiter, describeError(error));
        waiter.offered = null;
        wake();
      }
    });
  }

  /** What was granted cannot be used: it goes back, and the build asks anew. */
  function lose(waiter: Waiter, why: string): void {
    const { rack } = waiter.of;
    if (rack) {
      scope.spawn(`give back ${rack.id}`, async () => {
        await racks.release(rack).catch((error: unknown) => {
          log.warn({ lease: rack.id, detail: describeError(error) }, "lease not released");
        });
      });
    }
    end(waiter, () => waiter.of.onPlaceLost(why));
  }

  function end(waiter: Waiter, tell: () => void): void {
    if (!waiters.delete(waiter.of.build)) return;
    tell();
    wake();
  }

  function counted(label: string, change: 1 | -1): void {
    const count = Math.max(0, (use.get(label)?.count ?? 0) + change);
    use.set(label, { atMs: clock.monoMs(), count });
  }

  return {
    enter(of: Waiting): void {
      waiters.set(of.build, {
        of,
        sinceMs: clock.monoMs(),
        cameToFailure: nodePool.failure(of.label) !== undefined,
        lease: of.lease,
        offered: null,
        offeredSinceMs: 0,
        rackWaitMs: 0,
        busy: false,
      });
      wake();
    },
    /** The build waits no more; its rack is given back by whoever says so. */
    leave(build: string): void {
      if (waiters.delete(build)) wake();
    },
    /** What the broker says of a waiter's lease. */
    leaseChanged(build: string, view: LeaseView): void {
      const waiter = waiters.get(build);
      if (!waiter) return;
      waiter.lease = view;
      wake();
    },
    /** A build that went on after a restart has a node; or one gave its node back. */
    nodeInUse: (label: string): void => counted(label, 1),
    nodeReturned(label: string): void {
      counted(label, -1);
      wake();
    },
    /** Why a build waits, in words; null if it does not. */
    why(build: string): string | null {
      const waiter = waiters.get(build);
      if (!waiter) return null;
      if (waiter.offered === null) return nodePool.why(waiter.of.label);
      const reasons = waiter.lease?.why?.map((reason) => reason.text) ?? [];
      return reasons.join("; ") || "waits for a rack";
    },
  };
}

/** The broker has chosen a rack: the offer moves no more. */
function isGranted(view: LeaseView | null): boolean {
  return view?.state === "preparing" || view?.state === "active";
}

function heldLease(view: LeaseView, data: TestenvData): HeldLease {
  const testenv = view.testenvs[0];
  if (!testenv) throw new Error(`lease ${view.id} has no rack`);
  return { id: view.id, te: testenv.id, epoch: testenv.epoch, host: testenv.host, data };
}

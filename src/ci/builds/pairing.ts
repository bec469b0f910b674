/**
 * Which waiting build is to have which ready node (ci.md N-1, lease.md §4): the first R waiting
 * builds of a node label, in the queue's order, R = that label's ready, unassigned nodes. A
 * pairing is no assignment: it moves with the queue, but stays where it can, since a rack is
 * prepared for the address it was offered with. Pure.
 */
import type { ReadyNode } from "./build-ports.ts";
import type { QueuePlace } from "./record.ts";

export type Waiter = {
  readonly build: string;
  readonly label: string;
  readonly place: QueuePlace;
  /** The node it was paired with, if any. */
  readonly node: string | null;
  /** A rack is being prepared for the pair: it moves no more. */
  readonly pinned: boolean;
};

/** Build → node for everyone who is paired; nobody else is takeable. */
export function pair(
  waiters: readonly Waiter[],
  ready: (label: string) => readonly ReadyNode[],
): Map<string, ReadyNode> {
  const pairs = new Map<string, ReadyNode>();
  for (const [label, queue] of Map.groupBy(waiters, (waiter) => waiter.label)) {
    const free = new Map(ready(label).map((node) => [node.id, node]));
    const keep = (waiter: Waiter): boolean => {
      const node = waiter.node === null ? undefined : free.get(waiter.node);
      if (!node) return false;
      free.delete(node.id);
      pairs.set(waiter.build, node);
      return true;
    };
    for (const waiter of queue) if (waiter.pinned) keep(waiter);
    const open = queue.filter((waiter) => !pairs.has(waiter.build)).sort(byPlace);
    const first = open.slice(0, free.size);
    const fresh = first.filter((waiter) => !keep(waiter));
    const left = [...free.values()];
    for (const waiter of fresh) pairs.set(waiter.build, left.shift()!);
  }
  return pairs;
}

export function byPlace(left: Pick<Waiter, "place">, right: Pick<Waiter, "place">): number {
  const a = left.place;
  const b = right.place;
  return a.precedence - b.precedence || a.enqueuedMs - b.enqueuedMs || a.index - b.index;
}

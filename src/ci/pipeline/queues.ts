/**
 * The live items of all pipelines, found by id, by change and by pipeline, so that a step looks at
 * the items it is about and no others (ci.md FG-1, FG-3). A step makes a new value that shares
 * everything it did not change; `settle` makes such a value the ground of the next ones.
 */
import type { Item, QueuedChange } from "./item.ts";

export type Queues = {
  readonly size: number;
  get(id: string): Item | undefined;
  has(id: string): boolean;
  /** In order of entry. */
  values(): Item[];
  ofPipeline(name: string): Item[];
  /** Live items that hold the change, in whichever patchset. */
  ofChange(change: Pick<QueuedChange, "connection" | "change">): Item[];
};

type Ground = {
  readonly items: Map<string, Item>;
  readonly byChange: Map<string, Set<string>>;
  readonly byPipeline: Map<string, Set<string>>;
};

type Layer = Queues & {
  readonly ground: Ground;
  /** What is different from the ground; null: it has left. */
  readonly changes: ReadonlyMap<string, Item | null>;
};

export function queuesOf(items: Iterable<Item>): Queues {
  const ground: Ground = { items: new Map(), byChange: new Map(), byPipeline: new Map() };
  for (const item of items) put(ground, item);
  return layer(ground, new Map());
}

/** The queues with this item as it is now; one that is done has left. */
export function withItem(queues: Queues, item: Item): Queues {
  const { ground, changes } = queues as Layer;
  return layer(ground, new Map(changes).set(item.id, item.stage === "done" ? null : item));
}

/** Once per step that is durable; values made from the same ground before are void then. */
export function settle(queues: Queues): Queues {
  const { ground, changes } = queues as Layer;
  for (const [id, item] of changes) {
    if (item) put(ground, item);
    else drop(ground, id);
  }
  return layer(ground, new Map());
}

function layer(ground: Ground, changes: ReadonlyMap<string, Item | null>): Layer {
  const get = (id: string): Item | undefined => {
    const changed = changes.get(id);
    return changed === undefined ? ground.items.get(id) : (changed ?? undefined);
  };
  /** Those of the ground that the index names, as they are now, then those that came. */
  const found = (ids: Iterable<string>, wanted: (item: Item) => boolean): Item[] => {
    const all = new Set(ids);
    for (const [id, item] of changes) if (item && wanted(item)) all.add(id);
    return [...all].map(get).filter((item) => item !== undefined);
  };
  return {
    ground,
    changes,
    get size() {
      let size = ground.items.size;
      for (const [id, item] of changes) {
        if (ground.items.has(id) !== (item !== null)) size += item ? 1 : -1;
      }
      return size;
    },
    get,
    has: (id) => get(id) !== undefined,
    values: () => found(ground.items.keys(), () => true),
    ofPipeline: (name) =>
      found(ground.byPipeline.get(name) ?? [], (item) => item.pipeline === name),
    ofChange: (change) => {
      const key = keyOf(change);
      return found(ground.byChange.get(key) ?? [], (item) =>
        item.changes.some((one) => keyOf(one) === key),
      );
    },
  };
}

function put(ground: Ground, item: Item): void {
  const known = ground.items.has(item.id);
  ground.items.set(item.id, item);
  if (known) return; // changes and pipeline of an item never change
  for (const change of item.changes) enter(ground.byChange, keyOf(change), item.id);
  enter(ground.byPipeline, item.pipeline, item.id);
}

function drop(ground: Ground, id: string): void {
  const item = ground.items.get(id);
  if (!item) return;
  ground.items.delete(id);
  for (const change of item.changes) leave(ground.byChange, keyOf(change), id);
  leave(ground.byPipeline, item.pipeline, id);
}

function enter(index: Map<string, Set<string>>, key: string, id: string): void {
  const ids = index.get(key) ?? new Set();
  index.set(key, ids.add(id));
}

function leave(index: Map<string, Set<string>>, key: string, id: string): void {
  const ids = index.get(key);
  ids?.delete(id);
  if (ids?.size === 0) index.delete(key);
}

function keyOf({ connection, change }: Pick<QueuedChange, "connection" | "change">): string {
  return `${connection} ${change}`;
}

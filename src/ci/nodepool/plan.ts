/**
 * What the pool of CI nodes does next, decided from facts alone (ci.md N-1, N-3 – N-6): pure.
 * The edge (pool.ts) records and sends; a pass over a pool that has what it wants plans nothing.
 */
import type { NodeState } from "../../model/node.ts";

export type NodeFact = {
  readonly id: string;
  readonly label: string;
  readonly provider: string;
  readonly state: NodeState;
  readonly createdMs: number;
};

export type LabelFact = {
  readonly name: string;
  readonly image: string;
  readonly minReady: number;
};

export type ProviderFact = {
  readonly name: string;
  readonly connected: boolean;
  /** Its nodes count as there: it is connected, or away for a moment. */
  readonly there: boolean;
  readonly labels: readonly string[];
  readonly maxNodes: number;
  /** Images it has, name → digest of the recipe they were built from. */
  readonly images: ReadonlyMap<string, string>;
  /** Images it is building now, or failed to build, name → until when to leave them alone. */
  readonly building: ReadonlySet<string>;
  readonly imageRetryAtMs: ReadonlyMap<string, number>;
};

export type PoolFacts = {
  readonly labels: readonly LabelFact[];
  readonly providers: readonly ProviderFact[];
  readonly nodes: readonly NodeFact[];
  /** Image name → digest of its recipe as it stands now. */
  readonly recipes: ReadonlyMap<string, string>;
  /** Builds that wait for a node, by label. */
  readonly demand: ReadonlyMap<string, number>;
  /** Label → no launch before this time, after failures. */
  readonly retryAtMs: ReadonlyMap<string, number>;
  readonly launchLimitMs: number;
  readonly nowMs: number;
};

export type PoolAction =
  | { readonly kind: "build-image"; readonly provider: string; readonly image: string }
  | { readonly kind: "launch"; readonly provider: string; readonly label: string }
  | { readonly kind: "fail"; readonly node: string; readonly why: string }
  | { readonly kind: "delete"; readonly node: string; readonly why: string };

const alive: ReadonlySet<NodeState> = new Set([
  "requested",
  "building",
  "ready",
  "in-use",
  "used",
  "deleting",
]);
const coming: ReadonlySet<NodeState> = new Set(["requested", "building", "ready"]);

export function planPool(facts: PoolFacts): PoolAction[] {
  return [...cleanUp(facts), ...images(facts), ...launches(facts)];
}

/** Launches that took too long fail; what failed or was used is deleted; labels that are gone. */
function cleanUp(facts: PoolFacts): PoolAction[] {
  const known = new Set(facts.labels.map((label) => label.name));
  return facts.nodes.flatMap((node): PoolAction[] => {
    const launching = node.state === "requested" || node.state === "building";
    // A launch under way for a label that is gone gives its place back at once.
    if ((launching || node.state === "ready") && !known.has(node.label)) {
      return [
        { kind: "delete", node: node.id, why: `label ${node.label} is no longer configured` },
      ];
    }
    if (launching && facts.nowMs - node.createdMs > facts.launchLimitMs) {
      return [{ kind: "fail", node: node.id, why: "the launch took too long" }];
    }
    if (node.state === "failed") {
      return [{ kind: "delete", node: node.id, why: "its launch failed" }];
    }
    if (node.state === "used") return [{ kind: "delete", node: node.id, why: "single use (N-5)" }];
    return [];
  });
}

/** Images of labels in use that the provider lacks, or has from an older recipe (N-8). */
function images(facts: PoolFacts): PoolAction[] {
  return facts.providers.flatMap((provider) => {
    if (!provider.connected) return [];
    const wanted = new Set(
      facts.labels.filter((label) => provider.labels.includes(label.name)).map((l) => l.image),
    );
    return [...wanted].flatMap((image): PoolAction[] => {
      const recipe = facts.recipes.get(image);
      if (recipe === undefined || provider.building.has(image)) return [];
      if ((provider.imageRetryAtMs.get(image) ?? 0) > facts.nowMs) return [];
      if (provider.images.get(image) === recipe) return [];
      return [{ kind: "build-image", provider: provider.name, image }];
    });
  });
}

/**
 * Enough nodes for who waits, and `minReady` beyond nobody; never over a provider's limit. Where
 * a label's builds wait and the limit is reached, an idle node of another label gives its place.
 */
function launches(facts: PoolFacts): PoolAction[] {
  const actions: PoolAction[] = [];
  const used = new Map<string, number>();
  for (const node of facts.nodes) {
    if (alive.has(node.state)) used.set(node.provider, (used.get(node.provider) ?? 0) + 1);
  }
  const there = new Set(facts.providers.filter((one) => one.there).map((one) => one.name));
  const counted = facts.nodes.filter((one) => coming.has(one.state) && there.has(one.provider));
  const idle = idleNodes(facts, counted);
  const have = (label: string): number => counted.filter((one) => one.label === label).length;
  const byNeed = facts.labels.toSorted((x, y) => need(facts, y, have) - need(facts, x, have));
  for (const label of byNeed) {
    if ((facts.retryAtMs.get(label.name) ?? 0) > facts.nowMs) continue;
    const waiting = (facts.demand.get(label.name) ?? 0) - have(label.name);
    const want = Math.max(label.minReady, facts.demand.get(label.name) ?? 0);
    for (let made = 0; made < want - have(label.name); made++) {
      const able = facts.providers.filter(
        (one) => one.connected && one.labels.includes(label.name) && one.images.has(label.image),
      );
      const provider = able
        .filter((one) => (used.get(one.name) ?? 0) < one.maxNodes)
        .sort((x, y) => share(used, x) - share(used, y))[0];
      if (provider) {
        used.set(provider.name, (used.get(provider.name) ?? 0) + 1);
        actions.push({ kind: "launch", provider: provider.name, label: label.name });
        continue;
      }
      // One that is being deleted gives its place soon: no second one for it.
      const coming = deletingOn(facts, able) - made;
      const place = made < waiting && coming <= 0 ? takeIdle(idle, label.name, able) : undefined;
      if (!place) break;
      const why = `idle, and builds wait for label ${label.name}`;
      actions.push({ kind: "delete", node: place.id, why });
    }
  }
  return actions;
}

/** How many builds wait for a node of it that is not even coming: those labels first. */
function need(facts: PoolFacts, label: LabelFact, have: (label: string) => number): number {
  return Math.max(0, (facts.demand.get(label.name) ?? 0) - have(label.name));
}

/** Ready nodes beyond what their own label's builds wait for, the newest first. */
function idleNodes(facts: PoolFacts, counted: readonly NodeFact[]): NodeFact[] {
  return facts.labels.flatMap((label) => {
    const own = counted.filter((node) => node.label === label.name);
    const ready = own
      .filter((node) => node.state === "ready")
      .toSorted((x, y) => y.createdMs - x.createdMs);
    const spare = own.length - (facts.demand.get(label.name) ?? 0);
    return ready.slice(0, Math.max(0, spare));
  });
}

function takeIdle(
  idle: NodeFact[],
  label: string,
  able: readonly ProviderFact[],
): NodeFact | undefined {
  const at = idle.findIndex(
    (node) => node.label !== label && able.some((one) => one.name === node.provider),
  );
  return at < 0 ? undefined : idle.splice(at, 1)[0];
}

function deletingOn(facts: PoolFacts, able: readonly ProviderFact[]): number {
  const going: readonly NodeState[] = ["used", "deleting"];
  return facts.nodes.filter(
    (node) => going.includes(node.state) && able.some((one) => one.name === node.provider),
  ).length;
}

/** The provider with the lowest use of its limit first (N-1). */
function share(used: ReadonlyMap<string, number>, provider: ProviderFact): number {
  return (used.get(provider.name) ?? 0) / Math.max(1, provider.maxNodes);
}

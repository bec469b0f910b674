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
    if (launching && facts.nowMs - node.createdMs > facts.launchLimitMs) {
      return [{ kind: "fail", node: node.id, why: "the launch took too long" }];
    }
    if (node.state === "failed") {
      return [{ kind: "delete", node: node.id, why: "its launch failed" }];
    }
    if (node.state === "used") return [{ kind: "delete", node: node.id, why: "single use (N-5)" }];
    if (node.state === "ready" && !known.has(node.label)) {
      return [
        { kind: "delete", node: node.id, why: `label ${node.label} is no longer configured` },
      ];
    }
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

/** Enough nodes for who waits, and `minReady` beyond nobody; never over a provider's limit. */
function launches(facts: PoolFacts): PoolAction[] {
  const actions: PoolAction[] = [];
  const used = new Map<string, number>();
  for (const node of facts.nodes) {
    if (alive.has(node.state)) used.set(node.provider, (used.get(node.provider) ?? 0) + 1);
  }
  for (const label of facts.labels) {
    if ((facts.retryAtMs.get(label.name) ?? 0) > facts.nowMs) continue;
    const have = facts.nodes.filter((n) => n.label === label.name && coming.has(n.state)).length;
    const want = Math.max(label.minReady, facts.demand.get(label.name) ?? 0);
    for (let missing = want - have; missing > 0; missing--) {
      const provider = facts.providers
        .filter(
          (p) =>
            p.connected &&
            p.labels.includes(label.name) &&
            p.images.has(label.image) &&
            (used.get(p.name) ?? 0) < p.maxNodes,
        )
        .sort((x, y) => share(used, x) - share(used, y))[0];
      if (!provider) break;
      used.set(provider.name, (used.get(provider.name) ?? 0) + 1);
      actions.push({ kind: "launch", provider: provider.name, label: label.name });
    }
  }
  return actions;
}

/** The provider with the lowest use of its limit first (N-1). */
function share(used: ReadonlyMap<string, number>, provider: ProviderFact): number {
  return (used.get(provider.name) ?? 0) / Math.max(1, provider.maxNodes);
}

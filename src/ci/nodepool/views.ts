/**
 * How the pool reads: nodes, images, providers, and in words why no node of a label is ready.
 */
import { limits } from "../../base/limits.ts";
import type { ProviderFact } from "./plan.ts";
import type { TeHostProvider } from "./te-host-provider.ts";
import type { Config } from "../../model/config.ts";
import type { ImageView, NodeState, NodeView } from "../../model/node.ts";
import type { Recipe } from "./recipe.ts";
import type { NodeBody } from "./record.ts";

type NodesConfig = Config["nodes"];
export type Node = { id: string; state: NodeState; createdMs: number; body: NodeBody };
export type HostState = {
  hostId: string;
  provider: TeHostProvider;
  images: Map<string, { recipe: string; digest: string; sizeBytes: number; builtAt: string }>;
  /** Image → the step that its build is at. */
  building: Map<string, string>;
  imageFailures: Map<string, { count: number; retryAtMs: number; detail: string }>;
};

export function readyNodeOf(node: Node) {
  const { label, provider, address, hostKey, image } = node.body;
  return { id: node.id, label, provider, address: address ?? "", hostKey: hostKey ?? "", image };
}

export function viewOf(node: Node): NodeView {
  const { lost: _, ...body } = node.body;
  return { id: node.id, state: node.state, ...body };
}

export function imageViews(
  hosts: ReadonlyMap<string, HostState>,
  recipes: ReadonlyMap<string, Recipe>,
): ImageView[] {
  return [...hosts].flatMap(([host, state]) =>
    [...recipes].map(([name, recipe]): ImageView => {
      const has = state.images.get(name);
      const failed = state.imageFailures.get(name);
      const building = state.building.get(name);
      const current = has?.recipe === recipe.digest;
      return {
        name,
        host,
        state: current ? "ready" : failed && building === undefined ? "failed" : "building",
        recipe: recipe.digest,
        digest: has?.digest ?? null,
        sizeBytes: has?.sizeBytes ?? null,
        builtAt: has?.builtAt ?? null,
        detail: current ? null : (building ?? failed?.detail ?? null),
      };
    }),
  );
}

/** What planning knows of each provider. */
export function providerFacts(
  config: NodesConfig,
  hosts: ReadonlyMap<string, HostState>,
): ProviderFact[] {
  return Object.entries(config.providers).map(([name, provider]) => {
    const host = hosts.get(name);
    return {
      name,
      connected: host?.provider.list() !== undefined,
      there: host !== undefined && host.provider.awayMs() < limits.nodeHostAwayMs,
      labels: provider.labels,
      maxNodes: provider.maxNodes,
      images: new Map([...(host?.images ?? [])].map(([image, has]) => [image, has.recipe])),
      building: new Set(host?.building.keys()),
      imageRetryAtMs: new Map(
        [...(host?.imageFailures ?? [])].map(([image, failed]) => [image, failed.retryAtMs]),
      ),
    };
  });
}

export function whyNone(
  label: string,
  config: NodesConfig,
  hosts: ReadonlyMap<string, HostState>,
  nodes: readonly Node[],
): string {
  const wanted = config.labels[label];
  if (!wanted) return `no label ${label} is configured`;
  const serving = Object.entries(config.providers).filter(([, p]) => p.labels.includes(label));
  if (serving.length === 0) return `no provider serves label ${label}`;
  const connected = serving.filter(([name]) => hosts.get(name)?.provider.list());
  if (connected.length === 0) return `no host that serves label ${label} is connected`;
  const step = connected
    .map(([name]) => hosts.get(name)?.building.get(wanted.image))
    .find((building) => building !== undefined);
  if (step !== undefined) return `image ${wanted.image} is being built (${step})`;
  const failed = connected
    .map(([name]) => hosts.get(name)?.imageFailures.get(wanted.image))
    .find((failure) => failure !== undefined);
  if (failed) {
    const last = failed.detail.trimEnd().split("\n").at(-1);
    return `image ${wanted.image} could not be built and is tried again: ${last}`;
  }
  const booting = nodes.filter((n) => n.body.label === label && n.state === "building").length;
  if (booting === 1) return `a node of label ${label} boots`;
  if (booting > 1) return `${booting} nodes of label ${label} boot`;
  const most = serving.reduce((sum, [, provider]) => sum + provider.maxNodes, 0);
  const busy = nodes.filter((n) => n.state === "in-use").length;
  return `no node of label ${label} is free: ${busy} in use, ${most} at most`;
}

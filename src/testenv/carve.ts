/**
 * Which TEs this host shall have (H-1.6, H-1.7): how many fit is capacity-plan.ts', which number
 * is which kind is decided here. Pure. Numbers are stable (H-1.9): what is there keeps its number
 * as long as its kind is wanted; growth takes the lowest free ones, shrinking gives up the
 * highest.
 */
import { nodeReserve, planCarve } from "../hypervisor/capacity-plan.ts";
import type { HostCapacity } from "../hypervisor/capacity-plan.ts";
import type { Config } from "../model/config.ts";

export type Wanted = { readonly number: number; readonly kind: string };

export type Carving =
  | {
      readonly kind: "carved";
      readonly wanted: readonly Wanted[];
      readonly sums: readonly string[];
    }
  | { readonly kind: "refused"; readonly why: string; readonly sums: readonly string[] };

/** `present`: the TEs that are there now. */
export function carve(
  config: Pick<Config, "teHost" | "nodes">,
  host: HostCapacity,
  present: readonly Wanted[],
): Carving {
  const { kinds, carve: settings, nodes } = config.teHost;
  const reserve = nodeReserve(...nodesOf(config.nodes), nodes.reserve);
  const plan = planCarve(kinds, host, reserve, settings);
  if (plan.kind === "refused") return plan;
  const counts = new Map(plan.counts.map(({ name, count }) => [name, count]));
  return { kind: "carved", wanted: number(counts, present), sums: plan.sums };
}

/** The labels that hosts serve, and how many nodes at most. */
function nodesOf(nodes: Config["nodes"]): [Config["nodes"]["labels"][string][], number] {
  const providers = Object.values(nodes.providers);
  const names = new Set(providers.flatMap(({ labels }) => labels));
  const labels = [...names].flatMap((name) => nodes.labels[name] ?? []);
  return [labels, providers.reduce((sum, { maxNodes }) => sum + maxNodes, 0)];
}

function number(counts: ReadonlyMap<string, number>, present: readonly Wanted[]): Wanted[] {
  const left = new Map(counts);
  const wanted: Wanted[] = [];
  const use = (kind: string, at: number): void => {
    left.set(kind, (left.get(kind) ?? 0) - 1);
    wanted.push({ number: at, kind });
  };
  for (const te of [...present].sort((a, b) => a.number - b.number)) {
    if ((left.get(te.kind) ?? 0) > 0) use(te.kind, te.number);
  }
  // numbers whose kind changes are rebuilt in place, once they are free
  const taken = new Set(wanted.map((te) => te.number));
  for (const [kind, count] of left) {
    for (let rest = count, at = 1; rest > 0; at++) {
      if (taken.has(at)) continue;
      taken.add(at);
      use(kind, at);
      rest--;
    }
  }
  return wanted.sort((a, b) => a.number - b.number);
}

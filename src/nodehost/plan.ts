/**
 * The nodes' part of a pass (H-17.3, N-6): what is marked as a node of ours and belongs to no
 * record is removed; a recorded node whose domain is gone or off is broken; one that nobody
 * claims any more is deleted. Nothing to do is an empty plan. Pure.
 */
import type { DomainState, PlannedAction, PortRule } from "../hypervisor/hypervisor-port.ts";
import { nodeDomainName } from "../model/machine.ts";
import type { HostNode } from "./node-life.ts";
import type { NodeParts } from "./node-parts.ts";

export const nodeActions = [
  "remove-node-domain",
  "remove-node-rule",
  "remove-node-folder",
  "break-node",
  "delete-node",
] as const;
export type NodeAction = PlannedAction & { readonly kind: (typeof nodeActions)[number] };

export type NodeFacts = {
  readonly hostId: string;
  readonly nodes: readonly { readonly node: HostNode; readonly parts: NodeParts }[];
  readonly domains: readonly DomainState[];
  readonly rules: readonly PortRule[];
  /** Names in the nodes' folder. */
  readonly folders: readonly string[];
  /** Ids that no server has claimed for an hour. */
  readonly unclaimed: ReadonlySet<string>;
};

export function planNodes(facts: NodeFacts): NodeAction[] {
  const actions: NodeAction[] = [];
  const add = (kind: NodeAction["kind"], target: string, why: string): void => {
    actions.push({ kind, target, why, undo: "none" });
  };
  const living = facts.nodes.filter(({ node }) => node.phase.state !== "gone");
  const ids = new Set(living.map(({ node }) => node.id));
  for (const { name, mark } of facts.domains) {
    if (mark?.kind !== "node" || mark.host !== facts.hostId || ids.has(mark.node)) continue;
    add("remove-node-domain", name, "a node of ours that no record knows");
  }
  const taps = new Set(living.map(({ parts }) => parts.rule.tap));
  for (const rule of facts.rules) {
    if (rule.kind !== "node" || taps.has(rule.tap)) continue;
    add("remove-node-rule", rule.tap, "a port rule of a node that no record knows");
  }
  for (const name of facts.folders) {
    if (!ids.has(name)) add("remove-node-folder", name, "files of a node that no record knows");
  }
  for (const { node, parts } of living) {
    if (node.phase.state === "ready") {
      const domain = facts.domains.find(({ uuid }) => uuid === parts.spec.uuid);
      if (domain === undefined) add("break-node", node.id, "its domain is gone");
      else if (domain.power === "off") add("break-node", node.id, "it is off");
    }
    const held = node.phase.state === "ready" || node.phase.state === "failed";
    if (held && facts.unclaimed.has(node.id)) {
      add("delete-node", node.id, `${nodeDomainName(node.id)}: no server claims it`);
    }
  }
  return actions;
}

/**
 * The nodes as they are recorded: loaded once, each step durable before it shows. A node that is
 * gone leaves the map; its row stays.
 */
import type { Clock } from "../../base/clock.ts";
import type { NodeState, NodeView } from "../../model/node.ts";
import type { Store } from "../../store/store.ts";
import { nodeLife } from "./record.ts";
import type { NodeBody } from "./record.ts";
import { viewOf } from "./views.ts";
import type { Node } from "./views.ts";

const livingStates: readonly NodeState[] = [
  "requested",
  "building",
  "ready",
  "in-use",
  "used",
  "deleting",
  "failed",
];

export type NodeRecords = Awaited<ReturnType<typeof openNodeRecords>>;

export async function openNodeRecords(options: {
  readonly store: Store;
  readonly clock: Pick<Clock, "wallMs">;
  readonly onEvent: (nodeId: string, event: string, view: NodeView) => void;
  readonly onChange: () => void;
}) {
  const { store, clock } = options;
  const nodes = new Map<string, Node>();
  for (const row of await store.rows(nodeLife, { states: livingStates, limit: 10_000 })) {
    const { id, createdMs, body } = row;
    nodes.set(id, { id, state: row.state as NodeState, createdMs, body });
  }

  /** Records one step, then shows it; `before`, where the state was changed already. */
  async function step(
    node: Node,
    event: string,
    to: NodeState,
    change: Partial<NodeBody> = {},
    before: NodeState = node.state,
  ): Promise<void> {
    const from = nodes.has(node.id) ? before : null;
    const body = { ...node.body, ...change };
    const atMs = clock.wallMs();
    await store.transaction((tx) =>
      store.append(tx, nodeLife, { id: node.id, from, event, to, body, atMs }),
    );
    node.state = to;
    node.body = body;
    if (to === "gone") nodes.delete(node.id);
    else nodes.set(node.id, node);
    options.onEvent(node.id, event, viewOf(node));
    options.onChange();
  }

  return {
    nodes: nodes as ReadonlyMap<string, Node>,
    all: (): Node[] => [...nodes.values()],
    of: (provider: string): Node[] =>
      [...nodes.values()].filter((node) => node.body.provider === provider),
    step,
    /** Nobody else is given it between here and the record, which is tried by who asked. */
    async claim(node: Node, event: string, to: NodeState, change: Partial<NodeBody> = {}) {
      const before = node.state;
      node.state = to;
      try {
        await step(node, event, to, change, before);
      } catch (error) {
        node.state = before;
        throw error;
      }
    },
    row: (id: string) => store.row(nodeLife, id),
  };
}

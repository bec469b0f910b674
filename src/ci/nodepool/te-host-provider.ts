/**
 * A TE host as a provider of nodes (te-host.md §17): what it said in its `hello` and since then,
 * as a list. Orders go over the session, which delivers them when the host is there again.
 */
import type { Clock } from "../../base/clock.ts";
import { hostStartedAnew } from "../../model/node.ts";
import type { Hello, ToHost } from "../../model/session.ts";
import type { FromHost } from "../../session/session-port.ts";
import type { NodeOrder, NodeProvider, ProvidedNode } from "./provider.ts";

export type TeHostProvider = NodeProvider & {
  onHello(hello: Hello): void;
  onConnected(): void;
  onDisconnected(): void;
  /** False: the message is about something else. */
  hear(message: FromHost): boolean;
};

export function openTeHostProvider(options: {
  readonly clock: Pick<Clock, "monoMs">;
  /** False: the host is away. */
  readonly send: (message: ToHost) => boolean;
}): TeHostProvider {
  const { clock, send } = options;
  const nodes = new Map<string, ProvidedNode>();
  const listeners: (() => void)[] = [];
  /** Deletions that the host has not confirmed: said again when it comes back. */
  const deleting = new Set<string>();
  /** Orders that did not reach the host: said when it is connected. */
  const unsent = new Map<string, NodeOrder>();
  let awaySinceMs: number | undefined = clock.monoMs();
  const changed = (): void => {
    for (const listener of listeners) listener();
  };
  const put = (id: string, node: ProvidedNode): void => {
    nodes.set(id, node);
    changed();
  };

  return {
    list: () => (awaySinceMs === undefined ? nodes : undefined),
    awayMs: () => (awaySinceMs === undefined ? 0 : clock.monoMs() - awaySinceMs),
    create(order: NodeOrder) {
      nodes.set(order.id, { state: "building" });
      if (!send({ kind: "node-create", ...order })) unsent.set(order.id, order);
    },
    delete(id) {
      deleting.add(id);
      unsent.delete(id);
      if (nodes.has(id)) nodes.set(id, { state: "deleting" });
      send({ kind: "node-delete", id });
    },
    watch: (listener) => void listeners.push(listener),
    onHello(hello) {
      nodes.clear();
      for (const report of hello.nodes) nodes.set(report.id, provided(report));
      for (const id of unsent.keys()) if (!nodes.has(id)) nodes.set(id, { state: "building" });
      awaySinceMs = undefined;
      changed();
    },
    onConnected() {
      awaySinceMs = undefined;
      for (const id of deleting) send({ kind: "node-delete", id });
      for (const [id, order] of unsent) {
        if (send({ kind: "node-create", ...order })) unsent.delete(id);
      }
    },
    onDisconnected() {
      awaySinceMs ??= clock.monoMs();
      changed();
    },
    hear(message) {
      switch (message.kind) {
        case "node-ready": {
          const { id, address, hostKey } = message;
          if (!deleting.has(id)) put(id, { state: "ready", address, hostKey });
          return true;
        }
        case "node-failed": {
          const { id, reason } = message;
          put(id, { state: "failed", reason, restart: reason === hostStartedAnew });
          return true;
        }
        case "node-gone":
          deleting.delete(message.id);
          nodes.delete(message.id);
          changed();
          return true;
        default:
          return false;
      }
    },
  };
}

function provided(report: Hello["nodes"][number]): ProvidedNode {
  const { state, address, hostKey } = report;
  if (state === "ready" && address && hostKey) return { state, address, hostKey };
  // Why a failed one failed is told in a message of its own, which follows (te-host.md §17).
  return { state: state === "deleting" ? "deleting" : "building" };
}

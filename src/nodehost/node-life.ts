/**
 * The life of a CI node on its host (te-host.md §17, docs/specs/node.md): a total function over
 * (record, event), as for racks. Pure. Single use: from ready there is no way but away.
 */
import { hostStartedAnew } from "../model/node.ts";
import { assertNever } from "../base/assert.ts";

export type NodeSpec = {
  readonly label: string;
  /** Digest of the image. */
  readonly image: string;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly diskGiB: number;
  readonly authorizedKey: string;
};

export type HostNode = {
  readonly id: string;
  readonly spec: NodeSpec;
  /** Reserved for its MAC. */
  readonly address: string;
  readonly phase:
    | { readonly state: "building" }
    | { readonly state: "ready"; readonly hostKey: string }
    /** Its parts are gone or going; kept for the server to ask. */
    | { readonly state: "failed"; readonly reason: string }
    | { readonly state: "deleting" }
    | { readonly state: "gone" };
};

export type NodeEvent =
  /** Its sshd showed the host key that we made for it. */
  | { readonly kind: "answered"; readonly hostKey: string }
  | { readonly kind: "broken"; readonly reason: string }
  | { readonly kind: "delete" }
  | { readonly kind: "torn-down" }
  | { readonly kind: "rebooted" };

export type NodeEffect =
  /** Makes its parts, starts it, waits for its host key; answers `answered` or `broken`. */
  | { readonly kind: "launch" }
  /** Takes all parts away; answers `torn-down`. */
  | { readonly kind: "tear-down" }
  | { readonly kind: "tell-ready"; readonly hostKey: string }
  | { readonly kind: "tell-failed"; readonly reason: string }
  | { readonly kind: "tell-gone" };

export type NodeStep = { readonly node: HostNode; readonly effects: readonly NodeEffect[] };

export function stepNode(node: HostNode, event: NodeEvent): NodeStep {
  const { phase } = node;
  switch (event.kind) {
    case "answered":
      if (phase.state !== "building") return same(node);
      return to(node, { state: "ready", hostKey: event.hostKey }, [
        { kind: "tell-ready", hostKey: event.hostKey },
      ]);
    case "broken":
      return phase.state === "building" || phase.state === "ready"
        ? fails(node, event.reason)
        : same(node);
    case "delete":
      if (phase.state === "gone") return { node, effects: [{ kind: "tell-gone" }] };
      return phase.state === "deleting"
        ? same(node)
        : to(node, { state: "deleting" }, [{ kind: "tear-down" }]);
    case "torn-down":
      return phase.state === "deleting"
        ? to(node, { state: "gone" }, [{ kind: "tell-gone" }])
        : same(node);
    case "rebooted":
      if (phase.state === "building" || phase.state === "ready") {
        return fails(node, hostStartedAnew);
      }
      return { node, effects: resumeNode(node) };
    default:
      return assertNever(event, "node event");
  }
}

/** What is still to do for a record found at start, in the same world. */
export function resumeNode(node: HostNode): readonly NodeEffect[] {
  switch (node.phase.state) {
    case "building":
      return [{ kind: "launch" }];
    case "failed":
    case "deleting":
      return [{ kind: "tear-down" }];
    case "ready":
    case "gone":
      return [];
    default:
      return assertNever(node.phase, "node phase");
  }
}

function fails(node: HostNode, reason: string): NodeStep {
  return to(node, { state: "failed", reason }, [
    { kind: "tell-failed", reason },
    { kind: "tear-down" },
  ]);
}

function same(node: HostNode): NodeStep {
  return { node, effects: [] };
}

function to(node: HostNode, phase: HostNode["phase"], effects: readonly NodeEffect[]): NodeStep {
  return { node: { ...node, phase }, effects };
}

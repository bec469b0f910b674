/**
 * The nodes of this host: their records (life `hostnode` in te-host.db), their lives being
 * lived, and their part of a pass. Recorded first, then made; removed, then forgotten. A launch
 * waits while a rack of an emulating host boots (H-17.4).
 */
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { assertNever } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import { describeError, fail } from "../base/errors.ts";
import { isUuid } from "../base/ids.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/retry.ts";
import { pause, until } from "../base/wait.ts";
import type { PlannedAction } from "../hypervisor/hypervisor-port.ts";
import type { ToHost } from "../model/session.ts";
import type { FromHost } from "../session/session-port.ts";
import type { LifeKind, Store } from "../store/store.ts";
import { launchNode, tearDownNode } from "./launch.ts";
import type { LaunchTools } from "./launch.ts";
import { resumeNode, stepNode } from "./node-life.ts";
import type { HostNode, NodeEffect, NodeEvent } from "./node-life.ts";
import { nodePartsOf } from "./node-parts.ts";
import type { NodeGround } from "./node-parts.ts";
import { planNodes } from "./plan.ts";
import type { NodeAction } from "./plan.ts";

/** a: label, b: address. */
const nodeLife: LifeKind<HostNode> = {
  life: "hostnode",
  columns: (node) => ({ a: node.spec.label, b: node.address }),
};

export type NodeReport = {
  id: string;
  label: string;
  state: "building" | "ready" | "failed" | "deleting";
  address: string | null;
  hostKey: string | null;
};

export type Nodes = AsyncDisposable & {
  /** Reads the record; `plan` needs no more. */
  load(): Promise<void>;
  /** Takes up what every node still needs. */
  start(newWorld: boolean): Promise<void>;
  create(message: Extract<ToHost, { kind: "node-create" }>): Promise<void>;
  delete(id: string): Promise<void>;
  /** The ids that a server claims, from its welcome. */
  claim(ids: readonly string[]): void;
  reports(): NodeReport[];
  imagesInUse(): ReadonlySet<string>;
  plan(): Promise<NodeAction[]>;
  readonly performers: Readonly<
    Record<NodeAction["kind"], (action: PlannedAction) => Promise<void>>
  >;
};

export async function openNodes(options: {
  readonly tools: LaunchTools;
  readonly ground: NodeGround;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly send: (message: FromHost) => void;
  /** A rack is booting, and this host emulates. */
  readonly busy: () => boolean;
  readonly onCrash: (error: unknown) => void;
}): Promise<Nodes> {
  const { tools, ground, store, clock, log, send } = options;
  const { hypervisor } = tools;
  const stop = new AbortController();
  const nodes = new Map<string, HostNode>();
  const tasks = new Map<string, { stop: AbortController; done: Promise<void> }>();
  const unclaimedSince = new Map<string, number>();
  let last: Promise<unknown> = Promise.resolve();

  async function record(before: HostNode | null, event: string, after: HostNode): Promise<void> {
    await store.transaction((tx) =>
      store.append(tx, nodeLife, {
        id: after.id,
        from: before?.phase.state ?? null,
        event,
        to: after.phase.state,
        body: after,
        atMs: clock.wallMs(),
      }),
    );
    if (after.phase.state === "gone") nodes.delete(after.id);
    else nodes.set(after.id, after);
  }

  /** One event after another, whichever node it is of: addresses are chosen under it, too. */
  function inTurn(act: () => Promise<void>): Promise<void> {
    const done = last.then(act);
    last = done.catch(() => undefined);
    done.catch(options.onCrash);
    return done;
  }

  function post(id: string, event: NodeEvent): Promise<void> {
    return inTurn(async () => {
      const node = nodes.get(id);
      if (!node || stop.signal.aborted) return;
      const next = stepNode(node, event);
      if (next.node !== node) await record(node, event.kind, next.node);
      for (const effect of next.effects) perform(next.node, effect);
    });
  }

  function perform(node: HostNode, effect: NodeEffect): void {
    const { id } = node;
    switch (effect.kind) {
      case "launch":
        return begin(node, async (signal) => {
          const event = await launch(node, signal);
          void post(id, event);
        });
      case "tear-down":
        return begin(node, async (signal) => {
          await tearDownUntilDone(node, signal);
          void post(id, { kind: "torn-down" });
        });
      case "tell-ready":
        log.info({ node: id, address: node.address }, "node ready");
        return send({ kind: "node-ready", id, address: node.address, hostKey: effect.hostKey });
      case "tell-failed":
        log.warn({ node: id, reason: effect.reason }, "node failed");
        return send({ kind: "node-failed", id, reason: effect.reason });
      case "tell-gone":
        return send({ kind: "node-gone", id });
      default:
        return assertNever(effect, "node effect");
    }
  }

  /** One task a node: a new one ends the old one first. */
  function begin({ id }: HostNode, run: (signal: AbortSignal) => Promise<void>): void {
    const before = tasks.get(id);
    before?.stop.abort();
    const own = new AbortController();
    const signal = AbortSignal.any([own.signal, stop.signal]);
    const done = (async () => {
      await before?.done;
      if (!signal.aborted) await run(signal);
    })().catch((error: unknown) => {
      if (!signal.aborted) log.error({ node: id, why: describeError(error) }, "node task failed");
    });
    tasks.set(id, { stop: own, done });
  }

  async function launch(node: HostNode, signal: AbortSignal): Promise<NodeEvent> {
    try {
      await until(() => !options.busy(), {
        timeoutMs: limits.rackBootMs * 2,
        signal,
        everyMs: limits.pollMs * 5,
        what: "no rack to be booting",
      }).catch(() => signal.throwIfAborted());
      const hostKey = await launchNode(tools, node, nodePartsOf(ground, node), signal);
      return { kind: "answered", hostKey };
    } catch (error) {
      signal.throwIfAborted();
      return { kind: "broken", reason: describeError(error) };
    }
  }

  async function tearDownUntilDone(node: HostNode, signal: AbortSignal): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await tearDownNode(tools, nodePartsOf(ground, node));
      } catch (error) {
        if (tries >= limits.removeTries) throw error;
        await pause(backoffMs(tries), signal);
      }
    }
  }

  function freeAddress(): string {
    const taken = new Set([...nodes.values()].map((node) => node.address));
    const free = hypervisor.testNetwork.nodeIps.find((ip) => !taken.has(ip));
    return free ?? fail("no-space", "no address is left for a node on the test network");
  }

  async function removeDomain({ target }: PlannedAction): Promise<void> {
    const found = (await hypervisor.domains.list()).find(({ name }) => name === target);
    if (found?.mark?.kind !== "node") return;
    await hypervisor.domains.destroy(found.uuid);
    await hypervisor.domains.undefine(found.uuid);
  }

  const unclaimed = (): Set<string> =>
    new Set(
      [...unclaimedSince]
        .filter(([, sinceMs]) => clock.monoMs() - sinceMs > limits.nodeUnclaimedMs)
        .map(([id]) => id),
    );

  return {
    async load() {
      const rows = await store.rows(nodeLife, { limit: 10_000, states: livingStates });
      for (const { body } of rows) nodes.set(body.id, body);
    },
    async start(newWorld) {
      for (const node of nodes.values()) {
        if (newWorld) await post(node.id, { kind: "rebooted" });
        else for (const effect of resumeNode(node)) perform(node, effect);
      }
    },
    create: (message) =>
      inTurn(async () => {
        const known = nodes.get(message.id);
        if (known || stop.signal.aborted) return;
        const { id, label, image, memoryMiB, cpus, diskGiB, authorizedKey } = message;
        const spec = { label, image, memoryMiB, cpus, diskGiB, authorizedKey };
        let address: string;
        try {
          address = freeAddress();
        } catch (error) {
          return send({ kind: "node-failed", id, reason: describeError(error) });
        }
        const node: HostNode = { id, spec, address, phase: { state: "building" } };
        await record(null, "create", node);
        perform(node, { kind: "launch" });
      }),
    async delete(id) {
      if (nodes.has(id)) return post(id, { kind: "delete" });
      send({ kind: "node-gone", id });
    },
    claim(ids) {
      for (const [id, node] of nodes) {
        if (ids.includes(id)) unclaimedSince.delete(id);
        else if (!unclaimedSince.has(id)) unclaimedSince.set(id, clock.monoMs());
        // told again: the first time may not have arrived
        if (node.phase.state === "failed") {
          send({ kind: "node-failed", id, reason: node.phase.reason });
        }
      }
      for (const id of unclaimedSince.keys()) if (!nodes.has(id)) unclaimedSince.delete(id);
    },
    reports: () =>
      [...nodes.values()].flatMap(({ id, spec, address, phase }) =>
        phase.state === "gone"
          ? []
          : [
              {
                id,
                label: spec.label,
                state: phase.state,
                address,
                hostKey: phase.state === "ready" ? phase.hostKey : null,
              },
            ],
      ),
    imagesInUse: () => new Set([...nodes.values()].map(({ spec }) => spec.image)),
    async plan() {
      const folders = await readdir(ground.folder).catch(() => []);
      return planNodes({
        hostId: ground.hostId,
        nodes: [...nodes.values()].map((node) => ({ node, parts: nodePartsOf(ground, node) })),
        domains: await hypervisor.domains.list(),
        rules: await hypervisor.portRules.current(),
        folders,
        unclaimed: unclaimed(),
      });
    },
    performers: {
      "remove-node-domain": removeDomain,
      "remove-node-rule": ({ target }) => tools.removeRule(target),
      async "remove-node-folder"({ target }) {
        if (!isUuid(target) || nodes.has(target)) return;
        await rm(join(ground.folder, target), { recursive: true, force: true });
      },
      "break-node": ({ target, why }) => post(target, { kind: "broken", reason: why }),
      "delete-node": ({ target }) => post(target, { kind: "delete" }),
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await last;
      await Promise.all([...tasks.values()].map(({ done }) => done));
    },
  };
}

const livingStates = ["building", "ready", "failed", "deleting"];

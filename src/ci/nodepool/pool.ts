/**
 * The pool of CI nodes: records each node's life, asks hosts for nodes and images over the
 * session, hands ready nodes to builds (ci.md §19, te-host.md §17). What to do is decided in
 * plan.ts; here it is recorded first, then sent. Nodes are single use: never given twice (I2).
 */
import type { Clock } from "../../base/clock.ts";
import { isoTime } from "../../base/clock.ts";
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { backoffMs } from "../../base/retry.ts";
import type { Scope } from "../../base/scope.ts";
import { pause } from "../../base/wait.ts";
import type { Config } from "../../model/config.ts";
import type { ImageView, NodeState, NodeView } from "../../model/node.ts";
import type { Hello, ToHost } from "../../model/session.ts";
import type { FromHost } from "../../session/session-port.ts";
import type { Store } from "../../store/store.ts";
import { openImages } from "./images.ts";
import { planPool } from "./plan.ts";
import type { PoolAction, ProviderFact } from "./plan.ts";
import { nodeLife } from "./record.ts";
import type { NodeBody } from "./record.ts";
import { imageViews, readyNodeOf, viewOf, whyNone } from "./views.ts";
import type { HostState, Node } from "./views.ts";

type NodesConfig = Config["nodes"];

export type PoolOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly scope: Scope;
  readonly config: NodesConfig;
  /** Folder of a recipe as the configuration names it. */
  readonly recipeDirectory: (recipe: string) => string;
  /** Public half of the executor's key: `ssh-ed25519 AAAA… rackyard`. */
  readonly authorizedKey: string;
  readonly send: (hostId: string, message: ToHost) => boolean;
  readonly onEvent: (nodeId: string, event: string, view: NodeView) => void;
};

export type NodePoolEdge = Awaited<ReturnType<typeof openNodePool>>;

export async function openNodePool(options: PoolOptions) {
  const { store, clock, log } = options;
  let config = options.config;
  const nodes = new Map<string, Node>();
  const hosts = new Map<string, HostState>(); // by provider name = the host's name
  const launchFailures = new Map<string, { count: number; retryAtMs: number; detail: string }>();
  const listeners: (() => void)[] = [];
  let demand: ReadonlyMap<string, number> = new Map();
  let passing = false;
  let again = false;

  const passSoon = (): void => {
    void pass().catch((error: unknown) => log.error({ err: error }, "node pool pass failed"));
  };
  const changed = (): void => {
    for (const listener of listeners) listener();
  };
  const images = openImages({ ...options, hosts, passAfter, onChange: changed });
  await images.read(config.images);
  for (const row of await store.rows(nodeLife, { states: livingStates, limit: 10_000 })) {
    const { id, createdMs, body } = row;
    nodes.set(id, { id, state: row.state as NodeState, createdMs, body });
  }

  /** Records one step, then shows it. */
  async function step(
    node: Node,
    event: string,
    to: NodeState,
    change: Partial<NodeBody> = {},
  ): Promise<void> {
    const from = nodes.has(node.id) ? node.state : null;
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
    changed();
  }

  const providers = (): ProviderFact[] =>
    Object.entries(config.providers).map(([name, provider]) => {
      const host = hosts.get(name);
      return {
        name,
        connected: host?.connected ?? false,
        labels: provider.labels,
        maxNodes: provider.maxNodes,
        images: new Map([...(host?.images ?? [])].map(([image, has]) => [image, has.recipe])),
        building: new Set(host?.building.keys()),
        imageRetryAtMs: new Map(
          [...(host?.imageFailures ?? [])].map(([image, failed]) => [image, failed.retryAtMs]),
        ),
      };
    });

  function plan(): PoolAction[] {
    return planPool({
      labels: Object.entries(config.labels).map(([name, label]) => ({ name, ...label })),
      providers: providers(),
      nodes: [...nodes.values()].map((node) => ({ ...node, ...node.body })),
      recipes: new Map([...images.recipes].map(([image, recipe]) => [image, recipe.digest])),
      demand,
      retryAtMs: new Map([...launchFailures].map(([label, f]) => [label, f.retryAtMs])),
      launchLimitMs: limits.nodeLaunchMs * LAUNCH_PATIENCE,
      nowMs: clock.wallMs(),
    });
  }

  /** One pass; a call during a pass makes one more afterwards. */
  async function pass(): Promise<void> {
    if (passing) {
      again = true;
      return;
    }
    passing = true;
    try {
      do {
        again = false;
        for (const action of plan()) await perform(action);
      } while (again);
    } finally {
      passing = false;
    }
  }

  /** A pass after the pause; gives when that is, as wall time. */
  function passAfter(delayMs: number): number {
    const timer = clock.after(delayMs, passSoon);
    options.scope.signal.addEventListener("abort", () => timer.cancel(), { once: true });
    return clock.wallMs() + delayMs;
  }

  async function perform(action: PoolAction): Promise<void> {
    switch (action.kind) {
      case "build-image":
        return images.build(action.provider, action.image, config.labels);
      case "launch":
        return launchNode(action.provider, action.label);
      case "fail":
        return launchFailed(action.node, action.why);
      case "delete":
        return deleteNode(action.node);
    }
  }

  async function launchNode(provider: string, label: string): Promise<void> {
    const host = hosts.get(provider);
    const wanted = config.labels[label];
    const image = wanted && host?.images.get(wanted.image);
    if (!host || !wanted || !image) return;
    const createdMs = clock.wallMs();
    const id = options.random.uuid4();
    const body: NodeBody = {
      label,
      provider,
      address: null,
      hostKey: null,
      image: image.digest,
      build: null,
      attempt: (launchFailures.get(label)?.count ?? 0) + 1,
      createdAt: isoTime(createdMs),
      readyAt: null,
      detail: null,
    };
    await step({ id, state: "requested", createdMs, body }, "launch", "building");
    options.send(host.hostId, {
      kind: "node-create",
      id,
      label,
      image: image.digest,
      memoryMiB: wanted.memoryMiB,
      cpus: wanted.cpus,
      diskGiB: wanted.diskGiB,
      authorizedKey: options.authorizedKey,
    });
  }

  async function launchFailed(id: string, detail: string): Promise<void> {
    const node = nodes.get(id);
    if (!node) return;
    const count = (launchFailures.get(node.body.label)?.count ?? 0) + 1;
    const retryAtMs = passAfter(backoffMs(count));
    launchFailures.set(node.body.label, { count, retryAtMs, detail });
    log.warn({ node: id, label: node.body.label, detail, count }, "node launch failed");
    await step(node, "launch-failed", "failed", { detail });
    passSoon();
  }

  async function deleteNode(id: string): Promise<void> {
    const node = nodes.get(id);
    if (!node || node.state === "deleting") return;
    await step(node, "delete", "deleting");
    const host = hosts.get(node.body.provider);
    // A host that is away hears of it when it says hello.
    if (host) options.send(host.hostId, { kind: "node-delete", id });
  }

  async function gone(id: string, detail: string): Promise<void> {
    const node = nodes.get(id);
    if (!node) return;
    const wasLaunching = node.state === "building";
    if (wasLaunching) await launchFailed(id, detail);
    await step(node, "gone", "gone", { detail: node.state === "deleting" ? null : detail });
    passSoon();
  }

  async function ready(id: string, address: string, hostKey: string): Promise<void> {
    const node = nodes.get(id);
    if (!node || node.state !== "building") return;
    launchFailures.delete(node.body.label);
    const readyAt = isoTime(clock.wallMs());
    await step(node, "ready", "ready", { address, hostKey, readyAt });
  }

  options.scope.spawn("node-pool", async (signal) => {
    while (!signal.aborted) {
      await pass().catch((error: unknown) => log.error({ err: error }, "node pool pass failed"));
      await pause(PASS_EVERY_MS, signal);
    }
  });

  return {
    /** A host said hello: what it has decides (N-6: leaks are deleted, losses noticed). */
    async onHello(hello: Hello): Promise<void> {
      const has = new Map(hello.nodes.map((node) => [node.id, node]));
      const host: HostState = hosts.get(hello.name) ?? {
        hostId: hello.hostId,
        connected: true,
        images: new Map(),
        building: new Map(),
        imageFailures: new Map(),
      };
      hosts.set(hello.name, {
        ...host,
        hostId: hello.hostId,
        connected: true,
        building: new Map(),
      });
      const there = hosts.get(hello.name)!.images;
      there.clear();
      for (const image of hello.images) there.set(image.name, image);
      for (const node of [...nodes.values()].filter((n) => n.body.provider === hello.name)) {
        const found = has.get(node.id);
        if (!found) await gone(node.id, "the host does not have it");
        else if (found.state === "ready" && found.address && found.hostKey) {
          await ready(node.id, found.address, found.hostKey);
        }
      }
    },
    /** Ids that a host's `welcome` names as claimed. */
    claimed: (hostName: string): string[] =>
      [...nodes.values()].filter((n) => n.body.provider === hostName).map((n) => n.id),
    onConnected(hostId: string): void {
      for (const node of nodes.values()) {
        if (node.state === "deleting" && hosts.get(node.body.provider)?.hostId === hostId) {
          options.send(hostId, { kind: "node-delete", id: node.id });
        }
      }
      passSoon();
    },
    onDisconnected(hostId: string): void {
      for (const host of hosts.values()) if (host.hostId === hostId) host.connected = false;
    },
    /** Node and image messages of a host; others are not for the pool. */
    async onMessage(hostId: string, message: FromHost): Promise<void> {
      const host = [...hosts.values()].find((candidate) => candidate.hostId === hostId);
      switch (message.kind) {
        case "node-ready":
          await ready(message.id, message.address, message.hostKey);
          break;
        case "node-failed":
          await launchFailed(message.id, message.reason);
          break;
        case "node-gone":
          await gone(message.id, "the host removed it");
          break;
        default:
          if (!images.hear(host, message)) return;
      }
      passSoon();
    },
    ready: (label: string) =>
      [...nodes.values()]
        .filter((node) => node.state === "ready" && node.body.label === label)
        .filter((node) => hosts.get(node.body.provider)?.connected)
        .sort((x, y) => x.createdMs - y.createdMs)
        .map(readyNodeOf),
    demand(waiting: ReadonlyMap<string, number>): void {
      demand = waiting;
      passSoon();
    },
    async assign(nodeId: string, buildId: string) {
      const node = nodes.get(nodeId);
      if (node?.state !== "ready") fail("conflict", `node ${nodeId} is no longer free`);
      const chosen = readyNodeOf(node);
      node.state = "in-use"; // nobody else between here and the record
      try {
        await step(node, "assign", "in-use", { build: buildId });
      } catch (error) {
        node.state = "ready";
        throw error;
      }
      return chosen;
    },
    async release(nodeId: string): Promise<void> {
      const node = nodes.get(nodeId);
      if (!node || node.state === "deleting") return;
      if (node.state !== "used") await step(node, "release", "used");
      await deleteNode(nodeId);
      passSoon();
    },
    /** Nodes in use by builds that are over (after a crash between two records): given back. */
    async reconcile(livingBuilds: ReadonlySet<string>): Promise<void> {
      for (const node of nodes.values()) {
        const orphan = node.state === "in-use" && !livingBuilds.has(node.body.build ?? "");
        if (orphan) await step(node, "orphaned", "used");
      }
      passSoon();
    },
    failure(label: string): string | undefined {
      const failed = launchFailures.get(label);
      if (failed && failed.count >= limits.nodeLaunchAttempts) return failed.detail;
      return images.failure(config.labels[label]?.image ?? "");
    },
    why: (label: string): string => whyNone(label, config, hosts, [...nodes.values()]),
    onChange: (callback: () => void): void => void listeners.push(callback),
    /** Throws `bad-config` where a recipe cannot be read: the old configuration stays. */
    async reconfigure(next: NodesConfig): Promise<void> {
      await images.read(next.images);
      config = next;
      passSoon();
    },
    nodes: (): NodeView[] => [...nodes.values()].map(viewOf),
    images: (): ImageView[] => imageViews(hosts, images.recipes),
    plan,
    pass,
  };
}

/** A launch may wait at the host for a rack's boot (H-17.4), up to so many times its limit. */
const LAUNCH_PATIENCE = 4;
const PASS_EVERY_MS = limits.heartbeatMs;

const livingStates: readonly NodeState[] = [
  "requested",
  "building",
  "ready",
  "in-use",
  "used",
  "deleting",
  "failed",
];

/**
 * The pool of CI nodes: records each node's life, asks hosts for nodes and images over the
 * session, hands ready nodes to builds (ci.md §19, te-host.md §17). What to do is decided in
 * plan.ts; here it is recorded first, then sent. Nodes are single use: never given twice (I2).
 */
import type { Clock } from "../../base/clock.ts";
import { isoTime } from "../../base/clock.ts";
import { describeError, fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { backoffMs } from "../../base/retry.ts";
import type { Scope } from "../../base/scope.ts";
import { pause } from "../../base/wait.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Config } from "../../model/config.ts";
import type { ImageView, NodeView } from "../../model/node.ts";
import type { Hello, ToHost } from "../../model/session.ts";
import type { FromHost } from "../../session/session-port.ts";
import type { Store } from "../../store/store.ts";
import { openImages } from "./images.ts";
import { planPool } from "./plan.ts";
import type { PoolAction } from "./plan.ts";
import { openTeHostProvider } from "./te-host-provider.ts";
import type { TeHostProvider } from "./te-host-provider.ts";
import { openLaunches } from "./launches.ts";
import { openNodeRecords } from "./node-records.ts";
import type { NodeBody } from "./record.ts";
import { imageViews, providerFacts, readyNodeOf, viewOf, whyNone } from "./views.ts";
import type { HostState, Node } from "./views.ts";

type NodesConfig = Config["nodes"];

export type PoolOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly scope: Scope;
  readonly troubles: Pick<Troubles, "begin" | "end">;
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
  const { clock, log, troubles } = options;
  let config = options.config;
  const hosts = new Map<string, HostState>(); // by provider name = the host's name
  const listeners: (() => void)[] = [];
  let demand: ReadonlyMap<string, number> = new Map();
  let passing: Promise<void> | undefined;
  let again = false;
  let failures = 0;

  const passSoon = (): void => void pass();
  const changed = (): void => {
    for (const listener of listeners) listener();
  };
  const images = openImages({ ...options, hosts, passAfter, onChange: changed });
  await images.read(config.images);
  const launches = openLaunches({ log, passAfter });
  const records = await openNodeRecords({ ...options, onChange: changed });
  const { nodes, step } = records;

  function plan(): PoolAction[] {
    return planPool({
      labels: Object.entries(config.labels).map(([name, label]) => ({ name, ...label })),
      providers: providerFacts(config, hosts),
      nodes: records.all().map((node) => ({ ...node, ...node.body })),
      recipes: new Map([...images.recipes].map(([image, recipe]) => [image, recipe.digest])),
      demand,
      retryAtMs: launches.retryAtMs(),
      launchLimitMs: limits.nodeLaunchMs * LAUNCH_PATIENCE,
      nowMs: clock.wallMs(),
    });
  }

  /** What is there, then what is wanted; a call during a pass makes one more, and waits for it. */
  function pass(): Promise<void> {
    again = true;
    passing ??= passes();
    return passing;
  }

  async function passes(): Promise<void> {
    while (again && !options.scope.closed) {
      again = false;
      try {
        await look();
        for (const action of plan()) await perform(action);
        failures = 0;
        troubles.end(PASS);
      } catch (error) {
        // Nothing is lost: the next pass finds the same level.
        troubles.begin(PASS, describeError(error));
        passAfter(backoffMs(++failures, limits.pollMs, limits.heartbeatMs));
      }
    }
    passing = undefined; // in the same turn as the loop's last look at `again`
  }

  /** Brings the record to what the providers show (N-6: leaks are deleted, losses noticed). */
  async function look(): Promise<void> {
    for (const [name, { provider }] of hosts) {
      const list = provider.list();
      if (!list) continue;
      for (const node of records.of(name)) {
        const shown = list.get(node.id);
        if (!shown) await gone(node);
        else if (node.state === "deleting") {
          // Asked in an earlier life, or lost on the way.
          if (shown.state !== "deleting") provider.delete(node.id);
        } else if (shown.state === "ready") await ready(node, shown);
        else if (shown.state === "failed") await broke(node, shown.reason, shown.restart);
      }
      for (const [id, shown] of list) {
        if (!nodes.has(id) && shown.state !== "deleting") provider.delete(id);
      }
    }
  }

  /** A pass after the pause; gives when that is, as wall time. */
  function passAfter(delayMs: number): number {
    // A timer may come a moment early; the pass must find that it is time.
    const timer = clock.after(delayMs + limits.pollMs, passSoon);
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
        return tooLong(action.node, action.why);
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
      attempt: launches.attempt(label),
      createdAt: isoTime(createdMs),
      readyAt: null,
      detail: null,
    };
    await step({ id, state: "requested", createdMs, body }, "launch", "building");
    const { memoryMiB, cpus, diskGiB } = wanted;
    const { authorizedKey } = options;
    const size = { memoryMiB, cpus, diskGiB };
    host.provider.create({ id, label, image: image.digest, ...size, authorizedKey });
  }

  async function tooLong(id: string, why: string): Promise<void> {
    const node = nodes.get(id);
    if (node) await broke(node, why, false);
  }

  async function broke(node: Node, detail: string, restart: boolean): Promise<void> {
    const { state } = node;
    if (!["requested", "building", "ready", "in-use"].includes(state)) return;
    await step(node, "launch-failed", "failed", { detail, lost: restart });
    if (state !== "requested" && state !== "building") return;
    if (restart) launches.interrupted(node.body.label);
    else launches.failed(node.body.label, node.id, detail);
  }

  async function deleteNode(id: string): Promise<void> {
    const node = nodes.get(id);
    if (!node || node.state === "deleting") return;
    await records.claim(node, "delete", "deleting");
    hosts.get(node.body.provider)?.provider.delete(id);
  }

  async function gone(node: Node): Promise<void> {
    const { state } = node;
    const expected = state === "deleting";
    const detail = expected ? null : "the host does not have it any more";
    await step(node, "gone", "gone", expected ? { detail } : { detail, lost: true });
    if (state === "building") launches.interrupted(node.body.label);
  }

  async function ready(
    node: Node,
    { address, hostKey }: { readonly address: string; readonly hostKey: string },
  ): Promise<void> {
    if (node.state !== "building" && node.state !== "requested") return;
    const readyAt = isoTime(clock.wallMs());
    await step(node, "ready", "ready", { address, hostKey, readyAt });
    launches.succeeded(node.body.label);
  }

  function openProvider(hostName: string): TeHostProvider {
    const provider = openTeHostProvider({
      clock,
      send: (message) => options.send(hosts.get(hostName)!.hostId, message),
    });
    provider.watch(changed);
    return provider;
  }

  const hostOf = (hostId: string): HostState | undefined =>
    [...hosts.values()].find((host) => host.hostId === hostId);

  options.scope.spawn("node-pool", async (signal) => {
    while (!signal.aborted) {
      await pass();
      await pause(PASS_EVERY_MS, signal);
    }
  });

  return {
    /** A host said hello: what it has decides. */
    async onHello(hello: Hello): Promise<void> {
      const known = hosts.get(hello.name);
      const host: HostState = {
        hostId: hello.hostId,
        provider: known?.provider ?? openProvider(hello.name),
        images: new Map(hello.images.map((image) => [image.name, image])),
        building: new Map(),
        imageFailures: known?.imageFailures ?? new Map(),
      };
      hosts.set(hello.name, host);
      host.provider.onHello(hello);
      await pass();
    },
    /** Ids that a host's `welcome` names as claimed. */
    claimed: (hostName: string): string[] => records.of(hostName).map((n) => n.id),
    onConnected(hostId: string): void {
      hostOf(hostId)?.provider.onConnected();
      passSoon();
    },
    onDisconnected(hostId: string): void {
      hostOf(hostId)?.provider.onDisconnected();
    },
    /** Node and image messages of a host; others are not for the pool. */
    async onMessage(hostId: string, message: FromHost): Promise<void> {
      const host = hostOf(hostId);
      if (host?.provider.hear(message) === true || images.hear(host, message)) await pass();
    },
    ready: (label: string) =>
      records
        .all()
        .filter((node) => node.state === "ready" && node.body.label === label)
        .filter((node) => hosts.get(node.body.provider)?.provider.list() !== undefined)
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
      await records.claim(node, "assign", "in-use", { build: buildId });
      return chosen;
    },
    async release(nodeId: string): Promise<void> {
      const node = nodes.get(nodeId);
      if (!node || node.state === "deleting") return;
      if (node.state === "in-use" || node.state === "ready") await step(node, "release", "used");
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
    /** Why a node went by its host's new beginning, or its host is away; undefined otherwise. */
    async lost(nodeId: string): Promise<string | undefined> {
      const row = await records.row(nodeId);
      if (row?.body.lost) return row.body.detail ?? "its host began anew";
      const away = row && hosts.get(row.body.provider)?.provider.list() === undefined;
      return away ? `its host ${row.body.provider} does not answer` : undefined;
    },
    /** Moments of a node's end, as its record has them. */
    async ends(nodeId: string): Promise<{ step: string; atMs: number; detail: string }[]> {
      const row = await records.row(nodeId);
      if (row?.state !== "gone") return [];
      return [{ step: "node-deleted", atMs: row.updatedMs, detail: row.body.label }];
    },
    failure(label: string): string | undefined {
      const failed = launches.failure(label);
      if (failed !== undefined) return failed;
      return images.failure(config.labels[label]?.image ?? "");
    },
    why: (label: string): string => whyNone(label, config, hosts, records.all()),
    onChange: (callback: () => void): void => void listeners.push(callback),
    /** Throws `bad-config` where a recipe cannot be read: the old configuration stays. */
    async reconfigure(next: NodesConfig): Promise<void> {
      await images.read(next.images);
      config = next;
      passSoon();
    },
    nodes: (): NodeView[] => records.all().map(viewOf),
    images: (): ImageView[] => imageViews(hosts, images.recipes),
    plan,
    pass,
  };
}

/** A launch may wait at the host for a rack's boot (H-17.4), up to so many times its limit. */
const LAUNCH_PATIENCE = 4;
const PASS = "the record of nodes";
const PASS_EVERY_MS = limits.heartbeatMs;

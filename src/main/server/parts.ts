/**
 * Opens the server's parts in the order in which they need each other, and hands each what the
 * import table keeps it from reaching for itself. The API answers before the scheduler takes up
 * its builds, since builds lease their racks through it.
 */
import { hostname } from "node:os";
import { join } from "node:path";
import { openApi } from "../../api/server.ts";
import type { Api } from "../../api/server.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import type { Scope } from "../../base/scope.ts";
import { pause } from "../../base/wait.ts";
import { leaseFilesDirectory, openFileArchive } from "../../ci/archive/archive.ts";
import type { FileArchive } from "../../ci/archive/archive.ts";
import { openExecutor } from "../../ci/executor/executor.ts";
import { writeDefaultLayout } from "../../ci/layout/default-layout.ts";
import { openMerger } from "../../ci/merger/merger.ts";
import { openNodePool } from "../../ci/nodepool/pool.ts";
import { openScheduler } from "../../ci/scheduler.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import type { Globals } from "../../cli/context.ts";
import { openGit } from "../../git/git-command.ts";
import { openNodesDoor } from "../../git/nodes-door.ts";
import type { NodesDoor } from "../../git/nodes-door.ts";
import { openBroker } from "../../lease/broker/broker.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import type { Config } from "../../model/config.ts";
import type { Hello } from "../../model/session.ts";
import { openBuiltinReview } from "../../review/builtin/builtin.ts";
import type { BuiltinReview } from "../../review/builtin/builtin.ts";
import { openHostSessions } from "../../session/host-sessions.ts";
import { keptHostKey } from "../../ssh/keys.ts";
import type { Store } from "../../store/store.ts";
import { openAnswerStore } from "../answer-store.ts";
import { openEventFeed } from "../event-feed.ts";
import { openRackClient } from "../rack-client.ts";
import type { Places } from "../places.ts";
import { openTokens } from "../tokens.ts";
import { version } from "../version.ts";
import { openLate } from "./late.ts";
import type { Late } from "./late.ts";
import { chooseListeners } from "./ports.ts";
import { readSettings } from "./settings.ts";
import type { Settings } from "./settings.ts";
import { statusView } from "./status-view.ts";
import { isCertificate, isHostEvent, markOfCertificate, markOfHostEvent } from "./time-line.ts";
import { buildsOfChange, viewsOf } from "./views.ts";

export type ServerSurroundings = {
  readonly places: Places;
  readonly globals: Globals;
  readonly store: Store;
  readonly log: Log;
  readonly scope: Scope;
  readonly clock: Clock;
  /** The server's secret, of which leases' tokens are made. */
  readonly leaseKey: Uint8Array;
};

export type OpenServer = AsyncDisposable & {
  readonly urls: readonly string[];
  reload(): Promise<{ layout: string; projects: number; jobs: number }>;
  status(): Promise<object>;
  /** Nobody loses a place in the queue by our stopping. */
  beginStop(): void;
};

/** What is opened one after the other, before it is joined. */
type Parts = {
  readonly settings: Settings;
  readonly review: BuiltinReview;
  readonly broker: Broker;
  readonly archive: FileArchive;
  readonly scheduler: Late<Scheduler>;
};

export async function openServerParts(around: ServerSurroundings): Promise<OpenServer> {
  const { places, log, scope, clock } = around;
  const startedAt = clock.wallMs();
  let settings = await readSettings(around.globals, places);
  const { config } = settings;
  await writeDefaultLayout(settings.layoutDirectory);
  const layout = await settings.readLayout();
  const feed = openEventFeed(around.store);
  const { store } = feed;
  const tokens = openTokens(store, clock, systemRandom);
  await tokens.ensureAdmin(places.adminToken);

  await using stack = new AsyncDisposableStack();
  const scheduler = openLate<Scheduler>("the scheduler");
  const api = openLate<Api>("the API");
  const url = (): string => config.server.url ?? api.get().urls[0]!;
  const listeners = await chooseListeners(places, config.server.listen, settings.listenIsDefault);

  const git = await openGit(places.server);
  const review = stack.use(
    await openBuiltinReview({
      connection: Object.keys(config.connections)[0]!,
      store,
      git,
      repositoriesDirectory: places.git,
      binDirectory: places.bin,
      socketPath: places.gitSocket,
      node: process.execPath,
      url,
      anonymousRead: config.server.anonymousRead,
      buildsOf: (change) => buildsOfChange(scheduler, change),
      clock,
      random: systemRandom,
      log: log.child({ component: "review" }),
    }),
  );
  const merger = openMerger({
    directory: places.merger,
    git,
    source: (project) => review.source(project),
    log: log.child({ component: "merger" }),
  });
  const door = stack.use(
    openNodesDoor({
      git,
      repositories: merger.repositories,
      log: log.child({ component: "nodes-door" }),
    }),
  );
  const archive = openFileArchive({
    directory: places.archive,
    clock,
    log: log.child({ component: "archive" }),
  });
  const identity = await keptHostKey(join(places.keys, "executor"), `rackyard@${hostname()}`);
  const broker = openLate<Broker>("the broker");
  const pool = await openNodePool({
    store,
    clock,
    random: systemRandom,
    log: log.child({ component: "nodepool" }),
    scope,
    config: config.nodes,
    recipeDirectory: (recipe) => settings.absolute(recipe),
    authorizedKey: `${identity.publicKey} rackyard`,
    send: (hostId, message) => broker.get().sessions.send(hostId, message),
    onEvent(id, event, view) {
      if (event !== "gone" || !scheduler.there) return;
      const mark = { step: "node-deleted", atMs: clock.wallMs(), detail: view.label };
      note(log, scheduler.get().noteNode(id, mark));
    },
  });
  broker.set(
    stack.use(
      await openBroker({
        ...brokerFacts(around, config, store, archive),
        serverUrl: url,
        nodes: {
          async onHello(hello) {
            openDoor(scope, door, hello, config.server.nodesDoorPort, log);
            await pool.onHello(hello);
          },
          expected: (hello) => pool.claimed(hello.name),
          onConnected: (hostId) => pool.onConnected(hostId),
          onMessage: (hostId, message) => pool.onMessage(hostId, message),
          onDisconnected: (hostId) => pool.onDisconnected(hostId),
        },
        onEvent: (topic, subject, event, body) => {
          if (scheduler.there) tellBuild(scheduler.get(), { topic, subject, event, body }, log);
        },
      }),
    ),
  );
  const executor = stack.use(
    openExecutor({
      clock,
      random: systemRandom,
      log: log.child({ component: "executor" }),
      sink: archive,
      identityFile: join(places.keys, "executor"),
      runDirectory: places.executorRun,
      doorUrl: () => `${door.url() ?? ""}/git`,
    }),
  );
  const parts: Parts = { settings, review, broker: broker.get(), archive, scheduler };

  const status = (): Promise<object> =>
    statusView({
      places,
      config: { file: settings.file, profile: config.teHost.profile },
      startedAt,
      url,
      apiForNodes: () => door.url(),
      broker: broker.get(),
      scheduler,
    });
  /** Read and checked whole before anything of it is in force. */
  const reload = async (): Promise<{ layout: string; projects: number; jobs: number }> => {
    const next = await readSettings(around.globals, places);
    const nextLayout = await next.readLayout();
    settings = next;
    await pool.reconfigure(next.config.nodes);
    await review.setProjects([...nextLayout.projects.keys()]);
    await scheduler.get().reload(nextLayout);
    return {
      layout: next.layoutDirectory,
      projects: nextLayout.projects.size,
      jobs: nextLayout.jobs.size,
    };
  };
  api.set(
    stack.use(
      await openApiOf(around, parts, { feed, tokens, status, reload }, listeners.addresses),
    ),
  );
  await listeners.keep(api.get().urls);
  await review.setProjects([...layout.projects.keys()]);
  scheduler.set(
    await openScheduler({
      store,
      clock,
      random: systemRandom,
      log: log.child({ component: "scheduler" }),
      scope,
      reviews: new Map([[review.connection, review]]),
      merger,
      nodePool: pool,
      executor,
      archive,
      racks: openRackClient(places.apiSocket, log.child({ component: "racks" })),
      layout,
      urls: {
        build: (id) => `${url()}/builds/${id}`,
        logs: (path) => `${url()}/logs/${path}/`,
      },
      ensureProject: async (name) => void (await review.ensureRepository(name)),
      onEvent: () => undefined,
    }),
  );
  scope.spawn("housekeeping", (signal) => keepHouse({ review, archive, config, log }, signal));
  const opened = stack.move();
  return {
    urls: api.get().urls,
    reload,
    status,
    beginStop: () => broker.get().beginStop(),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function brokerFacts(
  { clock, log, leaseKey }: ServerSurroundings,
  config: Config,
  store: Store,
  archive: FileArchive,
) {
  return {
    store,
    clock,
    random: systemRandom,
    log: log.child({ component: "broker" }),
    config: {
      holderTtlMs: config.leases.holderTtlSeconds * 1_000,
      graceMs: config.leases.graceSeconds * 1_000,
      maxDurationMs: config.leases.maxDurationSeconds * 1_000,
    },
    tenant: "default",
    tokenKey: leaseKey,
    filesDirectory: leaseFilesDirectory(archive.directory),
    sessions: (handler: Parameters<typeof openHostSessions>[0]["handler"]) =>
      openHostSessions({
        handler,
        log: log.child({ component: "session" }),
        clock,
        authorise: () => true, // the API lets in only who comes through the socket file
      }),
  };
}

function openApiOf(
  { places, clock, log, store }: ServerSurroundings,
  { settings, broker, review, archive, scheduler }: Parts,
  more: {
    feed: ReturnType<typeof openEventFeed>;
    tokens: ReturnType<typeof openTokens>;
    status: () => Promise<object>;
    reload: () => Promise<{ layout: string; projects: number; jobs: number }>;
  },
  listen: readonly string[],
): Promise<Api> {
  const { server } = settings.config;
  return openApi({
    views: viewsOf({
      broker,
      review,
      archive,
      scheduler,
      feed: more.feed,
      tokens: more.tokens,
      reload: more.reload,
      status: more.status,
    }),
    answers: openAnswerStore(store, clock),
    log: log.child({ component: "api" }),
    version,
    listen,
    socketPath: places.apiSocket,
    anonymousRead: server.anonymousRead === "loopback",
    hostNames: server.url === undefined ? [] : [new URL(server.url).hostname],
    insecure: server.insecure,
  });
}

/** The door stands on the outer end of the cell's cable, which exists once the host does. */
function openDoor(scope: Scope, door: NodesDoor, hello: Hello, port: number, log: Log): void {
  if (door.url() !== undefined) return;
  scope.spawn("nodes' door", async (signal) => {
    const address = hello.testNetwork.machineIp;
    try {
      await door.listen(address, port, signal);
      log.info({ url: door.url() }, "the nodes' door is open");
    } catch (error) {
      if (!signal.aborted) log.error({ address, error: describeError(error) }, "no nodes' door");
    }
  });
}

/** What hosts and broker tell goes into the time line of the build that has the rack. */
function tellBuild(
  scheduler: Scheduler,
  told: { topic: string; subject: string; event: string; body: object },
  log: Log,
): void {
  const { topic, subject, event, body } = told;
  if (topic === "lease" && isHostEvent(body)) {
    const mark = markOfHostEvent(body);
    if (mark) note(log, scheduler.noteLease(subject, mark));
  } else if (topic === "testenv" && event === "certified" && isCertificate(body)) {
    if (body.lease !== null) note(log, scheduler.noteLease(body.lease, markOfCertificate(body)));
  }
}

function note(log: Log, noted: Promise<void>): void {
  noted.catch((error: unknown) => {
    log.error({ error: describeError(error) }, "a moment is missing in a time line");
  });
}

async function keepHouse(
  parts: { review: BuiltinReview; archive: FileArchive; config: Config; log: Log },
  signal: AbortSignal,
): Promise<void> {
  const { archive: keep } = parts.config;
  for (;;) {
    await pause(limits.housekeepingMs, signal);
    try {
      await parts.review.maintain(signal);
      await parts.archive.sweep(keep.keepDays, keep.maxGiB * 2 ** 30);
    } catch (error) {
      signal.throwIfAborted();
      parts.log.warn({ error: describeError(error) }, "housekeeping failed; tried again later");
    }
  }
}

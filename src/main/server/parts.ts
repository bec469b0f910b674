/**
 * Opens the server's parts in the order in which they need each other, and hands each what the
 * import table keeps it from reaching for itself. The API answers before the scheduler takes up
 * its builds, since builds lease their racks through it.
 */
import { join } from "node:path";
import { openApi } from "../../api/server.ts";
import type { Api } from "../../api/server.ts";
import { isRackyardError } from "../../base/errors.ts";
import { systemRandom } from "../../base/random.ts";
import { openTroubles } from "../../base/troubles.ts";
import type { Mark } from "../../ci/builds/record.ts";
import { openExecutor } from "../../ci/executor/executor.ts";
import { writeDefaultLayout } from "../../ci/layout/default-layout.ts";
import type { Layout } from "../../ci/layout/layout.ts";
import { openScheduler } from "../../ci/scheduler.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import { openAnswerStore } from "../answer-store.ts";
import { openEventFeed } from "../event-feed.ts";
import type { EventFeed } from "../event-feed.ts";
import { openBuildLeases } from "../build-leases.ts";
import { openTokens } from "../tokens.ts";
import type { Tokens } from "../tokens.ts";
import { version } from "../version.ts";
import type { Base, ServerSurroundings } from "./base.ts";
import { openChangeSide } from "./change-side.ts";
import type { ChangeSide } from "./change-side.ts";
import { openLate } from "./late.ts";
import { openLayoutInForce } from "./layout-in-force.ts";
import type { LayoutInForce } from "./layout-in-force.ts";
import type { Late } from "./late.ts";
import { openMetrics } from "./metrics.ts";
import type { Metrics } from "./metrics.ts";
import { chooseListeners } from "./ports.ts";
import { openRackSide, openTimeLines } from "./rack-side.ts";
import type { RackSide } from "./rack-side.ts";
import { keepRetention, storeSweeps } from "./retention.ts";
import type { Sweep } from "./retention.ts";
import { readSettings } from "./settings.ts";
import { markOfCertificate } from "./time-line.ts";
import { statusView } from "./status-view.ts";
import { viewsOf } from "./views.ts";

export type OpenServer = AsyncDisposable & {
  readonly urls: readonly string[];
  /** Everybody on this machine may read (`server.anonymousRead`). */
  readonly openToReaders: boolean;
  reload(): Promise<Reloaded>;
  status(): Promise<object>;
  /** Nobody loses a place in the queue by our stopping. */
  beginStop(): void;
};

type Reloaded = { readonly layout: string; readonly projects: number; readonly jobs: number };

/** Everything opened, before it is joined. */
type Parts = ChangeSide & RackSide & { readonly scheduler: Late<Scheduler> };

export async function openServerParts(around: ServerSurroundings): Promise<OpenServer> {
  const { places, clock } = around;
  const startedMs = clock.wallMs();
  const settings = await readSettings(around.globals, places);
  const { server } = settings.config;
  await writeDefaultLayout(settings.layoutDirectory);
  const inForce = openLayoutInForce(places.layoutInForce, around.log);
  const layout = await inForce.atStart(settings);
  const listeners = await chooseListeners(places, server.listen, settings.listenIsDefault);
  const metrics = openMetrics(around.store);
  const feed = await openEventFeed(metrics.store);
  const tokens = openTokens(feed.store, clock, systemRandom);
  await tokens.ensureAdmin(places.adminToken);

  await using stack = new AsyncDisposableStack();
  const scheduler = openLate<Scheduler>("the scheduler");
  const api = openLate<Api>("the API");
  const url = (): string => server.url ?? api.get().urls[0]!;
  const troubles = openTroubles({ log: around.log, wallMs: () => clock.wallMs() });
  const base: Base = { ...around, store: feed.store, settings, url, stack, troubles };
  const timeLines = openTimeLines(base);
  const changeSide = await openChangeSide(base);
  const rackSide = await openRackSide(base, changeSide, timeLines);
  const parts: Parts = { ...changeSide, ...rackSide, scheduler };
  const calls = {
    feed,
    metrics,
    tokens,
    status: () => statusOf(base, parts, inForce, startedMs),
    reload: () => reload(base, parts, inForce),
  };
  api.set(stack.use(await openApiOf(base, parts, calls, listeners.addresses)));
  await listeners.keep(api.get().urls);
  await parts.review.setProjects([...layout.projects.keys()]);
  scheduler.set(await openSchedulerOf(base, parts, layout));
  timeLines.give(scheduler.get());
  await inForce.accepted();
  const retentionLog = base.log.child({ component: "retention" });
  base.scope.spawn("retention", (signal) =>
    keepRetention(sweepsOf(base, parts), retentionLog, base.troubles, signal),
  );
  const opened = stack.move();
  return {
    urls: api.get().urls,
    openToReaders: server.anonymousRead === "loopback",
    reload: calls.reload,
    status: calls.status,
    beginStop: () => parts.broker.beginStop(),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

function openSchedulerOf(base: Base, parts: Parts, layout: Layout): Promise<Scheduler> {
  const { places, store, clock, log, scope, stack, url, troubles } = base;
  const { review, merger, pool, archive, door, broker } = parts;
  const executor = openExecutor({
    clock,
    random: systemRandom,
    log: log.child({ component: "executor" }),
    troubles,
    sink: archive,
    identityFile: join(places.keys, "executor"),
    runDirectory: places.executorRun,
    doorUrl: () => `${door.url() ?? ""}/git`,
  });
  stack.use(executor);
  return openScheduler({
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
    racks: openBuildLeases(() => broker.leases, log.child({ component: "racks" })),
    troubles,
    ends: { lease: (id) => endOfLease(broker, id), node: (id) => pool.ends(id) },
    layout,
    urls: {
      build: (id) => `${url()}/builds/${id}`,
      logs: (path) => `${url()}/logs/${path}/`,
    },
    ensureProject: async (name) => void (await review.ensureRepository(name)),
    onEvent: () => undefined, // /v1/events reads what is durable: event-feed.ts
  });
}

/** The reset of a lease's rack, once it is proved. */
async function endOfLease(broker: Parts["broker"], lease: string): Promise<Mark[]> {
  try {
    return [markOfCertificate(await broker.leases.certificate(lease))];
  } catch (error) {
    if (isRackyardError(error, "not-found")) return [];
    throw error;
  }
}

/** Read and checked whole before anything of it is in force. */
async function reload(
  base: Base,
  { pool, review, scheduler }: Parts,
  inForce: LayoutInForce,
): Promise<Reloaded> {
  const next = await readSettings(base.globals, base.places);
  const layout = await inForce.afresh(next);
  await pool.reconfigure(next.config.nodes);
  await review.setProjects([...layout.projects.keys()]);
  await scheduler.get().reload(layout);
  await inForce.accepted();
  return {
    layout: next.layoutDirectory,
    projects: layout.projects.size,
    jobs: layout.jobs.size,
  };
}

function statusOf(
  base: Base,
  parts: Parts,
  inForce: LayoutInForce,
  startedMs: number,
): Promise<object> {
  const { settings, places, url } = base;
  return statusView({
    places,
    config: { file: settings.file, profile: settings.config.teHost.profile },
    startedAt: startedMs,
    url,
    apiForNodes: () => parts.door.url(),
    broker: parts.broker,
    scheduler: parts.scheduler,
    layoutFault: inForce.fault(),
    troubles: base.troubles,
  });
}

function openApiOf(
  { places, settings, clock, log, store }: Base,
  parts: Parts,
  calls: {
    readonly feed: EventFeed;
    readonly metrics: Metrics;
    readonly tokens: Tokens;
    readonly status: () => Promise<object>;
    readonly reload: () => Promise<Reloaded>;
  },
  listen: readonly string[],
): Promise<Api> {
  const { server } = settings.config;
  return openApi({
    views: viewsOf({ ...parts, ...calls }),
    answers: openAnswerStore(store, clock),
    log: log.child({ component: "api" }),
    version,
    listen,
    socketPath: places.apiSocket,
    anonymousRead: server.anonymousRead === "loopback",
    ...reachedAs(server.url),
    insecure: server.insecure,
  });
}

/** A name that is reached by https is a proxy's: nobody reads by it without a token. */
function reachedAs(text: string | undefined): { hostNames: string[]; secure: boolean } {
  const url = text === undefined ? undefined : new URL(text);
  const secure = url?.protocol === "https:";
  return { hostNames: url && !secure ? [url.hostname] : [], secure };
}

/** What is old, in the order in which it frees most. */
function sweepsOf({ settings, store, clock }: Base, { review, archive, broker }: Parts): Sweep[] {
  const { leases, store: kept } = settings.config;
  return [
    {
      name: "logs",
      run: (signal) => archive.sweep(signal),
    },
    {
      name: "files of leases",
      run: (signal) =>
        broker.sweepFiles(clock.wallMs() - leases.keepFilesDays * 24 * 3600_000, signal),
    },
    ...storeSweeps(store, () => clock.wallMs(), kept),
    {
      name: "git repositories",
      async run(signal) {
        await review.maintain(signal);
        return { removed: 0, freedBytes: 0 };
      },
    },
  ];
}

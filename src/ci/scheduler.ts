/**
 * Joins the stages of a change's way, and only that: events in, pipelines, merger, builds,
 * reports out. What is decided is recorded by the turns (turns.ts), then it happens, even after a
 * kill: open() takes up items, builds and reports where they stand. What fails is tried again.
 */
import type { Clock } from "../base/clock.ts";
import { AssertionError } from "../base/assert.ts";
import { fail } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Scope } from "../base/scope.ts";
import type { ReviewEvent } from "../model/change.ts";
import { limits } from "../base/limits.ts";
import { untilDone } from "../base/retry.ts";
import type { Troubles } from "../base/troubles.ts";
import type { ReviewPort } from "../review/review-port.ts";
import type { Store, Tx } from "../store/store.ts";
import type { Archive, Executor, NodePool } from "./builds/build-ports.ts";
import type { EndRecords } from "./builds/completion.ts";
import { openBuildDriver } from "./builds/driver.ts";
import type { RackPort } from "./builds/rack-port.ts";
import type { Build, Mark } from "./builds/record.ts";
import { buildView, itemView, openBuildViews } from "./build-views.ts";
import type { Shown } from "./build-views.ts";
import { buildsetLife, votedMark } from "./buildset.ts";
import type { Urls } from "./buildset.ts";
import { enqueueEvents } from "./enqueue.ts";
import { prepareItem } from "./item-preparation.ts";
import { startMergeSweep } from "./merge-sweep.ts";
import type { Layout } from "./layout/layout.ts";
import type { Merger } from "./merger/merger.ts";
import type { PipelineEffect } from "./pipeline/pipeline.ts";
import { itemOf } from "./pipeline/item.ts";
import type { Item } from "./pipeline/item.ts";
import { openTurns } from "./turns.ts";
import { openOutbox } from "./report/outbox.ts";
import { startIntake } from "./trigger/intake.ts";

export type SchedulerOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly scope: Scope;
  /** By connection. */
  readonly reviews: ReadonlyMap<string, ReviewPort>;
  readonly merger: Pick<Merger, "prepare" | "sweep">;
  readonly nodePool: NodePool &
    Shown["nodePool"] & { reconcile(livingBuilds: ReadonlySet<string>): Promise<void> };
  readonly executor: Executor;
  readonly archive: Archive & Shown["archive"];
  readonly racks: RackPort;
  readonly layout: Layout;
  readonly urls: Urls;
  readonly fenceMs?: number;
  /** What fails just now and is tried again, for health and status. */
  readonly troubles: Troubles;
  /** What lease and node say of their own end, for time lines. */
  readonly ends: EndRecords;
  /** A project exists because the layout names it (surface.md §3). */
  readonly ensureProject: (name: string) => Promise<void>;
  readonly onEvent: (topic: "item" | "build", subject: string, event: string, body: object) => void;
};

export type Scheduler = Awaited<ReturnType<typeof openScheduler>>;

export async function openScheduler(options: SchedulerOptions) {
  const { store, clock, random, scope, executor } = options;
  let layout = options.layout;

  const driver = openBuildDriver({
    ...options,
    onStep(build, event) {
      const { id } = build.record.facts;
      options.onEvent("build", id, event, buildView(build, executor.pids));
    },
    onEnded: (build, evidence) =>
      scope.spawn(`end of ${build.record.facts.id}`, () => turns.ended(build, evidence)),
  });
  const views = openBuildViews(store, driver, options);
  const outbox = openOutbox({
    ...options,
    async onDelivered(report) {
      if (report.stage === "start") return;
      const mark = votedMark(report, clock.wallMs());
      for (const build of report.builds) await driver.note(build, mark);
    },
  });

  const turns = openTurns({
    ...options,
    driver,
    layout: () => layout,
    outbox: () => outbox,
    happen,
  });
  const { handle } = turns;

  const insist = openInsistence(options);

  /** After the commit: nothing here is lost by a kill, open() would do it again. */
  function happen(effects: readonly PipelineEffect[], builds: readonly Build[]): void {
    for (const build of builds) driver.start(build);
    for (const effect of effects) {
      if (effect.kind === "merge") merge(effect.item);
      else if (effect.kind === "cancel-build") cancel(effect.build, effect.why);
      else if (effect.kind === "report") outbox.wake();
      else if (effect.kind === "record") {
        const { item, event } = effect;
        options.onEvent("item", item.id, event, {
          pipeline: item.pipeline,
          outcome: item.outcome,
          ...itemView(item, driver),
        });
      }
    }
  }

  function merge(item: Item): void {
    scope.spawn(`merge of ${item.id}`, async (signal) => {
      const wanted = (): boolean => turns.state().items.has(item.id);
      const outcome = await insist("merging", () =>
        prepareItem(options, item, layout, wanted, signal),
      );
      if (!outcome) return;
      const event = { kind: "prepared", item: item.id, outcome } as const;
      await insist("recording queues", () => handle([event]));
    });
  }

  function cancel(build: string, why: string): void {
    scope.spawn(`cancel ${build}`, () => driver.stop(build, { kind: "superseded", why }));
  }

  async function reviewed(event: ReviewEvent, seen: (tx: Tx) => Promise<void>): Promise<void> {
    const review = options.reviews.get(event.connection)!;
    await handle(await enqueueEvents(event, { review, layout, random, clock }), seen);
  }

  async function adopt(next: Layout): Promise<void> {
    for (const name of next.projects.keys()) await options.ensureProject(name);
    await handle([{ kind: "reconfigured", rules: next.pipelines }], undefined, () => {
      layout = next;
    });
  }

  const pipelineViews = () =>
    [...layout.pipelines.values()].map(({ name, manager }) => ({
      name,
      manager,
      items: turns
        .state()
        .items.ofPipeline(name)
        .map((item) => itemView(item, driver)),
    }));

  /** Whose states the nodes may still fetch. */
  function livingBuildsets(): ReadonlySet<string> {
    const builds = driver.lives().map((build) => build.record.facts.buildset);
    const items = turns
      .state()
      .items.values()
      .map((item) => item.buildset.id);
    return new Set([...items, ...builds]);
  }

  /** Takes up what a former life of the server left (X-4, L6). */
  async function resume(): Promise<void> {
    const states = ["merging", "running"];
    const rows = await store.rows(buildsetLife, { states, limit: limits.queueItems });
    turns.begin(rows.map((row) => itemOf(row.body)));
    const living = await driver.resume();
    await insist("recording nodes", () => options.nodePool.reconcile(living));
    for (const { record: of } of driver.lives()) {
      const { id, item, buildset } = of.facts;
      const runs = turns.state().items.get(item ?? buildset)?.buildset.jobs ?? [];
      if (!runs.some((run) => run.current?.build === id)) cancel(id, "its item has left the queue");
    }
    await insist("taking up the layout", () => adopt(layout));
    for (const item of turns.state().items.values()) if (item.stage === "merging") merge(item);
  }

  await resume();
  for (const review of options.reviews.values()) {
    startIntake({ ...options, review, handle: reviewed });
  }
  startMergeSweep({ ...options, live: livingBuildsets });

  return {
    /** The API's `BuildViews`. */
    views: {
      ...views,
      async cancel(id: string, by: { readonly name: string }) {
        const { state: now } = await views.find(id);
        if (now === "archiving" || now === "reported") fail("conflict", `build ${id} is over`);
        await driver.stop(id, { kind: "cancelled", why: `cancelled by ${by.name}` });
        return views.get(id);
      },
      pipelines: () => Promise.resolve(pipelineViews()),
    },
    layout: (): Layout => layout,
    /** A layout that was checked; one that was not is refused before it comes here. */
    reload: adopt,
    /** What host and broker tell of a rack goes into the time line of the build that has it. */
    noteLease: (lease: string, mark: Mark): Promise<void> => driver.noteFor("lease", lease, mark),
    noteNode: (node: string, mark: Mark): Promise<void> => driver.noteFor("node", node, mark),
    /** Resolves when no decision is under way. */
    settled: turns.settled,
  };
}

/** Tries until it works or the server ends; our own mistakes end the program. */
function openInsistence({ scope, troubles }: Pick<SchedulerOptions, "scope" | "troubles">) {
  return <T>(what: string, act: () => Promise<T>): Promise<T> =>
    untilDone(what, act, {
      signal: scope.signal,
      troubles,
      firstMs: limits.pollMs,
      lastMs: limits.heartbeatMs,
      worth: (error) => !(error instanceof AssertionError),
    });
}

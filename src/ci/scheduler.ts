/**
 * Joins the stages of a change's way, and only that: events in, pipelines, merger, builds,
 * reports out. One turn after another: step the pipelines, record everything that the step
 * decides in one transaction, then let it happen. What is recorded happens even after a kill:
 * open() takes up items, builds and reports where they stand.
 */
import type { Clock } from "../base/clock.ts";
import { fail } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import type { Scope } from "../base/scope.ts";
import type { ReviewEvent } from "../model/change.ts";
import { limits } from "../base/limits.ts";
import { pause } from "../base/wait.ts";
import type { Evidence } from "../model/build.ts";
import type { ReviewPort } from "../review/review-port.ts";
import type { Store, Tx } from "../store/store.ts";
import type { Archive, Executor, NodePool } from "./builds/build-ports.ts";
import { openBuildDriver } from "./builds/driver.ts";
import type { RackPort } from "./builds/rack-port.ts";
import type { Build, Mark } from "./builds/record.ts";
import { buildView, itemView, openBuildViews } from "./build-views.ts";
import type { Shown } from "./build-views.ts";
import { buildFor, buildsetLife, buildsetState, endedBuild, reportsOf } from "./buildset.ts";
import type { Urls } from "./buildset.ts";
import { enqueueEvents } from "./enqueue.ts";
import { prepareItem } from "./item-preparation.ts";
import type { Layout } from "./layout/layout.ts";
import type { Merger } from "./merger/merger.ts";
import { emptyPipelines, stepPipelines } from "./pipeline/pipeline.ts";
import type { PipelineEffect, PipelineEvent, PipelineState } from "./pipeline/pipeline.ts";
import type { Item } from "./pipeline/item.ts";
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
  /** A project exists because the layout names it (surface.md §3). */
  readonly ensureProject: (name: string) => Promise<void>;
  readonly onEvent: (topic: "item" | "build", subject: string, event: string, body: object) => void;
};

export type Scheduler = Awaited<ReturnType<typeof openScheduler>>;

export async function openScheduler(options: SchedulerOptions) {
  const { store, clock, random, scope, executor } = options;
  let layout = options.layout;
  let state: PipelineState = emptyPipelines;
  let turn: Promise<unknown> = Promise.resolve();

  const driver = openBuildDriver({
    ...options,
    onStep(build, event) {
      const { id } = build.record.facts;
      options.onEvent("build", id, event, buildView(build, executor.pids));
    },
    onEnded: (build, evidence) =>
      scope.spawn(`end of ${build.record.facts.id}`, () => ended(build, evidence)),
  });
  const views = openBuildViews(store, driver, options);
  const outbox = openOutbox({
    ...options,
    async onDelivered(report) {
      if (report.stage === "start") return;
      const votes = report.votes.map(
        (vote) => `${vote.label} ${vote.value > 0 ? "+" : ""}${vote.value}`,
      );
      const mark = { step: "voted", atMs: clock.wallMs(), detail: votes.join(", ") };
      for (const build of report.builds) await driver.note(build, mark);
    },
  });

  /** One decision at a time, in the order asked for. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = turn.then(work);
    turn = next.catch(() => undefined);
    return next;
  }

  function step(events: readonly PipelineEvent[]): {
    after: PipelineState;
    effects: PipelineEffect[];
  } {
    let after = state;
    const effects: PipelineEffect[] = [];
    for (const event of events) {
      const one = stepPipelines(after, event, clock.wallMs());
      after = one.state;
      effects.push(...one.effects);
    }
    return { after, effects };
  }

  const handle = (events: readonly PipelineEvent[], withIt?: (tx: Tx) => Promise<void>) =>
    inTurn(async () => {
      const { after, effects } = step(events);
      const builds = makeBuilds(effects);
      if (effects.length > 0 || withIt) {
        await store.transaction(async (tx) => {
          await record(tx, effects, builds);
          await withIt?.(tx);
        });
      }
      happen(after, effects, builds);
    });

  /** A build is archived: its last step and what its item makes of it are one transaction. */
  const ended = (build: Build, evidence: readonly Evidence[]): Promise<void> =>
    inTurn(async () => {
      const { id, buildset } = build.record.facts;
      const over = endedBuild(build, evidence);
      const event = {
        kind: "build-ended",
        item: buildset,
        build: over,
        next: random.uuid4(),
      } as const;
      const { after, effects } = step([event]);
      const builds = makeBuilds(effects);
      await driver.report(id, evidence, (tx) => record(tx, effects, builds));
      happen(after, effects, builds);
    });

  function makeBuilds(effects: readonly PipelineEffect[]): Build[] {
    return effects
      .filter((effect) => effect.kind === "start-build")
      .map((effect) => {
        const precedence = layout.pipelines.get(effect.item.pipeline)?.precedence ?? "normal";
        return buildFor(effect, precedence, options.urls, clock.wallMs());
      });
  }

  async function record(tx: Tx, effects: readonly PipelineEffect[], builds: readonly Build[]) {
    const atMs = clock.wallMs();
    for (const effect of effects) {
      if (effect.kind === "record") {
        const { item, event } = effect;
        const before = state.items.get(item.id);
        const from = before ? buildsetState(before) : null;
        const to = buildsetState(item);
        await store.append(tx, buildsetLife, { id: item.id, from, event, to, body: item, atMs });
      } else if (effect.kind === "report") {
        const config = layout.pipelines.get(effect.item.pipeline);
        const reports = config ? reportsOf(effect, config) : [];
        for (const report of reports) await outbox.put(tx, report, atMs);
      }
    }
    for (const build of builds) await driver.create(tx, build);
  }

  /** After the commit: nothing here is lost by a kill, open() would do it again. */
  function happen(
    after: PipelineState,
    effects: readonly PipelineEffect[],
    builds: readonly Build[],
  ) {
    state = after;
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
      const wanted = (): boolean => state.items.has(item.id);
      const outcome = await prepareItem(options, item, layout, wanted, signal);
      if (outcome) await handle([{ kind: "prepared", item: item.id, outcome }]);
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
    layout = next;
    await handle([{ kind: "reconfigured", rules: next.pipelines }]);
  }

  const pipelineViews = () =>
    [...layout.pipelines.values()].map(({ name, manager }) => ({
      name,
      manager,
      items: [...state.items.values()]
        .filter((item) => item.pipeline === name)
        .map((item) => itemView(item, driver)),
    }));

  async function sweepMerges(signal: AbortSignal): Promise<void> {
    for (;;) {
      const builds = driver.lives().map((build) => build.record.facts.buildset);
      await options.merger.sweep(new Set([...state.items.keys(), ...builds]), signal);
      await pause(limits.mergerSweepMs, signal);
    }
  }

  /** Takes up what a former life of the server left (X-4, L6). */
  async function resume(): Promise<void> {
    const states = ["merging", "running"];
    const rows = await store.rows(buildsetLife, { states, limit: limits.queueItems });
    state = { ...state, items: new Map(rows.map((row) => [row.id, row.body])) };
    await options.nodePool.reconcile(await driver.resume());
    for (const { record: of } of driver.lives()) {
      const { id, buildset } = of.facts;
      const runs = state.items.get(buildset)?.jobs ?? [];
      if (!runs.some((run) => run.current?.build === id)) cancel(id, "its item has left the queue");
    }
    await adopt(layout);
    for (const item of state.items.values()) if (item.stage === "merging") merge(item);
  }

  await resume();
  for (const review of options.reviews.values()) {
    startIntake({ ...options, review, handle: reviewed });
  }
  scope.spawn("merger sweep", sweepMerges);

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
    settled: (): Promise<unknown> => turn,
  };
}

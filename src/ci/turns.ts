/**
 * The queues' turns: one decision after another. Each steps the pipelines, records everything
 * that the step decides in one transaction, then lets it happen. What could not be recorded has
 * not happened: the state is as it was, and whoever asked asks again.
 */
import type { Clock } from "../base/clock.ts";
import type { Random } from "../base/random.ts";
import type { Evidence } from "../model/build.ts";
import type { Store, Tx } from "../store/store.ts";
import type { BuildDriver } from "./builds/driver.ts";
import type { Build } from "./builds/record.ts";
import { buildFor, buildsetLife, buildsetState, endedBuild, reportsOf } from "./buildset.ts";
import type { Urls } from "./buildset.ts";
import type { Layout } from "./layout/layout.ts";
import type { Item } from "./pipeline/item.ts";
import { emptyPipelines, stepPipelines } from "./pipeline/pipeline.ts";
import type { PipelineEffect, PipelineEvent, PipelineState } from "./pipeline/pipeline.ts";
import { queuesOf, settle } from "./pipeline/queues.ts";
import type { Outbox } from "./report/outbox.ts";

export type Turns = ReturnType<typeof openTurns>;

export function openTurns(options: {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly urls: Urls;
  readonly layout: () => Layout;
  readonly driver: Pick<BuildDriver, "create" | "report">;
  readonly outbox: () => Pick<Outbox, "put">;
  /** After the commit: nothing here is lost by a kill, the next start does it again. */
  readonly happen: (effects: readonly PipelineEffect[], builds: readonly Build[]) => void;
}) {
  const { store, clock, random, layout, driver } = options;
  let state: PipelineState = emptyPipelines();
  let turn: Promise<unknown> = Promise.resolve();

  /** One decision at a time, in the order asked for. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const next = turn.then(work);
    turn = next.catch(() => undefined);
    return next;
  }

  function decide(events: readonly PipelineEvent[]) {
    let after = state;
    const effects: PipelineEffect[] = [];
    for (const event of events) {
      const one = stepPipelines(after, event, clock.wallMs());
      after = one.state;
      effects.push(...one.effects);
    }
    return { after, effects, builds: makeBuilds(effects) };
  }

  function makeBuilds(effects: readonly PipelineEffect[]): Build[] {
    return effects
      .filter((effect) => effect.kind === "start-build")
      .map((effect) => {
        const precedence = layout().pipelines.get(effect.item.pipeline)?.precedence ?? "normal";
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
        const config = layout().pipelines.get(effect.item.pipeline);
        const reports = config ? reportsOf(effect, config) : [];
        for (const report of reports) await options.outbox().put(tx, report, atMs);
      }
    }
    for (const build of builds) await driver.create(tx, build);
  }

  function done({ after, effects, builds }: ReturnType<typeof decide>): void {
    state = { ...after, items: settle(after.items) };
    options.happen(effects, builds);
  }

  return {
    state: (): PipelineState => state,
    /** What a former life left. */
    begin(items: readonly Item[]): void {
      state = { ...state, items: queuesOf(items) };
    },
    /** `withIt` is recorded in the same transaction; `onRecorded` comes before what follows. */
    handle: (
      events: readonly PipelineEvent[],
      withIt?: (tx: Tx) => Promise<void>,
      onRecorded?: () => void,
    ): Promise<void> =>
      inTurn(async () => {
        const decided = decide(events);
        const { effects, builds } = decided;
        if (effects.length > 0 || withIt) {
          await store.transaction(async (tx) => {
            await record(tx, effects, builds);
            await withIt?.(tx);
          });
        }
        onRecorded?.();
        done(decided);
      }),
    /** A build is archived: its last step and what its item makes of it are one transaction. */
    ended: (build: Build, evidence: readonly Evidence[]): Promise<void> =>
      inTurn(async () => {
        const { id, item, buildset } = build.record.facts;
        const decided = decide([
          {
            kind: "build-ended",
            item: item ?? buildset,
            build: endedBuild(build, evidence),
            next: random.uuid4(),
          },
        ]);
        await driver.report(id, evidence, (tx) => record(tx, decided.effects, decided.builds));
        done(decided);
      }),
    /** Resolves when no decision is under way. */
    settled: (): Promise<unknown> => turn,
  };
}

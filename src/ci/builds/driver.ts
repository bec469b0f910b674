/**
 * Performs the saga of each build: record the step, then do its effects, whose end is the next
 * event (docs/specs/build.md). One build's events are handled one after another. After a kill it
 * takes up every build that is not over and does its state's work again. What a result means for
 * the change is the pipeline's; how a step is done the executor's, node pool's, archive's.
 */
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { present } from "../../base/assert.ts";
import { retry } from "../../base/retry.ts";
import type { Tx } from "../../store/store.ts";
import { openAcquisition } from "./acquisition.ts";
import { stepBuild } from "./build-life.ts";
import type { BuildEffect, BuildEvent } from "./build-life.ts";
import type { ExecutorJob, ReadyNode, StepOutcome } from "./build-ports.ts";
import type { DriverOptions, Live } from "./live.ts";
import { openRackSide } from "./rack-side.ts";
import { buildLife } from "./record.ts";
import type { Build, BuildRecord, Mark, Stop } from "./record.ts";
import { buildTimeline } from "./timeline.ts";

export type BuildDriver = ReturnType<typeof openBuildDriver>;

export function openBuildDriver(options: DriverOptions) {
  const { store, clock, log, scope, nodePool, executor, archive } = options;
  const lives = new Map<string, Live>();
  const recent = new Map<string, string>();
  /** One after another: each is made from the row before it. */
  let notes: Promise<void> = Promise.resolve();
  const acquisition = openAcquisition(options);
  const rackSide = openRackSide(options, { post, acquisition, returnNode });

  /** Handles an event of a build after those before it; resolves when it is recorded. */
  function post(id: string, event: BuildEvent): Promise<void> {
    const live = lives.get(id);
    if (!live) return Promise.resolve();
    const next = live.tail.then(() => apply(live, event));
    live.tail = next.catch(() => undefined);
    return next;
  }

  async function apply(live: Live, event: BuildEvent): Promise<void> {
    if (scope.closed) return;
    const before = live.build;
    const step = stepBuild(before, event, clock.wallMs());
    if (step.build !== before) {
      await store.transaction((tx) => append(tx, before.state, event.kind, step.build));
      live.build = step.build;
      options.onStep(step.build, event.kind);
    }
    if (step.build.state !== "acquiring") acquisition.leave(live.id);
    for (const effect of step.effects) perform(live, effect);
  }

  function append(tx: Tx, from: Build["state"] | null, event: string, build: Build) {
    const { state: to, record: body } = build;
    return store.append(tx, buildLife, {
      id: body.facts.id,
      from,
      event,
      to,
      body,
      atMs: clock.wallMs(),
    });
  }

  /** Each effect ends in an event, or is tried again; a closing scope leaves it for the restart. */
  function perform(live: Live, effect: BuildEffect): void {
    const { id } = live;
    const what = `build ${id} ${effect}`;
    scope.spawn(what, async (signal) => {
      try {
        await effects[effect](live, signal);
      } catch (error) {
        if (signal.aborted) return;
        log.error({ build: id, effect, err: error }, "a build's step failed");
        throw error;
      }
    });
  }

  const effects: Readonly<Record<BuildEffect, (live: Live, signal: AbortSignal) => Promise<void>>> =
    {
      ask: rackSide.ask,
      acquire: rackSide.acquire,
      prepare: (live, signal) =>
        onNode(live, signal, async (job) => {
          await archive.begin(live.build.record.facts);
          return executor.prepare(job, cutBy(live, signal));
        }),
      run: (live, signal) => onNode(live, signal, (job) => executor.run(job, cutBy(live, signal))),
      collect: async (live, signal) => {
        const { record } = live.build;
        await rackSide.recover(live);
        const after = record.run ?? record.prepare ?? { kind: "aborted" };
        const how: StepOutcome = record.stop ? { kind: "aborted" } : after;
        await onNode(live, signal, async (job) => {
          await archive.begin(record.facts);
          return executor.collect(job, how, signal);
        });
      },
      release: async (live, signal) => {
        const { node, facts } = live.build.record;
        const interruptions = await rackSide.release(live, signal);
        if (node) await returnNode(node);
        await post(facts.id, { kind: "released", interruptions });
      },
      archive: async (live, signal) => {
        const { record } = live.build;
        const { facts } = record;
        const evidence = await insist(signal, "archive not finished", async () => {
          await archive.begin(facts);
          if (record.errorDetail) archive.say(facts.id, `${record.result}: ${record.errorDetail}`);
          const lease = record.rack && record.lease ? { id: record.lease } : null;
          const timeline = buildTimeline(record);
          const ending = { result: record.result!, lease, timeline };
          return (await archive.finish(facts, ending, signal)).evidence;
        });
        options.onEnded(live.build, evidence);
      },
      abort: (live) => Promise.resolve(live.abort.abort()),
      "release-rack": (live) => rackSide.giveBack(live),
    };

  /** The build is stopped, or the server ends. */
  const cutBy = (live: Live, signal: AbortSignal): AbortSignal =>
    AbortSignal.any([live.abort.signal, signal]);

  /** One step of the executor; what it throws is an executor that died (F-0). */
  async function onNode(
    live: Live,
    signal: AbortSignal,
    step: (job: ExecutorJob) => Promise<StepOutcome>,
  ): Promise<void> {
    const { facts, node } = live.build.record;
    const { state } = live.build;
    const job = { facts, node: present(node, `node of build ${facts.id}`), lease: live.held };
    const outcome = await step(job).catch((error: unknown): StepOutcome => {
      if (!signal.aborted) log.warn({ build: facts.id, err: error }, `${state} broke off`);
      return { kind: "unreachable", detail: describeError(error) };
    });
    if (signal.aborted) return;
    await post(facts.id, { kind: "stepped", outcome });
  }

  async function returnNode(node: ReadyNode): Promise<void> {
    const what = `node ${node.id} not given back`;
    await insist(scope.signal, what, () => nodePool.release(node.id));
    acquisition.nodeReturned(node.label);
  }

  function insist<T>(signal: AbortSignal, what: string, act: () => Promise<T>): Promise<T> {
    const attempt = (): Promise<T> =>
      act().catch((error: unknown) => {
        if (!signal.aborted) log.warn({ detail: describeError(error) }, what);
        throw error;
      });
    return retry(attempt, { tries: Number.MAX_SAFE_INTEGER, signal, firstMs: limits.pollMs });
  }

  /** A moment for the time line: told by a host or of a report; the same one counts once. */
  function note(id: string, mark: Mark): Promise<void> {
    if (lives.has(id)) return post(id, { kind: "noted", mark });
    const next = notes.then(() => noteEnded(id, mark));
    notes = next.catch(() => undefined);
    return next;
  }

  async function noteEnded(id: string, mark: Mark): Promise<void> {
    const row = await store.row(buildLife, id);
    if (!row) return;
    const over = { state: "reported", record: row.body } as const;
    const { build } = stepBuild(over, { kind: "noted", mark }, clock.wallMs());
    if (build === over) return;
    await store.transaction((tx) => append(tx, "reported", "noted", build));
    options.onStep(build, "noted");
  }

  /** What a build that is over had: a reset and a node's end come later. */
  function remember({ facts, lease, node }: BuildRecord): void {
    if (lease) recent.set(`lease ${lease}`, facts.id);
    if (node) recent.set(`node ${node.id}`, facts.id);
    for (const oldest of recent.keys()) {
      if (recent.size <= limits.recentBuilds) break;
      recent.delete(oldest);
    }
  }

  function adopt(build: Build): Live {
    const live: Live = {
      id: build.record.facts.id,
      build,
      asked: null,
      view: null,
      held: null,
      refused: null,
      abort: new AbortController(),
      watching: null,
      tail: Promise.resolve(),
    };
    lives.set(live.id, live);
    return live;
  }

  return {
    /** Records a new build in the caller's transaction; {@link start} after the commit. */
    create: (tx: Tx, build: Build) => append(tx, null, "created", build),
    start(build: Build): void {
      const live = adopt(build);
      options.onStep(build, "created");
      perform(live, "ask");
    },
    stop: (id: string, stop: Stop): Promise<void> => post(id, { kind: "stop", stop }),
    note,
    /** For the builds that have, or lately had, this lease or node; a moment comes once. */
    async noteFor(what: "lease" | "node", id: string, mark: Mark): Promise<void> {
      for (const live of lives.values()) {
        const { record } = live.build;
        const has = what === "lease" ? record.lease : (record.node?.id ?? null);
        if (has === id) return note(live.id, mark);
      }
      const ended = recent.get(`${what} ${id}`);
      if (ended !== undefined) await note(ended, mark);
    },
    /** The last step, in one transaction with what its buildset makes of it. */
    report(
      id: string,
      evidence: BuildRecord["evidence"],
      withIt: (tx: Tx) => Promise<void>,
    ): Promise<void> {
      const live = present(lives.get(id), `build ${id}`);
      const next = live.tail.then(async () => {
        const before = live.build;
        const { build } = stepBuild(before, { kind: "reported", evidence }, clock.wallMs());
        await store.transaction(async (tx) => {
          await append(tx, before.state, "reported", build);
          await withIt(tx);
        });
        live.build = build;
        remember(build.record);
        lives.delete(id);
        live.watching?.abort();
        options.onStep(build, "reported");
      });
      live.tail = next.catch(() => undefined);
      return next;
    },
    /** At the start: every build that is not over goes on from its state. */
    async resume(): Promise<ReadonlySet<string>> {
      const states = Object.keys(resumable) as (keyof typeof resumable)[];
      const rows = await store.rows(buildLife, { states, limit: limits.pageItems * 100 });
      for (const row of rows) {
        const live = adopt({ state: row.state as Build["state"], record: row.body });
        const { node } = row.body;
        if (node) acquisition.nodeInUse(node.label);
        await post(live.id, { kind: "restarted" });
      }
      return new Set(rows.filter((row) => row.body.node !== null).map((row) => row.id));
    },
    live: (id: string): Build | undefined => lives.get(id)?.build,
    lives: (): Build[] => [...lives.values()].map((live) => live.build),
    /** Why a build waits, in words; null if it does not. */
    why: (id: string): string | null => acquisition.why(id) ?? lives.get(id)?.refused ?? null,
  };
}

const resumable = {
  waiting: 1,
  acquiring: 1,
  preparing: 1,
  running: 1,
  collecting: 1,
  releasing: 1,
  archiving: 1,
};

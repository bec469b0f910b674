/**
 * Performs the saga of each build: record the step, then do its effects, whose end is the next
 * event (docs/specs/build.md). One build's events are handled one after another. After a kill it
 * takes up every build that is not over and does its state's work again. What a result means for
 * the change is the pipeline's; how a step is done the executor's, node pool's, archive's.
 */
import { limits } from "../../base/limits.ts";
import { present } from "../../base/assert.ts";
import { untilDone } from "../../base/retry.ts";
import type { Tx } from "../../store/store.ts";
import { openAcquisition } from "./acquisition.ts";
import { stepBuild } from "./build-life.ts";
import type { BuildEffect, BuildEvent } from "./build-life.ts";
import type { ExecutorJob, ReadyNode, StepOutcome } from "./build-ports.ts";
import { openCompletion } from "./completion.ts";
import type { DriverOptions, Live } from "./live.ts";
import { stepLimitMs, stepOnNode } from "./node-steps.ts";
import type { NodeStep } from "./node-steps.ts";
import { openRackSide } from "./rack-side.ts";
import { buildLife } from "./record.ts";
import type { Build, BuildRecord, Mark, Stop } from "./record.ts";
import { buildTimeline } from "./timeline.ts";

export type BuildDriver = ReturnType<typeof openBuildDriver>;

export function openBuildDriver(options: DriverOptions) {
  const { store, clock, log, scope, nodePool, executor, archive } = options;
  const lives = new Map<string, Live>();
  /** One after another: each is made from the row before it. */
  let notes: Promise<void> = Promise.resolve();
  const acquisition = openAcquisition(options);
  const completion = openCompletion({ ...options, note });
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
      await durably((tx) => append(tx, before.state, event.kind, step.build));
      live.build = step.build;
      options.onStep(step.build, event.kind);
    }
    if (step.build.state !== "acquiring") acquisition.leave(live.id);
    for (const effect of step.effects) perform(live, effect);
  }

  /** Records, however long the store is away: until then nothing follows from the step. */
  const durably = (work: (tx: Tx) => Promise<unknown>): Promise<void> =>
    insist(scope.signal, "recording builds", async () => {
      await store.transaction(work);
    });

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
        onNode(live, "prepare", cutBy(live, signal), (job, stop) => executor.prepare(job, stop)),
      run: (live, signal) =>
        onNode(live, "run", cutBy(live, signal), (job, stop) => executor.run(job, stop)),
      collect: async (live, signal) => {
        const { record } = live.build;
        const after = record.run ?? record.prepare ?? { kind: "aborted" };
        const how: StepOutcome = record.stop ? { kind: "aborted" } : after;
        const cut = AbortSignal.any([live.hurry.signal, signal]);
        await rackSide.prolong(live);
        await onNode(live, "collect", cut, (job, stop) => executor.collect(job, how, stop));
      },
      release: async (live, signal) => {
        const { node, facts } = live.build.record;
        const interruptions = await rackSide.release(live, signal);
        const asked = () => (node ? nodePool.lost(node.id) : Promise.resolve(undefined));
        const nodeLost = (await insist(signal, "looking at nodes", asked)) ?? null;
        if (node) await returnNode(node);
        await post(facts.id, { kind: "released", interruptions, nodeLost });
      },
      archive: async (live, signal) => {
        const { record } = live.build;
        const { facts } = record;
        const evidence = await insist(signal, "archiving builds", async () => {
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
      hurry(live, signal) {
        const timer = clock.after(limits.cancelledCollectMs, () => live.hurry.abort());
        signal.addEventListener("abort", () => timer.cancel(), { once: true });
        return Promise.resolve();
      },
      "release-rack": (live) => rackSide.giveBack(live),
    };

  /** The build is stopped, or the server ends. */
  const cutBy = (live: Live, signal: AbortSignal): AbortSignal =>
    AbortSignal.any([live.abort.signal, signal]);

  /** One step of the executor, with its rack as it was before a restart. */
  async function onNode(
    live: Live,
    step: NodeStep,
    stop: AbortSignal,
    act: (job: ExecutorJob, stop: AbortSignal) => Promise<StepOutcome>,
  ): Promise<void> {
    const { facts, node } = live.build.record;
    const { resumed } = live;
    const of = { build: facts.id, step, limitMs: stepLimitMs(step, facts) };
    const outcome = await stepOnNode(
      options,
      of,
      async (cut) => {
        await insist(cut, "the archive", () => archive.begin(facts));
        const there = await rackSide.recover(live, cut);
        if (!there && step !== "collect") return { kind: "lost", detail: "its rack is gone" };
        const job = { facts, node: present(node, `node of build ${facts.id}`), lease: live.held };
        return act({ ...job, resumed }, cut);
      },
      stop,
    );
    if (scope.closed) return;
    live.resumed = false;
    await post(facts.id, { kind: "stepped", outcome });
  }

  async function returnNode(node: ReadyNode): Promise<void> {
    await insist(scope.signal, "giving nodes back", () => nodePool.release(node.id));
    acquisition.nodeReturned(node.label);
  }

  /** Every effect comes to its end: it is tried until it works, and alarms meanwhile. */
  function insist<T>(signal: AbortSignal, what: string, act: () => Promise<T>): Promise<T> {
    const pauses = { firstMs: limits.pollMs, lastMs: limits.heartbeatMs };
    return untilDone(what, act, { signal, troubles: options.troubles, ...pauses });
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
    await durably((tx) => append(tx, "reported", "noted", build));
    options.onStep(build, "noted");
  }

  /** Time lines that lack their last moments: a former life of the server did not hear them. */
  async function rememberEnded(): Promise<void> {
    const states = ["reported"];
    const query = { states, limit: limits.timelineResume, newestFirst: true } as const;
    const rows = await store.rows(buildLife, query);
    for (const row of rows.toReversed()) completion.remember(row.body);
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
      hurry: new AbortController(),
      resumed: false,
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
      const ended = completion.owner(what, id);
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
        await durably(async (tx) => {
          await append(tx, before.state, "reported", build);
          await withIt(tx);
        });
        live.build = build;
        completion.remember(build.record);
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
        live.resumed = onNodeStates.has(row.state);
        await post(live.id, { kind: "restarted" });
      }
      await rememberEnded();
      return new Set(rows.filter((row) => row.body.node !== null).map((row) => row.id));
    },
    live: (id: string): Build | undefined => lives.get(id)?.build,
    lives: (): Build[] => [...lives.values()].map((live) => live.build),
    /** Why a build waits, in words; null if it does not. */
    why: (id: string): string | null => acquisition.why(id) ?? lives.get(id)?.refused ?? null,
  };
}

/** A step on the node is under way. */
const onNodeStates: ReadonlySet<string> = new Set(["preparing", "running", "collecting"]);

const resumable = {
  waiting: 1,
  acquiring: 1,
  preparing: 1,
  running: 1,
  collecting: 1,
  releasing: 1,
  archiving: 1,
};

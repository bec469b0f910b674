/**
 * One TE's life being lived. What to do is life.ts', how is the rack's (rack-port.ts). An event
 * moves the life at once; steps are recorded in their order, and what gives (credentials, a
 * report, a reset's proof) follows the record (L6). What takes away, the fence, does not wait:
 * a disk that is full keeps no dead lease's key alive. A record that cannot be written is tried
 * again until it is there, and the TE goes no further until then. Stopped at any point, a new
 * actor on the same record goes on.
 */
import { assertNever } from "../base/assert.ts";
import { pauseOn } from "../base/clock.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { describeError, isRackyardError, RackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { systemRandom } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import { backoffMs, untilDone } from "../base/retry.ts";
import type { Troubles } from "../base/troubles.ts";
import { resume, step } from "./life.ts";
import type { RackPort } from "./rack-port.ts";
import type { TestenvRecords, TestenvStep } from "./record.ts";
import { gives, openTerms } from "./testenv-state.ts";
import type { Deadline, Effect, Terms, Testenv, TestenvEvent } from "./testenv-state.ts";

/** What a life wants of its surroundings besides the rack. */
export type ActorWork = Pick<RackPort, "open" | "extend" | "fence" | "reset" | "remove"> & {
  /** Parts are missing: have a pass made soon. */
  wantPass(): void;
  /** Something of it changed: the broker is to hear of it as it then is. */
  report(te: Testenv): void;
  /** It is in a holder's hands from now on. */
  handOver(te: Testenv): void;
};

export type Actor = {
  /** As it is now: what a gate may still allow. Its last steps may not be recorded yet. */
  readonly testenv: Testenv;
  /** What may be said of it: nothing that gives before it is recorded (L6). */
  readonly told: Testenv;
  /** Resolves when the event is recorded and its effects have begun. */
  post(event: TestenvEvent): Promise<void>;
  /** What a record found at start still needs; a new world first meets `rebooted`. Once for each
   * agent, a quarantined TE is reset anew. */
  start(newWorld: boolean): Promise<void>;
  /** Effects are abandoned as they are; the record says what to do about them. */
  close(): Promise<void>;
};

type Step = TestenvStep & {
  readonly before: Testenv;
  readonly effects: readonly Effect[];
  readonly settled: PromiseWithResolvers<void>;
};
type Task = { readonly stop: AbortController; readonly done: Promise<void> };

export function openActor(options: {
  readonly testenv: Testenv;
  readonly records: TestenvRecords;
  readonly work: ActorWork;
  readonly clock: Clock;
  /** Of the pauses between tries; by default the machine's. */
  readonly random?: Pick<Random, "fraction">;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  /** Our own mistake: the program must end. */
  readonly onCrash: (error: unknown) => void;
}): Actor {
  const { records, work, clock, troubles, random = systemRandom } = options;
  const fraction = (): number => random.fraction();
  const { number } = options.testenv;
  let te = options.testenv;
  let recorded = options.testenv;
  const steps: Step[] = [];
  let running: Promise<void> | undefined;
  let deadlineTimer: Timer | undefined;
  let retryTimer: Timer | undefined;
  let task: Task | undefined;
  const closing = new AbortController();

  function post(event: TestenvEvent): Promise<void> {
    if (closing.signal.aborted) return Promise.resolve();
    const before = te;
    const settled = Promise.withResolvers<void>();
    settled.promise.catch(() => undefined);
    try {
      const next = step(before, event);
      te = next.testenv;
      const takesAway = next.effects.some(({ kind }) => kind === "fence");
      const effects = next.effects.filter(({ kind }) => kind !== "fence");
      steps.push({ before, event: event.kind, after: te, effects, settled });
      if (takesAway) fence();
      // The key is there: its end waits for no record either (L7).
      const { phase } = te;
      if (phase.state === "leased" && before.phase.state !== "leased") {
        watchDeadline(phase.terms, phase.deadline);
      }
      running ??= drain();
    } catch (error) {
      settled.reject(error);
      options.onCrash(error);
    }
    return settled.promise;
  }

  async function drain(): Promise<void> {
    // What is posted in this turn of the event loop shares the transaction.
    await Promise.resolve();
    while (steps.length > 0 && !closing.signal.aborted) await settle(steps.splice(0));
    running = undefined;
  }

  async function settle(batch: readonly Step[]): Promise<void> {
    const changed = batch.filter(({ before, after }) => differ(before, after));
    try {
      if (changed.length > 0) await record(changed);
      for (const one of batch) {
        for (const effect of one.effects) if (!closing.signal.aborted) doOne(effect);
        one.settled.resolve();
      }
    } catch (error) {
      const stopping = closing.signal.aborted;
      const why = stopping ? new RackyardError("unavailable", "the agent is stopping") : error;
      for (const one of batch) one.settled.reject(why);
      if (!stopping) options.onCrash(error);
    }
  }

  async function record(changed: readonly Step[]): Promise<void> {
    const { signal } = closing;
    await untilDone(`the record of te${number}`, () => records.save(changed), {
      signal,
      troubles,
      clock,
      fraction,
      firstMs: limits.recordRetryFirstMs,
      lastMs: limits.recordRetryLastMs,
    });
    recorded = changed.at(-1)!.after;
  }

  /** Does what still applies: an event that came meanwhile may have taken the ground away. */
  function doOne(effect: Effect): void {
    switch (effect.kind) {
      case "provision":
        return work.wantPass();
      case "open":
        return openTerms(te)?.epoch === effect.terms.epoch ? open(effect.terms) : undefined;
      case "fence":
        return fence();
      case "reset":
        return te.phase.state === "resetting" ? reset() : undefined;
      case "remove":
        return te.phase.state === "removing" ? begin(removeUntilDone, () => undefined) : undefined;
      case "extend":
        return leased(effect.terms) ? extend(effect.terms, effect.deadline) : undefined;
      case "hand-over":
        return leased(effect.terms) ? work.handOver(te) : undefined;
      case "watch-deadline":
        return leased(effect.terms) ? watchDeadline(effect.terms, effect.deadline) : undefined;
      case "retry-after":
        retryTimer?.cancel();
        retryTimer = clock.after(effect.ms, () => void post({ kind: "retry" }));
        return undefined;
      case "report":
        return work.report(te);
      default:
        return assertNever(effect, "effect");
    }
  }

  const leased = (terms: Terms): boolean =>
    te.phase.state === "leased" && te.phase.terms.epoch === terms.epoch;

  function open(terms: Terms): void {
    begin(
      async (signal) => {
        const deadline = await work.open(te, terms, signal);
        return { kind: "opened", epoch: terms.epoch, deadline };
      },
      (error) => ({ kind: "open-failed", epoch: terms.epoch, detail: describeError(error) }),
    );
  }

  function reset(): void {
    begin(
      async (signal) => ({ kind: "proved", certificate: await work.reset(te, signal) }),
      (error) => ({
        kind: "reset-failed",
        detail: describeError(error),
        ofHost: isRackyardError(error, "no-space"),
      }),
    );
  }

  /** A key line of a later deadline is an addition: until it stands the old one holds. */
  function extend(terms: Terms, deadline: Deadline): void {
    const what = `the key of te${number} for a later deadline`;
    untilDone(what, () => (leased(terms) ? work.extend(te, terms, deadline) : Promise.resolve()), {
      signal: closing.signal,
      troubles,
      clock,
      fraction,
    }).catch(() => undefined); // closing
  }

  /**
   * At once, and until it stands: whatever else was being done for the TE is told to stop, and
   * the fence is raised a second time when it has, so that an opening cannot outrun it.
   */
  function fence(): void {
    const before = task;
    before?.stop.abort();
    const stop = new AbortController();
    const raise = (): Promise<void> =>
      untilDone(`the fence of te${number}`, () => work.fence(te), {
        signal: stop.signal,
        troubles,
        clock,
        fraction,
        firstMs: limits.fenceRetryFirstMs,
        lastMs: limits.fenceRetryLastMs,
      });
    const done = (async () => {
      await raise();
      const endedAt = new Date(clock.wallMs()).toISOString();
      if (before) {
        await before.done;
        await raise();
      }
      if (!stop.signal.aborted) void post({ kind: "fenced", endedAt });
    })().catch(() => undefined); // aborted: a later task took over
    task = { stop, done };
  }

  /** One long task at a time: a new one ends the old one, whose outcome no longer counts. */
  function begin(
    run: (signal: AbortSignal) => Promise<TestenvEvent>,
    failed: (error: unknown) => TestenvEvent | undefined,
  ): void {
    const before = task;
    before?.stop.abort();
    const stop = new AbortController();
    const done = (async () => {
      await before?.done;
      if (stop.signal.aborted) return;
      const outcome = await run(stop.signal).catch(failed);
      if (outcome && !stop.signal.aborted) void post(outcome);
    })();
    task = { stop, done };
  }

  async function removeUntilDone(signal: AbortSignal): Promise<TestenvEvent> {
    const { removeTries } = limits;
    for (let tries = 1; ; tries++) {
      try {
        await work.remove(te, signal);
        return { kind: "removed" };
      } catch (error) {
        signal.throwIfAborted();
        if (tries >= removeTries) throw error;
        await pauseOn(clock, backoffMs(tries, undefined, undefined, fraction), signal);
      }
    }
  }

  function watchDeadline(terms: Terms, deadline: Deadline): void {
    deadlineTimer?.cancel();
    const leftMs = deadline.monoMs - clock.monoMs();
    deadlineTimer = clock.after(Math.max(0, leftMs), () => {
      void post({ kind: "deadline", epoch: terms.epoch });
    });
  }

  return {
    get testenv() {
      return te;
    },
    get told() {
      return gives(te.phase) && differ(te, recorded) ? recorded : te;
    },
    post,
    async start(newWorld) {
      if (newWorld) await post({ kind: "rebooted" });
      else for (const effect of resume(te)) doOne(effect);
      // H-8.5: what kept it from a proof may be gone with the agent or the machine that was
      if (te.phase.state === "quarantined") await post({ kind: "order-reset" });
    },
    async close() {
      closing.abort();
      deadlineTimer?.cancel();
      retryTimer?.cancel();
      task?.stop.abort();
      await running;
      await task?.done;
    },
  };
}

function differ(before: Testenv, after: Testenv): boolean {
  return before !== after && JSON.stringify(before) !== JSON.stringify(after);
}

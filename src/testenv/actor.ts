/**
 * One TE's life being lived: takes events one after another, records each step before anything
 * is done about it (L6), then has the effects done and posts their outcome as events. What to do
 * is life.ts', how is the rack's. Stopped at any point, a new actor on the same record goes on.
 */
import { assertNever } from "../base/assert.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { backoffMs } from "../base/retry.ts";
import { pause } from "../base/wait.ts";
import type { Certificate } from "../model/testenv.ts";
import { resume, step } from "./life.ts";
import type { Deadline, Effect, Terms, Testenv, TestenvEvent } from "./testenv-state.ts";
import type { TestenvRecords } from "./record.ts";

/** How effects are done. All may be called twice; a rejected promise is a failed effect. */
export type RackWork = {
  /** Credentials, port rule, TE data; the deadline that they were made for (H-1.14). */
  open(te: Testenv, terms: Terms, signal: AbortSignal): Promise<Deadline>;
  extend(te: Testenv, terms: Terms, deadline: Deadline): Promise<void>;
  /** Step 1 of the reset; when it returns no credential works and no connection is open. */
  fence(te: Testenv): Promise<void>;
  /** Steps 2–7; throws what failed. */
  reset(te: Testenv, signal: AbortSignal): Promise<Certificate>;
  remove(te: Testenv, signal: AbortSignal): Promise<void>;
  /** Parts are missing: have a pass made soon. */
  wantPass(): void;
  /** Says to the broker what `effect` tells. */
  tell(
    te: Testenv,
    effect: Extract<Effect, { kind: `tell-${string}` | "report" | "hand-over" }>,
  ): void | Promise<void>;
};

export type Actor = {
  readonly testenv: Testenv;
  /** Resolves when the event is recorded and its effects have begun. */
  post(event: TestenvEvent): Promise<void>;
  /** What a record found at start still needs; a new world first meets `rebooted`. */
  start(newWorld: boolean): Promise<void>;
  /** Effects are abandoned as they are; the record says what to do about them. */
  close(): Promise<void>;
};

export function openActor(options: {
  readonly testenv: Testenv;
  readonly records: TestenvRecords;
  readonly work: RackWork;
  readonly clock: Clock;
  /** Our own mistake, or a record that cannot be written: the program must end. */
  readonly onCrash: (error: unknown) => void;
}): Actor {
  const { records, work, clock } = options;
  let te = options.testenv;
  let last: Promise<unknown> = Promise.resolve();
  let deadlineTimer: Timer | undefined;
  let retryTimer: Timer | undefined;
  let task: { stop: AbortController; done: Promise<void> } | undefined;
  let closed = false;

  function post(event: TestenvEvent): Promise<void> {
    const done = last.then(async () => {
      if (closed) return;
      const { testenv, effects } = step(te, event);
      if (JSON.stringify(testenv) !== JSON.stringify(te)) {
        await records.save(te, event.kind, testenv);
        te = testenv;
      }
      if (!closed) await doAll(effects);
    });
    last = done.catch(() => undefined);
    done.catch(options.onCrash);
    return done;
  }

  async function doAll(effects: readonly Effect[]): Promise<void> {
    for (const effect of effects) await doOne(effect);
  }

  async function doOne(effect: Effect): Promise<void> {
    switch (effect.kind) {
      case "provision":
        return work.wantPass();
      case "open": {
        const { terms } = effect;
        return begin(
          async (signal) => {
            const deadline = await work.open(te, terms, signal);
            return { kind: "opened", epoch: terms.epoch, deadline };
          },
          (detail) => ({ kind: "open-failed", epoch: terms.epoch, detail }),
        );
      }
      case "fence":
        return begin(
          async () => {
            await work.fence(te);
            return { kind: "fenced", endedAt: new Date(clock.wallMs()).toISOString() };
          },
          (detail) => ({ kind: "reset-failed", detail: `fence: ${detail}` }),
        );
      case "reset":
        return begin(
          async (signal) => ({ kind: "proved", certificate: await work.reset(te, signal) }),
          (detail) => ({ kind: "reset-failed", detail }),
        );
      case "remove":
        return begin(removeUntilDone, () => undefined);
      case "extend":
        await work.extend(te, effect.terms, effect.deadline);
        return;
      case "watch-deadline":
        return watchDeadline(effect.terms, effect.deadline);
      case "retry-after":
        retryTimer?.cancel();
        retryTimer = clock.after(effect.ms, () => void post({ kind: "retry" }));
        return;
      case "tell-too-low":
      case "tell-resetting":
      case "tell-ready":
      case "tell-faulty":
      case "report":
      case "hand-over":
        await work.tell(te, effect);
        return;
      default:
        return assertNever(effect, "effect");
    }
  }

  /** One long task at a time: a new one ends the old one, whose outcome no longer counts. */
  function begin(
    run: (signal: AbortSignal) => Promise<TestenvEvent>,
    failed: (detail: string) => TestenvEvent | undefined,
  ): void {
    const before = task;
    before?.stop.abort();
    const stop = new AbortController();
    const done = (async () => {
      await before?.done;
      if (stop.signal.aborted) return;
      const outcome = await run(stop.signal).catch((error: unknown) =>
        failed(describeError(error)),
      );
      if (outcome && !stop.signal.aborted) void post(outcome);
    })();
    task = { stop, done };
  }

  async function removeUntilDone(signal: AbortSignal): Promise<TestenvEvent> {
    for (let tries = 1; ; tries++) {
      try {
        await work.remove(te, signal);
        return { kind: "removed" };
      } catch (error) {
        signal.throwIfAborted();
        if (tries >= limits.removeTries) throw error;
        await pause(backoffMs(tries), signal);
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
    post,
    async start(newWorld) {
      if (newWorld) return post({ kind: "rebooted" });
      const begun = last.then(() => doAll(resume(te)));
      last = begun.catch(() => undefined);
      await begun;
    },
    async close() {
      closed = true;
      deadlineTimer?.cancel();
      retryTimer?.cancel();
      task?.stop.abort();
      await last;
      await task?.done;
    },
  };
}

import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { fail } from "../../base/errors.ts";
import { silentLog } from "../../base/log.ts";
import { openScope } from "../../base/scope.ts";
import { openTroubles } from "../../base/troubles.ts";
import { until } from "../../base/wait.ts";
import type { ReviewEvent } from "../../model/change.ts";
import type { PipelineConfig } from "../../model/pipeline.ts";
import type { ReviewChange } from "../../review/review-port.ts";
import { openSqliteStore } from "../../store/store.ts";
import type { Store } from "../../store/store.ts";
import { neededChanges } from "./dependencies.ts";
import { startIntake } from "./intake.ts";
import { triggered } from "./matching.ts";

type EventType = Exclude<ReviewEvent["type"], "change-merged" | "comment-added">;
const facts = {
  at: "2026-01-01T00:00:00Z",
  connection: "local",
  project: "p",
  branch: "main",
  change: 1,
  patchset: 1,
  by: "ann",
};
const event = (seq: number, type: EventType = "patchset-created"): ReviewEvent => ({
  ...facts,
  seq,
  type,
});
const comment = (text: string): ReviewEvent => ({
  ...facts,
  seq: 1,
  type: "comment-added",
  comment: text,
});
const pipeline = (name: string, triggers: PipelineConfig["triggers"]): PipelineConfig => ({
  name,
  definedAt: "l.yaml:1",
  manager: "independent",
  precedence: "normal",
  dequeueOnNewPatchset: true,
  ignoreDependencies: false,
  triggers,
  reporters: { start: [], success: [], failure: [], "merge-conflict": [], "config-error": [] },
});
const rule = (events: string[], ...comments: RegExp[]) => ({
  connection: "local",
  events,
  comments,
});

test("P-1 several pipelines match independently; comments are searched, connections told apart", () => {
  const pipelines = [
    pipeline("check", [rule(["patchset-created"]), rule(["comment-added"], /^\s*recheck/i)]),
    pipeline("slow", [rule(["comment-added", "change-restored"], /check slow/, /all/)]),
    pipeline("other", [{ ...rule(["patchset-created"]), connection: "gerrit" }]),
  ];
  expect(triggered(event(1), pipelines)).toEqual(["check"]);
  expect(triggered(comment("Recheck please, all of it"), pipelines)).toEqual(["check", "slow"]);
  expect(triggered(comment("no recheck"), pipelines)).toEqual([]);
  expect(triggered(event(1, "change-abandoned"), pipelines)).toEqual([]);
  // a comment regex never matches an event without a comment
  expect(triggered(event(1, "change-restored"), pipelines)).toEqual([]);
});

const change = (number: number, more: Partial<ReviewChange> = {}): ReviewChange => ({
  project: "p",
  branch: "main",
  number,
  changeId: "I1",
  status: "NEW",
  owner: "ann",
  subject: `change ${number}`,
  url: `http://x/${number}`,
  patchset: 1,
  patchsets: [],
  needs: [],
  ...more,
});
const need = (number: number, patchset = 1) => ({ change: number, patchset });

test("D-1 git parents stand ahead, oldest first, in their patchset; merged ones end the walk", async () => {
  const all = new Map(
    [
      change(1, { needs: [need(9)] }),
      change(2, { needs: [need(1)] }),
      change(3, { needs: [need(2, 4)] }),
      change(9, { status: "MERGED", needs: [need(8)] }),
    ].map((one) => [one.number, one]),
  );
  const asked: number[] = [];
  const review = {
    change: (number: number) => {
      asked.push(number);
      return Promise.resolve(all.get(number) ?? fail("not-found", `no ${number}`));
    },
  };
  const needed = await neededChanges(review, all.get(3)!);
  expect(needed.map((one) => [one.change.number, one.patchset])).toEqual([
    [1, 1],
    [2, 4],
  ]);
  expect(asked).toEqual([2, 1, 9]);
});

test("D-7 a series without end is refused", async () => {
  const review = {
    change: (number: number) => Promise.resolve(change(number, { needs: [need(number + 1)] })),
  };
  await expect(neededChanges(review, change(1, { needs: [need(2)] }))).rejects.toMatchObject({
    code: "too-many",
  });
});

/** A review system with durable events, and an intake over it that can be killed. */
async function world() {
  const store: Store = await openSqliteStore(":memory:");
  const events: ReviewEvent[] = [];
  const listeners = new Set<() => void>();
  const handled: number[] = [];
  const troubles = openTroubles({ log: silentLog, wallMs: () => systemClock.wallMs() });
  /** Ports that fail: so often still, by their names. */
  const failing = new Map<string, number>();
  const maybe = async <T>(port: string, call: () => Promise<T>): Promise<T> => {
    const left = failing.get(port) ?? 0;
    if (left > 0) {
      failing.set(port, left - 1);
      throw new Error(`${port} is away`);
    }
    return call();
  };
  let handle = (of: ReviewEvent, seen: Parameters<Store["transaction"]>[0]): Promise<unknown> =>
    store.transaction(async (tx) => {
      await seen(tx);
      handled.push(of.seq);
    });
  const review = {
    connection: "local",
    eventsSince: (seq: number, limit: number) =>
      maybe("eventsSince", () =>
        Promise.resolve(events.filter((one) => !(one.seq <= seq)).slice(0, limit)),
      ),
    onNews: (ring: () => void) => {
      listeners.add(ring);
      return () => void listeners.delete(ring);
    },
  };
  onTestFinished(() => store[Symbol.asyncDispose]());
  return {
    handled,
    handle,
    failing,
    troubles,
    /** As it comes, whatever it is. */
    send(one: unknown) {
      events.push(one as ReviewEvent);
      for (const ring of listeners) ring();
    },
    handleBy(next: typeof handle) {
      handle = next;
    },
    push(...seqs: number[]) {
      for (const seq of seqs) {
        events.push(event(seq));
        for (const ring of listeners) ring();
      }
    },
    start() {
      const scope = openScope((_, error) => {
        throw error;
      });
      onTestFinished(() => scope.close());
      startIntake({
        review,
        store: {
          ...store,
          fact: (name) => maybe("fact", () => store.fact(name)),
          setFact: (...of) => maybe("setFact", () => store.setFact(...of)),
          transaction: (work) => maybe("transaction", () => store.transaction(work)),
        },
        clock: systemClock,
        log: silentLog,
        troubles,
        scope,
        handle: async (of, seen) => {
          await maybe("handle", () => handle(of, seen));
        },
      });
      return scope;
    },
    is: (what: number[]) =>
      until(() => JSON.stringify(handled) === JSON.stringify(what), {
        timeoutMs: 5_000,
        everyMs: 5,
        what: `events ${what.join()}, have ${handled.join()}`,
      }),
  };
}

test("E-1 events missed while away are caught up, none comes twice", async () => {
  const w = await world();
  w.push(1, 2);
  const scope = w.start();
  await w.is([1, 2]);
  w.push(5);
  await w.is([1, 2, 5]);
  await scope.close();
  w.push(7, 9);
  w.start();
  await w.is([1, 2, 5, 7, 9]);
  expect(w.handled).toEqual([1, 2, 5, 7, 9]);
});

test("E-1 killed between handling and its record, the event comes again", async () => {
  const w = await world();
  const whole = w.handle;
  let kill = (): void => undefined;
  const reached = new Promise<void>((resolve) => {
    w.handleBy(() => {
      resolve();
      return new Promise<void>((_, reject) => {
        kill = () => reject(new Error("killed"));
      });
    });
  });
  w.push(1);
  const scope = w.start();
  await reached;
  const closed = scope.close();
  kill();
  await closed;
  w.handleBy(whole);
  w.push(2);
  w.start();
  await w.is([1, 2]);
  expect(w.handled).toEqual([1, 2]);
});

test("E-1 what fails for a while drops no event: the connection waits, visibly, and goes on", async () => {
  const w = await world();
  w.failing.set("handle", 5); // far beyond three tries in 0.3 s
  const scope = w.start();
  w.push(1, 2);
  const what = "local: event 1";
  await until(() => w.troubles.list().some((one) => one.what === what && one.failures > 1), {
    timeoutMs: 10_000,
    everyMs: 5,
    what: "the trouble among those that status shows",
  });
  expect(w.handled).toEqual([]);
  await w.is([1, 2]);
  expect(w.troubles.list()).toEqual([]);
  await scope.close();
});

test.each(["fact", "eventsSince", "handle", "transaction", "setFact"])(
  "E-1 a failure of %s, once and for a while, loses and doubles nothing",
  async (port) => {
    const w = await world();
    let gone = false;
    w.handleBy((of, seen) => {
      if (of.seq === 2) {
        gone = true;
        fail("not-found", "the change is gone: the event is marked by a write of its own");
      }
      return w.handle(of, seen);
    });
    w.failing.set(port, 1);
    w.push(1, 2);
    const first = w.start();
    await w.is([1]);
    await until(() => gone, { timeoutMs: 5_000, everyMs: 5, what: "the event that is left out" });
    w.failing.set(port, 3);
    w.push(3, 4);
    await w.is([1, 3, 4]);
    await first.close();
    w.push(5);
    w.start();
    await w.is([1, 3, 4, 5]);
    expect(w.handled).toEqual([1, 3, 4, 5]);
    expect(w.troubles.list()).toEqual([]);
  },
);

test("E-2, E-6 broken and unknown events, duplicates and odd clocks are survived", async () => {
  const w = await world();
  const scope = w.start();
  w.push(1);
  w.send({ ...event(2), type: "hashtags-changed" });
  w.send({ seq: 3, type: "patchset-created" });
  w.send({ ...event(Number.NaN) });
  w.send({ ...event(1) });
  w.send({ ...event(4), at: "sometime", by: "x".repeat(100_000) });
  w.send({ ...event(4) });
  w.push(5);
  await w.is([1, 4, 5]);
  expect(w.troubles.list()).toEqual([]);
  await scope.close();
  w.push(6);
  w.start();
  await w.is([1, 4, 5, 6]);
});

test("E-6 one bad event never blocks the following ones", async () => {
  const w = await world();
  w.handleBy((of) => {
    if (of.seq === 2) fail("not-found", "the change is gone");
    w.handled.push(of.seq);
    return Promise.resolve();
  });
  w.push(1, 2, 3);
  const scope = w.start();
  await w.is([1, 3]);
  expect(w.handled).toEqual([1, 3]);
  await scope.close();
});

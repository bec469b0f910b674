/** H-1.2: the executor and its back-off. */
import { expect, test } from "vitest";
import { RackyardError } from "../base/errors.ts";
import { silentLog } from "../base/log.ts";
import { openExecutor } from "./execute.ts";

const action = (kind: string, target: string) => ({ kind, target, why: "w", undo: "u" });

test("H-1.2 actions run in order; a failing target backs off 1 s to 60 s, others go on", async () => {
  let nowMs = 0;
  let broken = true;
  const done: string[] = [];
  const executor = openExecutor(
    {
      make: async ({ target }) => {
        if (target === "b" && broken) throw new RackyardError("unavailable", "no");
        done.push(target);
      },
    },
    { log: silentLog, monoMs: () => nowMs },
  );
  const pass = ["a", "b", "b", "c"].map((target) => action("make", target));
  const first = await executor.perform(pass);
  expect(done).toEqual(["a", "c"]);
  expect([first.done.length, first.failed.length, first.waiting.length]).toEqual([2, 1, 1]);

  const pauses: number[] = [];
  for (let tries = 0; tries < 8; tries++) {
    const [failure] = executor.failures();
    pauses.push(failure!.retryAtMs - nowMs);
    nowMs = failure!.retryAtMs - 1;
    expect((await executor.perform([action("make", "b")])).waiting).toHaveLength(1);
    nowMs = failure!.retryAtMs;
    expect((await executor.perform([action("make", "b")])).failed).toHaveLength(1);
  }
  for (const [n, seconds] of [1, 2, 4, 8, 16, 32, 60, 60].entries()) {
    expect(pauses[n]).toBeGreaterThanOrEqual(seconds * 500); // the jitter takes up to half
    expect(pauses[n]).toBeLessThanOrEqual(seconds * 1_000);
  }

  broken = false;
  nowMs += 60_000;
  expect((await executor.perform([action("make", "b")])).done).toHaveLength(1);
  expect(executor.failures()).toEqual([]);
});

test("H-1.2 what is no longer planned is no longer shown as failing", async () => {
  const performers = { make: async () => Promise.reject(new Error("no")) };
  const executor = openExecutor(performers, { log: silentLog, monoMs: () => 0 });
  await executor.perform([action("make", "a")]);
  expect(executor.failures()).toHaveLength(1);
  await executor.perform([]);
  expect(executor.failures()).toEqual([]);
});

import { pino } from "pino";
import { expect, it } from "vitest";
import { backoffMs, untilDone } from "./retry.ts";
import { openTroubles } from "./troubles.ts";

const silent = pino({ enabled: false });

it("doubles the pause up to the last, and draws it from the upper half", () => {
  const least = [1, 2, 3, 9, 99].map((failures) => backoffMs(failures, 100, 1_000, () => 0));
  const most = [1, 2, 3, 9, 99].map((failures) => backoffMs(failures, 100, 1_000, () => 1));
  expect(least).toEqual([50, 100, 200, 500, 500]);
  expect(most).toEqual([100, 200, 400, 1_000, 1_000]);
  const drawn = new Set(Array.from({ length: 20 }, () => backoffMs(3, 100, 1_000)));
  expect(drawn.size).toBeGreaterThan(10);
});

it("tries until the world is well again, with one alarm meanwhile", async () => {
  let nowMs = 0;
  const troubles = openTroubles({ log: silent, wallMs: () => nowMs++ });
  const seen: number[] = [];
  let tries = 0;
  const attempt = async (): Promise<string> => {
    seen.push(troubles.list().length);
    if (++tries < 4) throw new Error("no space");
    return "done";
  };
  const { signal } = new AbortController();
  const options = { signal, troubles, firstMs: 1, lastMs: 2 };
  await expect(untilDone("the record", attempt, options)).resolves.toBe("done");
  expect(seen).toEqual([0, 1, 1, 1]);
  expect(troubles.list()).toEqual([]);
});

it("ends at once for a failure that is final, and when it is aborted", async () => {
  const troubles = openTroubles({ log: silent, wallMs: () => 0 });
  const failing = async (): Promise<never> => {
    throw new Error("not found");
  };
  const stop = new AbortController();
  const options = { signal: stop.signal, troubles, firstMs: 60_000 };
  await expect(untilDone("it", failing, { ...options, worth: () => false })).rejects.toThrow(
    "not found",
  );
  const waiting = untilDone("it", failing, options);
  stop.abort(new Error("stopped"));
  await expect(waiting).rejects.toThrow("stopped");
  expect(troubles.list()).toEqual([]);
});

import { expect, test } from "vitest";
import { openAskLine } from "./ask-line.ts";

const at = (enqueuedMs: number, precedence = 200) => ({ precedence, enqueuedMs, index: 0 });
const never = new AbortController().signal;

test("one asks at a time, in the queue's order, whoever came first", async () => {
  const line = openAskLine();
  const asked: number[] = [];
  let under = 0;
  const ask = (number: number, precedence?: number): Promise<void> =>
    line.turn(at(number, precedence), never, async () => {
      expect(++under).toBe(1);
      await Promise.resolve();
      asked.push(number);
      under--;
    });
  await Promise.all([ask(3), ask(1), ask(9, 100), ask(2)]);
  expect(asked).toEqual([9, 1, 2, 3]);
});

test("who leaves the line is passed over, and one that fails lets the next go", async () => {
  const line = openAskLine();
  const stop = new AbortController();
  const gone = line.turn(at(2), stop.signal, () => Promise.resolve("asked"));
  const failed = line.turn(at(1), never, () => Promise.reject(new Error("no")));
  const last = line.turn(at(3), never, () => Promise.resolve("asked"));
  stop.abort(new Error("left"));
  await expect(gone).rejects.toThrow("left");
  await expect(failed).rejects.toThrow("no");
  expect(await last).toBe("asked");
});

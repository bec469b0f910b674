import { expect, test } from "vitest";
import { logTo, silentLog } from "../../base/log.ts";
import { sweepOnce } from "./retention.ts";

test("a sweep that fails keeps no other from its work, and each says what it freed", async () => {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as never);
  const nothing = { removed: 0, freedBytes: 0 };
  await sweepOnce(
    [
      { name: "quiet", run: () => Promise.resolve(nothing) },
      { name: "logs", run: () => Promise.reject(new Error("the disk is gone")) },
      { name: "builds", run: () => Promise.resolve({ removed: 2, freedBytes: 4_096 }) },
    ],
    logTo({ write }),
    new AbortController().signal,
  );
  expect(lines.map(({ sweep, removed, freedBytes }) => [sweep, removed, freedBytes])).toEqual([
    ["logs", undefined, undefined],
    ["builds", 2, 4_096],
  ]);
});

test("a stopping server ends the round", async () => {
  const stop = new AbortController();
  const ran: string[] = [];
  const sweep = (name: string) => ({
    name,
    run(signal: AbortSignal) {
      ran.push(name);
      stop.abort(new Error("stopping"));
      signal.throwIfAborted();
      return Promise.resolve({ removed: 0, freedBytes: 0 });
    },
  });
  const round = sweepOnce([sweep("one"), sweep("two")], silentLog, stop.signal);
  await expect(round).rejects.toThrow("stopping");
  expect(ran).toEqual(["one"]);
});

import { expect, test } from "vitest";
import { logTo, silentLog } from "../../base/log.ts";
import { openTroubles } from "../../base/troubles.ts";
import { sweepOnce } from "./retention.ts";

test("a sweep that fails keeps no other from its work, and each says what it freed", async () => {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as never);
  const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
  const nothing = { removed: 0, freedBytes: 0 };
  await sweepOnce(
    [
      { name: "quiet", run: () => Promise.resolve(nothing) },
      { name: "logs", run: () => Promise.reject(new Error("the disk is gone")) },
      { name: "builds", run: () => Promise.resolve({ removed: 2, freedBytes: 4_096 }) },
    ],
    logTo({ write }),
    troubles,
    new AbortController().signal,
  );
  expect(lines.map(({ sweep, removed, freedBytes }) => [sweep, removed, freedBytes])).toEqual([
    ["builds", 2, 4_096],
  ]);
  expect(troubles.list()).toMatchObject([{ what: "removing old logs", why: "the disk is gone" }]);
});

test("a stopping server ends the round", async () => {
  const stop = new AbortController();
  const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
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
  const round = sweepOnce([sweep("one"), sweep("two")], silentLog, troubles, stop.signal);
  await expect(round).rejects.toThrow("stopping");
  expect(ran).toEqual(["one"]);
});

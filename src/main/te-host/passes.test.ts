/** The host's one pass: when it runs, and what becomes of one that fails (H-1.2, H-4.5). */
import { expect, test } from "vitest";
import { handClock } from "../../../test/samples/clock.ts";
import { silentLog } from "../../base/log.ts";
import { until } from "../../base/wait.ts";
import { simHypervisor } from "../../sim/hypervisor.ts";
import { openPasses } from "./passes.ts";

function openHost() {
  const clock = handClock();
  const stop = new AbortController();
  const looks: number[] = [];
  const state = { missing: false, fails: false };
  const made: string[] = [];
  const passes = openPasses({
    hypervisor: simHypervisor(),
    parts: [
      {
        plan() {
          looks.push(clock.monoMs());
          if (state.fails) return Promise.reject(new Error("virsh list: no answer"));
          const action = { kind: "define", target: "te1", why: "it is gone", undo: "none" };
          return Promise.resolve(state.missing ? [action] : []);
        },
        performers: {
          define({ target }) {
            state.missing = false;
            made.push(target);
            return Promise.resolve();
          },
        },
      },
    ],
    after: () => Promise.resolve(),
    clock,
    log: silentLog,
  });
  const done = passes.run(stop.signal);
  const looked = (count: number) =>
    until(() => looks.length >= count, { timeoutMs: 5_000, everyMs: 1, what: `look ${count}` });
  return { clock, passes, state, looks, made, done, looked, stop: () => stop.abort() };
}

test("H-4.5 what no event told is found by the list, within 30 s", async () => {
  const host = openHost();
  await host.looked(1);
  host.state.missing = true; // and nothing rings
  await host.clock.advance(29_000);
  expect(host.made).toEqual([]);
  await host.clock.advance(2_000);
  await host.looked(2);
  await until(() => host.made.length > 0, { timeoutMs: 1_000, everyMs: 1, what: "the action" });
  expect(host.made).toEqual(["te1"]);
  host.stop();
  await host.done;
});

test("H-4.5 H-1.2 a burst of events is one look, and events during it make one more", async () => {
  const host = openHost();
  await host.looked(1);
  for (let n = 0; n < 100; n++) host.passes.wake();
  await host.looked(2);
  for (let n = 0; n < 100; n++) host.passes.wake();
  await host.looked(3);
  expect(host.looks).toHaveLength(3);
  host.stop();
  await host.done;
});

test("a pass that fails is told until one comes to its end, and the next is not long in coming", async () => {
  const host = openHost();
  await host.looked(1);
  host.state.fails = true;
  host.passes.wake();
  await until(() => host.passes.trouble() !== undefined, {
    timeoutMs: 5_000,
    everyMs: 1,
    what: "the trouble",
  });
  expect(host.passes.trouble()).toMatch(/virsh list: no answer/);
  host.state.fails = false;
  await host.clock.advance(31_000);
  await until(() => host.passes.trouble() === undefined, {
    timeoutMs: 5_000,
    everyMs: 1,
    what: "its end",
  });
  host.stop();
  await host.done;
});

import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { openScope } from "../../base/scope.ts";
import { until } from "../../base/wait.ts";
import type { LeaseView } from "../../model/lease.ts";
import { openAcquisition } from "./acquisition.ts";
import type { Waiting } from "./acquisition.ts";
import type { NodePool } from "./build-ports.ts";
import type { RackPort } from "./rack-port.ts";
import { sampleNode } from "./samples.test.ts";

const soon = (what: string, condition: () => unknown) =>
  until(condition, { timeoutMs: 5_000, everyMs: 1, what });

const view = (id: string, state: LeaseView["state"]): LeaseView => ({
  id,
  tenant: "default",
  state,
  holder: { name: "h" },
  group: "",
  priority: "normal",
  createdAt: "2026-01-01T00:00:00Z",
  testenvs: [],
  interruptions: [],
});

/** One ready node; offers are told to the test, which answers each when it likes. */
function open() {
  const scope = openScope((name, error) => {
    throw new Error(name, { cause: error });
  });
  onTestFinished(() => scope.close());
  const calls: { rack: string; takeable: boolean; answer: (error?: Error) => void }[] = [];
  const nodePool: NodePool = {
    ready: () => [sampleNode("n1")],
    demand: () => undefined,
    lost: () => Promise.resolve(undefined),
    assign: (id) => Promise.resolve(sampleNode(id)),
    release: () => Promise.resolve(),
    failure: () => undefined,
    why: () => "none",
    onChange: () => undefined,
  };
  const offer: RackPort["offer"] = (rack, takeable) => {
    const { promise, resolve, reject } = Promise.withResolvers<LeaseView>();
    const answer = (error?: Error): void =>
      error ? reject(error) : resolve(view(rack.id, "waiting"));
    calls.push({ rack: rack.id, takeable, answer });
    return promise;
  };
  const racks = { offer } as RackPort;
  const troubles = { begin: () => undefined, end: () => undefined };
  const clock = systemClock;
  const acquisition = openAcquisition({ nodePool, racks, clock, log: silentLog, scope, troubles });
  const waiting = (build: string, enqueuedMs: number): Waiting => ({
    build,
    label: "worker",
    place: { precedence: 200, enqueuedMs, index: 0 },
    rack: { id: build, token: "t" },
    lease: view(build, "waiting"),
    leaseWaitMs: 60_000,
    onAcquired: () => undefined,
    onPlaceLost: () => undefined,
    onStop: () => undefined,
  });
  return { acquisition, calls, waiting };
}

const said = (calls: readonly { rack: string; takeable: boolean }[]) =>
  calls.map(({ rack, takeable }) => `${takeable ? "offer" : "withdraw"} ${rack}`);

test("A2 N-1 a node goes to another only when its offer was withdrawn, and that was confirmed", async () => {
  const { acquisition, calls, waiting } = open();
  acquisition.enter(waiting("second", 2));
  await soon("an offer", () => calls.length === 1);
  calls[0]!.answer();
  acquisition.enter(waiting("first", 1));
  await soon("the withdrawal", () => calls.length === 2);
  acquisition.nodeReturned("worker"); // one more pass, before the broker has answered
  await new Promise((resolve) => setImmediate(resolve));
  expect(said(calls)).toEqual(["offer second", "withdraw second"]);
  calls[1]!.answer();
  await soon("the first is offered", () => calls.length === 3);
  expect(said(calls)[2]).toBe("offer first");
});

test("A2 an offer that was not answered is withdrawn too, until that is confirmed", async () => {
  const { acquisition, calls, waiting } = open();
  acquisition.enter(waiting("b", 1));
  await soon("an offer", () => calls.length === 1);
  calls[0]!.answer(new Error("no answer"));
  await soon("the withdrawal", () => calls.length === 2);
  calls[1]!.answer(new Error("no answer"));
  await soon("the withdrawal again", () => calls.length === 3);
  calls[2]!.answer();
  await soon("offered anew", () => calls.length === 4);
  expect(said(calls)).toEqual(["offer b", "withdraw b", "withdraw b", "offer b"]);
});

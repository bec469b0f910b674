// Both ends of a session over a network in memory and a clock that the test moves: no socket and no
// timer of the machine's is needed to run them.
import { expect, test } from "vitest";
import { handClock } from "../../test/samples/clock.ts";
import { sampleHello, sampleReport } from "../../test/samples/hosts.ts";
import { memoryNetwork } from "../../test/samples/wires.ts";
import { limits } from "../base/limits.ts";
import { silentLog } from "../base/log.ts";
import type { ToHost } from "../model/session.ts";
import { dialBroker } from "./broker-session.ts";
import { openHostSessions } from "./host-sessions.ts";
import type { FromHost } from "./session-port.ts";

const hostId = "7f3a01c2-0000-4000-8000-000000000001";
const want = (epoch: number): ToHost => ({
  kind: "wanted",
  wanted: { testenv: 1, epoch: String(epoch), draining: false, lease: null, ended: null },
});
const told = (epoch: number): FromHost => ({
  kind: "testenv",
  report: sampleReport({ epoch: String(epoch) }),
  data: null,
});
const nodeGone = (n: number): FromHost => ({
  kind: "node-gone",
  id: `7f3a01c2-0000-4000-8000-00000000000${n}`,
});

function openBench() {
  const clock = handClock();
  const heard: { broker: FromHost[]; host: ToHost[]; hellos: number[] } = {
    broker: [],
    host: [],
    hellos: [],
  };
  let epoch = 0;
  const sessions = openHostSessions({
    log: silentLog,
    clock,
    authorise: () => true,
    handler: {
      onHello(hello) {
        heard.hellos.push(Number(hello.testenvs[0]!.epoch));
        return Promise.resolve({ kind: "welcome", brokerTime: "t", testenvs: [], nodes: [] });
      },
      onConnected: () => undefined,
      onMessage: (_, message) => Promise.resolve(void heard.broker.push(message)),
      onDisconnected: () => undefined,
    },
  });
  const network = memoryNetwork({ clock, delayMs: 10, accept: (wire) => sessions.take(wire) });
  let number = 0;
  const session = dialBroker({
    url: "ws://simulated",
    connect: network.connect,
    log: silentLog,
    clock,
    random: { fraction: () => 0.5 } as never,
    handler: {
      hello: (sessionNumber) =>
        Promise.resolve(
          sampleHello({
            hostId,
            sessionNumber,
            testenvs: [sampleReport({ epoch: String(epoch) })],
          }),
        ),
      nextSessionNumber: () => Promise.resolve(++number),
      onWelcome: () => Promise.resolve(),
      onMessage: (message) => Promise.resolve(void heard.host.push(message)),
    },
  });
  const report = (next: number): void => {
    epoch = next;
    session.send(told(next));
  };
  return { clock, network, sessions, session, heard, report };
}

test("lease.md §6 a session is run by its clock alone: hello, messages both ways, a silent peer", async () => {
  const { clock, network, sessions, session, heard, report } = openBench();
  await clock.advance(100);
  expect(session.connected).toBe(true);
  report(3);
  expect(sessions.send(hostId, want(3))).toBe(true);
  await clock.advance(100);
  expect(heard.broker).toEqual([told(3)]);
  expect(heard.host).toEqual([want(3)]);
  await clock.advance(10 * limits.heartbeatMs); // pings keep it
  expect(heard.hellos).toEqual([0]);
  network.cut();
  await clock.advance(limits.sessionRedialLastMs);
  expect(heard.hellos).toEqual([0, 3]);
});

test("L2 lease.md §6 reports of a time without a session are told by its hello, and never after it", async () => {
  const { clock, network, session, heard, report } = openBench();
  await clock.advance(100);
  network.down = true;
  network.cut();
  for (let epoch = 1; epoch <= 5; epoch++) {
    report(epoch);
    session.send(nodeGone(epoch));
    await clock.advance(1_000);
  }
  network.down = false;
  await clock.advance(2 * limits.sessionRedialLastMs);
  expect(heard.hellos).toEqual([0, 5]);
  // nothing old came behind the hello, and no other message was lost or out of order
  expect(heard.broker).toEqual([1, 2, 3, 4, 5].map(nodeGone));
});

test("lease.md §6 what changed while the hello was on its way is told after it, once", async () => {
  const { clock, heard, report } = openBench();
  await clock.advance(25); // the hello is under way, the welcome is not here
  report(1);
  report(2);
  report(3);
  await clock.advance(200);
  expect(heard.hellos).toEqual([0]);
  expect(heard.broker).toEqual([told(3)]);
});

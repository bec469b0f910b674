// What a channel does when its peer is silent, or never acknowledges: over real sockets, with a
// clock that the test moves.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { Clock } from "../base/clock.ts";
import { limits } from "../base/limits.ts";
import { silentLog } from "../base/log.ts";
import { until } from "../base/wait.ts";
import { openChannel } from "./channel.ts";
import type { Channel } from "./channel.ts";

const soon = { timeoutMs: 10_000, everyMs: 5 };
const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (let close = closers.pop(); close; close = closers.pop()) await close();
});

/** Timers run when the test moves the time. */
function manualClock() {
  let nowMs = 0;
  const timers = new Set<{ atMs: number; callback: () => void }>();
  const clock: Clock = {
    wallMs: () => nowMs,
    monoMs: () => nowMs,
    after(delayMs, callback) {
      const timer = { atMs: nowMs + delayMs, callback };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
  };
  const advance = (ms: number): void => {
    nowMs += ms;
    for (const timer of timers) {
      if (timer.atMs > nowMs || !timers.delete(timer)) continue;
      timer.callback();
    }
  };
  return { clock, advance };
}

/** A channel at the server's end, and the raw socket of a peer. */
async function pair(peerOptions: { autoPong?: boolean } = {}) {
  const { clock, advance } = manualClock();
  const http = createServer();
  const server = new WebSocketServer({ server: http });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const opened = Promise.withResolvers<Channel>();
  const reasons: string[] = [];
  server.on("connection", (socket) => {
    const channel = openChannel(
      socket,
      {
        receive: () => Promise.resolve(),
        acknowledged: () => undefined,
        refused: () => undefined,
        closed: (reason) => void reasons.push(reason),
      },
      { clock, log: silentLog },
    );
    opened.resolve(channel);
  });
  const { port } = http.address() as AddressInfo;
  const peer = new WebSocket(`ws://127.0.0.1:${port}`, peerOptions);
  peer.on("error", () => undefined);
  let pings = 0;
  peer.on("ping", () => pings++);
  closers.push(() => {
    peer.terminate();
    server.close();
    http.close();
  });
  return { channel: await opened.promise, peer, reasons, advance, pings: () => pings };
}

test("lease.md §6 a peer that answers pings is kept, however little it says", async () => {
  const { channel, reasons, advance, pings } = await pair();
  const answered = (): Promise<boolean> => channel.probe(1_000_000);
  for (let beat = 1; beat <= 10; beat++) {
    advance(limits.heartbeatMs);
    await until(() => pings() >= beat, { ...soon, what: "a ping" });
    expect(await answered()).toBe(true);
  }
  expect(reasons).toEqual([]);
});

test("lease.md §6 a peer that answers nothing for 30 s is given up", async () => {
  const { reasons, advance, pings } = await pair({ autoPong: false });
  for (let beat = 1; beat <= 5; beat++) {
    advance(limits.heartbeatMs);
    await until(() => pings() >= beat, { ...soon, what: "a ping" });
    expect(reasons).toEqual([]);
  }
  advance(limits.heartbeatMs);
  expect(reasons).toEqual(["the peer was silent"]);
});

test("lease.md §6 a peer that acknowledges nothing is ended before memory is", async () => {
  const { channel, reasons } = await pair();
  for (let n = 0; n <= limits.sessionBacklog && channel.open; n++) {
    channel.send({ kind: "testenv-removed" });
  }
  expect(channel.open).toBe(false);
  expect(reasons).toEqual(["too many messages wait to be acknowledged"]);
});

test("a probe tells a peer that is there from one that is gone", async () => {
  const alive = await pair();
  expect(await alive.channel.probe(1_000_000)).toBe(true);
  const mute = await pair({ autoPong: false });
  const probing = mute.channel.probe(2_000);
  mute.advance(2_000);
  expect(await probing).toBe(false);
});

// What a channel does when its peer is silent, or never acknowledges: over real sockets, with a
// clock that the test moves.
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { Clock } from "../base/clock.ts";
import { limits } from "../base/limits.ts";
import { silentLog } from "../base/log.ts";
import { until } from "../base/wait.ts";
import { openChannel, refuse } from "./channel.ts";
import type { Channel } from "./channel.ts";
import { wireOf } from "./web-socket.ts";

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
async function pair(
  peerOptions: { autoPong?: boolean } = {},
  receive: (message: unknown) => Promise<void> = () => Promise.resolve(),
) {
  const { clock, advance } = manualClock();
  const http = createServer();
  const server = new WebSocketServer({ server: http });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const opened = Promise.withResolvers<Channel>();
  const reasons: string[] = [];
  server.on("connection", (socket) => {
    const channel = openChannel(
      wireOf(socket),
      {
        receive,
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
  const frames: unknown[] = [];
  peer.on("message", (data: Buffer) => frames.push(JSON.parse(data.toString("utf8"))));
  const say = (...all: object[]): void => all.forEach((one) => peer.send(JSON.stringify(one)));
  closers.push(() => {
    peer.terminate();
    server.close();
    http.close();
  });
  const channel = await opened.promise;
  if (peer.readyState !== WebSocket.OPEN) await once(peer, "open");
  return { channel, peer, frames, say, reasons, advance, pings: () => pings };
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

test("lease.md §9 one message does not wait for another's record; acknowledged is what all before it is", async () => {
  const recorded: ((value: void) => void)[] = [];
  const { say, frames } = await pair({}, () => new Promise((resolve) => recorded.push(resolve)));
  say({ seq: 1, message: {} }, { seq: 2, message: {} }, { seq: 3, message: {} });
  await until(() => recorded.length === 3, { ...soon, what: "all three, none of them recorded" });
  recorded[1]!();
  recorded[2]!();
  await new Promise((resolve) => setImmediate(resolve));
  expect(frames).toEqual([]);
  recorded[0]!();
  await until(() => frames.length > 0, { ...soon, what: "an acknowledgement" });
  expect(frames).toEqual([{ ack: 3 }]); // one transaction, one frame
});

test("lease.md §6 a message of a newer version is refused by itself, acknowledged, and the rest goes on", async () => {
  const { say, frames, channel } = await pair({}, async (message) => {
    const { kind } = message as { kind: string };
    if (kind === "surprise") refuse("not understood: surprise");
  });
  say(
    { seq: 1, message: { kind: "known" } },
    { seq: 2, message: { kind: "surprise" } },
    { seq: 3, message: { kind: "known" } },
  );
  await until(() => frames.length >= 2, { ...soon, what: "both answers" });
  const answers = frames as { ack: number; refused?: string }[];
  expect(answers.filter(({ refused }) => refused)).toEqual([
    { ack: 2, refused: "bad-request: not understood: surprise" },
  ]);
  expect(answers.at(-1)).toEqual({ ack: 3 });
  expect(channel.open).toBe(true);
});

test("L6 a message that could not be recorded is not acknowledged: the channel ends", async () => {
  const { say, frames, reasons } = await pair({}, () => Promise.reject(new Error("disk is full")));
  say({ seq: 1, message: {} });
  await until(() => reasons.length > 0, { ...soon, what: "its end" });
  expect(reasons[0]).toContain("disk is full");
  expect(frames).toEqual([]);
});

// The session between broker and host over real sockets, through a network that is cut behind
// every single frame, and with peers that do what they must not.
import { createServer } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer as createNetServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { systemClock } from "../../src/base/clock.ts";
import { RackyardError } from "../../src/base/errors.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { until } from "../../src/base/wait.ts";
import { sampleHello, sampleReport } from "../samples/hosts.ts";
import type { Hello, ToHost } from "../../src/model/session.ts";
import { dialBroker } from "../../src/session/broker-session.ts";
import { openHostSessions } from "../../src/session/host-sessions.ts";
import type { FromHost, HostSessionsHandler } from "../../src/session/session-port.ts";

const HOST = "7f3a01c2-0000-4000-8000-000000000001";
let directory: string;
const closers: (() => unknown)[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-session-"));
});
afterEach(async () => {
  for (let close = closers.pop(); close; close = closers.pop()) await close();
  await rm(directory, { recursive: true });
});

const hello = (sessionNumber: number, hostId = HOST): Hello =>
  sampleHello({ hostId, sessionNumber, certificateKey: "k" });
const welcome = { kind: "welcome", brokerTime: "t", testenvs: [], nodes: [] } as const;
const gone = (n: number): FromHost => ({
  kind: "testenv",
  report: sampleReport({ number: n }),
  data: null,
});
const nodeGone = (n: number): FromHost => ({
  kind: "node-gone",
  id: `7f3a01c2-0000-4000-8000-00000000000${n}`,
});
const drain = (n: number): ToHost => ({
  kind: "wanted",
  wanted: { testenv: n, epoch: "1", draining: true, lease: null, ended: null },
});

/** A broker on a socket file that notes what it hears. */
async function openBroker(more: Partial<HostSessionsHandler> = {}, authorise = () => true) {
  const heard: FromHost[] = [];
  const seen: string[] = [];
  const handler: HostSessionsHandler = {
    onHello(message) {
      seen.push(`hello ${message.sessionNumber}`);
      return Promise.resolve({ ...welcome, testenvs: [], nodes: [] });
    },
    onConnected: () => void seen.push("connected"),
    onMessage(_host, message) {
      heard.push(message);
      return Promise.resolve();
    },
    onDisconnected: () => void seen.push("disconnected"),
    ...more,
  };
  const sessions = openHostSessions({ handler, log: silentLog, clock: systemClock, authorise });
  const server = createServer();
  server.on("upgrade", (request, socket, head) => sessions.accept(request, socket, head));
  const path = join(directory, "api.sock");
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closers.push(async () => {
    await sessions[Symbol.asyncDispose]();
    server.closeAllConnections();
    server.close();
  });
  return { sessions, heard, seen, path };
}

function dial(
  path: string,
  hostId = HOST,
  first = 1,
  onRefused: (kind: string, why: string) => void = () => undefined,
) {
  const heard: ToHost[] = [];
  let number = first - 1;
  let welcomes = 0;
  const session = dialBroker({
    url: `unix:${path}`,
    log: silentLog,
    clock: systemClock,
    random: systemRandom,
    onRefused,
    handler: {
      hello: (sessionNumber) => Promise.resolve(hello(sessionNumber, hostId)),
      nextSessionNumber: () => Promise.resolve(++number),
      onWelcome() {
        welcomes++;
        return Promise.resolve();
      },
      onMessage(message) {
        heard.push(message);
        return Promise.resolve();
      },
    },
  });
  closers.push(() => session[Symbol.asyncDispose]());
  return { session, heard, welcomes: () => welcomes };
}

const soon = { timeoutMs: 10_000, everyMs: 5 };

test("lease.md §6 hello, welcome, and messages both ways in order", async () => {
  const broker = await openBroker();
  const host = dial(broker.path);
  await until(() => host.session.connected, { ...soon, what: "the session" });
  for (let n = 1; n <= 50; n++) {
    host.session.send(gone(n));
    expect(broker.sessions.send(HOST, drain(n))).toBe(true);
  }
  await until(() => broker.heard.length === 50 && host.heard.length === 50, {
    ...soon,
    what: "all messages",
  });
  expect(broker.heard).toEqual(Array.from({ length: 50 }, (_, n) => gone(n + 1)));
  expect(host.heard).toEqual(Array.from({ length: 50 }, (_, n) => drain(n + 1)));
  expect(broker.seen).toEqual(["hello 1", "connected"]);
});

/** Between host and broker: cuts both ways when the given number of frames went through, once. */
async function openNetwork(brokerPath: string, cutAfter: number) {
  const path = join(directory, "net.sock");
  let frames = 0;
  let cut = false;
  const server = createNetServer((near) => {
    const far = connect(brokerPath);
    const end = (): void => {
      near.destroy();
      far.destroy();
    };
    const forward = (from: Socket, to: Socket): void => {
      const frameOf = openFrameCounter();
      from.on("data", (chunk: Buffer) => {
        for (const piece of frameOf(chunk)) {
          if (!cut && piece.whole && ++frames > cutAfter) {
            cut = true;
            return end();
          }
          to.write(piece.bytes);
        }
      });
      from.on("error", end);
      from.on("close", end);
    };
    forward(near, far);
    forward(far, near);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closers.push(() => void server.close());
  return { path, wasCut: () => cut };
}

/** Cuts a stream into its HTTP head and WebSocket frames (RFC 6455 §5.2). */
function openFrameCounter(): (chunk: Buffer) => { bytes: Buffer; whole: boolean }[] {
  let rest = Buffer.alloc(0);
  let head = true;
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    const pieces: { bytes: Buffer; whole: boolean }[] = [];
    for (;;) {
      const length = head ? rest.indexOf("\r\n\r\n") + 4 : frameLength(rest);
      if (length < 4 - (head ? 0 : 2) || length > rest.length) return pieces;
      pieces.push({ bytes: rest.subarray(0, length), whole: !head });
      head = false;
      rest = rest.subarray(length);
    }
  };
}

function frameLength(bytes: Buffer): number {
  if (bytes.length < 2) return 0;
  const masked = (bytes[1]! & 0x80) === 0 ? 0 : 4;
  const short = bytes[1]! & 0x7f;
  if (short < 126) return 2 + masked + short;
  if (short === 126) return bytes.length < 4 ? 0 : 4 + masked + bytes.readUInt16BE(2);
  return bytes.length < 10 ? 0 : 10 + masked + Number(bytes.readBigUInt64BE(2));
}

test("L6 cut behind every frame, nothing durable of the host is lost or comes out of order", async () => {
  const count = 4;
  let cuts = 0;
  for (let cutAfter = 0; ; cutAfter++) {
    const broker = await openBroker();
    const network = await openNetwork(broker.path, cutAfter);
    const host = dial(network.path);
    for (let n = 1; n <= count; n++) host.session.send(nodeGone(n));
    const last = JSON.stringify(nodeGone(count));
    await until(() => broker.heard.some((one) => JSON.stringify(one) === last), {
      ...soon,
      what: `the last message, cut after ${cutAfter}`,
    });
    await until(() => host.session.connected, { ...soon, what: "the session again" });
    const first = new Map<string, number>();
    for (const [at, one] of broker.heard.entries()) {
      const { id } = one as { id: string };
      if (!first.has(id)) first.set(id, at);
    }
    expect([...first.keys()], `cut after ${cutAfter}`).toEqual(
      [1, 2, 3, 4].map((n) => (nodeGone(n) as { id: string }).id),
    );
    const cut = network.wasCut();
    if (cut) cuts++;
    for (let close = closers.pop(); close; close = closers.pop()) await close();
    await rm(join(directory, "net.sock"), { force: true });
    if (!cut) break;
  }
  // hello, welcome, the messages, their acknowledgements
  expect(cuts).toBeGreaterThanOrEqual(2 + count);
});

test("lease.md §6 what the broker says is for the session: none, then false", async () => {
  const broker = await openBroker();
  expect(broker.sessions.send(HOST, drain(1))).toBe(false);
  const host = dial(broker.path);
  await until(() => host.session.connected, { ...soon, what: "the session" });
  broker.sessions.drop(HOST, "begin anew");
  expect(broker.sessions.connected(HOST)).toBe(false);
  await until(() => host.welcomes() === 2, { ...soon, what: "a second session" });
  await until(() => broker.seen.length >= 4, { ...soon, what: "both sessions" });
  expect(broker.seen).toEqual(["hello 1", "connected", "disconnected", "hello 2", "connected"]);
});

test("lease.md §6 a message that fails to be recorded is not acknowledged and comes again", async () => {
  let failing = true;
  const recorded: FromHost[] = [];
  const broker = await openBroker({
    onMessage(_host, message) {
      if (failing) {
        failing = false;
        return Promise.reject(new Error("the disk is full"));
      }
      recorded.push(message);
      return Promise.resolve();
    },
  });
  const host = dial(broker.path);
  host.session.send(nodeGone(1));
  host.session.send(nodeGone(2));
  await until(() => recorded.length >= 2, { ...soon, what: "both messages" });
  await until(() => host.session.connected, { ...soon, what: "the session" });
  expect(recorded.slice(-2)).toEqual([nodeGone(1), nodeGone(2)]);
});

test("lease.md §6 what waits to tell of a TE is told once, as it is by then; a hello makes it old", async () => {
  const broker = await openBroker();
  const network = await openNetwork(broker.path, 1_000_000);
  const host = dial(network.path);
  // before there is a session at all: the hello tells all of it
  host.session.send(gone(1));
  host.session.send(nodeGone(1));
  host.session.send(gone(1));
  host.session.send(gone(2));
  await until(() => host.session.connected, { ...soon, what: "the session" });
  host.session.send(nodeGone(2));
  await until(() => broker.heard.length >= 2, { ...soon, what: "what still counts" });
  expect(broker.heard).toEqual([nodeGone(1), nodeGone(2)]);
});

test("lease.md §6 what follows the welcome is taken when the welcome is, and in order", async () => {
  const broker = await openBroker({
    onConnected() {
      for (let n = 1; n <= 3; n++) broker.sessions.send(HOST, drain(n));
    },
  });
  const order: string[] = [];
  const taken = Promise.withResolvers<void>();
  const session = dialBroker({
    url: `unix:${broker.path}`,
    log: silentLog,
    clock: systemClock,
    random: systemRandom,
    handler: {
      hello: (sessionNumber) => Promise.resolve(hello(sessionNumber)),
      nextSessionNumber: () => Promise.resolve(1),
      async onWelcome() {
        order.push("welcome");
        await taken.promise;
        order.push("taken");
      },
      onMessage(message) {
        order.push(message.kind === "wanted" ? String(message.wanted.testenv) : message.kind);
        return Promise.resolve();
      },
    },
  });
  closers.push(() => session[Symbol.asyncDispose]());
  await until(() => order.length > 0, { ...soon, what: "the welcome" });
  await until(() => broker.seen.length > 0, { ...soon, what: "the session" });
  expect(order).toEqual(["welcome"]);
  taken.resolve();
  await until(() => order.length === 5, { ...soon, what: "all messages" });
  expect(order).toEqual(["welcome", "taken", "1", "2", "3"]);
});

test("lease.md §6 the broker of another version refuses a message: the host hears why, and it is not sent for ever", async () => {
  const broker = await openBroker({
    onMessage(_host, message) {
      broker.heard.push(message);
      return message.kind === "image-ready"
        ? Promise.reject(new RackyardError("not-supported-yet", "no such images here"))
        : Promise.resolve();
    },
  });
  const refused: string[] = [];
  const host = dial(broker.path, HOST, 1, (kind, why) => refused.push(`${kind}: ${why}`));
  await until(() => host.session.connected, { ...soon, what: "the session" });
  const report = { name: "n", recipe: "r", digest: "d", sizeBytes: 1, builtAt: "t" };
  host.session.send({ kind: "image-ready", report });
  host.session.send(nodeGone(1));
  await until(() => refused.length === 1 && broker.heard.length === 2, {
    ...soon,
    what: "the refusal, and the message behind it",
  });
  expect(refused[0]).toContain("no such images here");
  broker.sessions.drop(HOST, "begin anew");
  await until(() => host.welcomes() === 2, { ...soon, what: "a second session" });
  host.session.send(nodeGone(2));
  await until(() => broker.heard.length === 3, { ...soon, what: "the next message" });
  expect(broker.heard.filter(({ kind }) => kind === "image-ready")).toHaveLength(1);
});

test("lease.md §6 the same host UUID twice is refused, the first one stays", async () => {
  const broker = await openBroker();
  const host = dial(broker.path);
  await until(() => host.session.connected, { ...soon, what: "the first" });
  const reason = await scripted(broker.path, [JSON.stringify({ message: hello(9) })]);
  expect(reason).toMatch(/connected already/);
  expect(host.session.connected).toBe(true);
  expect(host.welcomes()).toBe(1);
});

test("lease.md §6 an older session of a host is refused", async () => {
  const broker = await openBroker();
  const host = dial(broker.path, HOST, 5);
  await until(() => host.session.connected, { ...soon, what: "the first" });
  await host.session[Symbol.asyncDispose]();
  await until(() => !broker.sessions.connected(HOST), { ...soon, what: "its end" });
  expect(await scripted(broker.path, [JSON.stringify({ message: hello(5) })])).toMatch(/not newer/);
});

/** A raw peer: sends texts, gives the reason with which it was closed. */
function scripted(path: string, texts: readonly (string | Buffer)[]): Promise<string> {
  const socket = new WebSocket(`ws+unix:${path}:/v1/hosts/session`);
  socket.on("open", () => texts.forEach((text) => socket.send(text)));
  return new Promise((resolve, reject) => {
    socket.on("close", (_code, reason) => resolve(reason.toString()));
    socket.on("error", reject);
  });
}

test.each([
  ["no JSON", ["{"]],
  ["no frame of ours", ['{"hi":1}']],
  ["binary", [Buffer.from([0, 1, 2])]],
  [
    "a message before hello",
    ['{"seq":1,"message":{"kind":"node-gone","id":"7f3a01c2-0000-4000-8000-000000000001"}}'],
  ],
  ["an unknown kind", ['{"message":{"kind":"surprise"}}']],
  ["a malformed hello", ['{"message":{"kind":"hello","name":7}}']],
  ["an acknowledgement of nothing", ['{"ack":7}']],
  ["a gap in the numbers", [JSON.stringify({ message: hello(3) }), '{"seq":2,"message":{}}']],
  ["two hellos", [JSON.stringify({ message: hello(3) }), JSON.stringify({ message: hello(4) })]],
])("lease.md §6 %s ends the session with a reason, and nothing else", async (_what, texts) => {
  const broker = await openBroker();
  expect(await scripted(broker.path, texts)).not.toBe("");
  const host = dial(broker.path, "7f3a01c2-0000-4000-8000-000000000002");
  await until(() => host.session.connected, { ...soon, what: "another host" });
});

test("surface.md §6 who may not be a host is answered 403", async () => {
  const broker = await openBroker({}, () => false);
  await expect(scripted(broker.path, [])).rejects.toThrow(/403/);
});

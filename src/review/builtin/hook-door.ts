/**
 * Where git's hooks ask: a socket for this user alone (0600), and a name for each push that only
 * its own hooks know. Speaks proc-receive's packets (githooks(5)) here, so that the program in
 * the hook is a mere pipe. What is decided, receive.ts decides.
 */
import { once } from "node:events";
import { chmod, mkdir, realpath, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { dirname, join } from "node:path";
import { describeError, fail, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import {
  encodePacket,
  flushPacket,
  openPacketDecoder,
  packetText,
} from "../../git/pkt-line-codec.ts";
import type { Packet } from "../../git/pkt-line-codec.ts";
import { hookKinds } from "./hook-files.ts";
import type { HookKind } from "./hook-files.ts";
import type { Push, PushCommand, Receive } from "./receive.ts";

export type OpenPush = {
  /** For receive-pack, which hands it to its hooks. */
  readonly env: Readonly<Record<string, string>>;
  /** Whether a branch itself was to be written. */
  readonly direct: boolean;
  /** The push is over: its hooks are not heard any more. */
  end(): void;
};

export type HookDoor = AsyncDisposable & {
  begin(push: Push, repository: string): OpenPush;
};

type Session = Push & { readonly repository: string; direct: boolean };

export async function openHookDoor(options: {
  readonly socketPath: string;
  readonly receive: Receive;
  readonly random: Random;
  readonly log: Log;
}): Promise<HookDoor> {
  const { socketPath, receive, random, log } = options;
  const sessions = new Map<string, Session>();
  const answering = new Set<Promise<void>>();
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", (error) => log.debug({ err: error }, "hook: the connection broke"));
    socket.setTimeout(limits.hookMs, () => socket.destroy());
    const answer = serveHook(socket, sessions, receive, log).finally(() => {
      answering.delete(answer);
      socket.end();
    });
    answering.add(answer);
  });
  await listenPrivately(server, socketPath);
  return {
    begin(push, repository) {
      const id = random.bytes(16).toString("hex");
      const session: Session = { ...push, repository, direct: false };
      sessions.set(id, session);
      return {
        env: {
          RACKYARD_HOOK_SOCKET: socketPath,
          RACKYARD_HOOK_MS: String(limits.hookMs),
          RACKYARD_PUSH: id,
        },
        get direct() {
          return session.direct;
        },
        end: () => sessions.delete(id),
      };
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
      await Promise.allSettled(answering);
      await rm(socketPath, { force: true });
    },
  };
}

/** A socket left by a dead server is in the way; the state directory's lock says it is dead. */
async function listenPrivately(server: Server, socketPath: string): Promise<void> {
  if (Buffer.byteLength(socketPath) > limits.socketPathBytes) {
    fail("bad-config", `${socketPath} is too long for a socket`, {
      remedy: "choose a shorter state directory",
    });
  }
  await mkdir(dirname(socketPath), { recursive: true });
  await rm(socketPath, { force: true });
  server.listen(socketPath);
  await once(server, "listening");
  await chmod(socketPath, 0o600);
}

type Hello = {
  push: string;
  hook: HookKind;
  objects: Readonly<Record<string, string>>;
  options: readonly string[];
};

/** The hook's first line; it comes from a program of ours, by a socket of ours. */
function parseHello(line: string): Hello {
  const { push, hook, objects, options } = JSON.parse(line) as Partial<Hello>;
  if (typeof push !== "string" || !hook || !hookKinds.includes(hook)) {
    fail("push-refused", "the hook does not say what it is: start the server again");
  }
  return { push, hook, objects: objects ?? {}, options: options ?? [] };
}

type Say = { out(bytes: Uint8Array): void; err(line: string): void; exit(code: number): void };

async function serveHook(
  socket: Socket,
  sessions: ReadonlyMap<string, Session>,
  receive: Receive,
  log: Log,
): Promise<void> {
  const send = (message: object): void => void socket.write(`${JSON.stringify(message)}\n`);
  const say: Say = {
    out: (bytes) => send({ out: Buffer.from(bytes).toString("base64") }),
    err: (line) => send({ err: line }),
    exit: (code) => send({ exit: code }),
  };
  try {
    const input = readInput(socket);
    const hello = parseHello(await firstLine(input));
    const session = sessions.get(hello.push);
    if (!session) fail("push-refused", "this push is over");
    if (hello.hook === "pre-receive") await beforeReceive(hello, session, input, receive);
    else await procReceive(session, input, receive, say);
    say.exit(0);
  } catch (error) {
    if (!isRackyardError(error)) log.error({ err: error }, "hook: a push failed");
    const known = isRackyardError(error) && error.httpStatus < 500;
    say.err(`error: ${known ? error.message : `internal error (${describeError(error)})`}`);
    if (known && error.remedy !== undefined) {
      for (const line of error.remedy.split("\n")) say.err(line);
    }
    say.exit(1);
  }
}

async function beforeReceive(
  hello: Hello,
  session: Session,
  input: Input,
  receive: Receive,
): Promise<void> {
  const chunks: Uint8Array[] = [];
  for (let chunk = await input.next(); chunk; chunk = await input.next()) chunks.push(chunk);
  const lines = Buffer.concat(chunks).toString("utf8").split("\n").filter(Boolean);
  const commands = lines.map((line) => ({ ...parseCommand(line), options: hello.options }));
  session.direct = commands.some((command) => command.ref.startsWith("refs/heads/"));
  await receive.check(session, commands, await quarantine(hello.objects, session.repository));
}

/** What shows git the pushed objects; nothing outside of the repository is taken. */
async function quarantine(
  objects: Readonly<Record<string, string>>,
  repository: string,
): Promise<Record<string, string>> {
  const own = `${await realpath(join(repository, "objects"))}/`;
  const directory = objects["GIT_OBJECT_DIRECTORY"];
  if (directory === undefined) return {};
  if (!`${await realpath(directory)}/`.startsWith(own)) {
    fail("push-refused", "the pushed objects are not where they belong");
  }
  return { GIT_OBJECT_DIRECTORY: directory, GIT_ALTERNATE_OBJECT_DIRECTORIES: own.slice(0, -1) };
}

/** githooks(5), proc-receive: version and features, commands, then one answer a command. */
async function procReceive(
  session: Session,
  input: Input,
  receive: Receive,
  say: Say,
): Promise<void> {
  const packets = readPackets(input);
  const version = await packets.untilFlush();
  if (!version[0]?.startsWith("version=1")) fail("push-refused", "git speaks another proc-receive");
  const features = (version[0].split("\0")[1] ?? "").split(" ");
  const withOptions = features.includes("push-options");
  say.out(encodePacket(withOptions ? "version=1\0push-options\n" : "version=1\n"));
  say.out(flushPacket);
  const commands = (await packets.untilFlush()).map(parseCommand);
  const options = withOptions ? await packets.untilFlush() : [];
  for (const command of commands) {
    const answer = await receive.apply(session, { ...command, options });
    if (answer.kind === "ok") {
      say.out(encodePacket(`ok ${command.ref}\n`));
      for (const line of answer.lines) say.err(line);
      continue;
    }
    say.out(encodePacket(`ng ${command.ref} ${answer.error.message.replace(/\s+/g, " ")}\n`));
    for (const line of (answer.error.remedy ?? "").split("\n").filter(Boolean)) say.err(line);
  }
  say.out(flushPacket);
}

function parseCommand(line: string): PushCommand {
  const [from = "", to = "", ...ref] = line.split(" ");
  return { from, to, ref: ref.join(" ") };
}

type Input = {
  /** The next bytes; undefined at the end. */
  next(): Promise<Uint8Array | undefined>;
  /** Puts bytes back in front. */
  unread(bytes: Uint8Array): void;
};

function readInput(socket: Socket): Input {
  const chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Uint8Array>;
  let front: Uint8Array | undefined;
  let bytes = 0;
  return {
    async next() {
      const kept = front;
      front = undefined;
      if (kept) return kept;
      const result = await chunks.next();
      if (result.done) return undefined;
      bytes += result.value.length;
      if (bytes > limits.requestBytes) fail("too-large", "too many refs in one push");
      return result.value;
    },
    unread(rest) {
      front = rest.length > 0 ? rest : undefined;
    },
  };
}

async function firstLine(input: Input): Promise<string> {
  let head = Buffer.alloc(0);
  for (;;) {
    const chunk = await input.next();
    if (!chunk) fail("push-refused", "the hook said nothing");
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf(10);
    if (end < 0) continue;
    input.unread(head.subarray(end + 1));
    return head.subarray(0, end).toString("utf8");
  }
}

function readPackets(input: Input): { untilFlush(): Promise<string[]> } {
  const decoder = openPacketDecoder();
  const waiting: Packet[] = [];
  return {
    async untilFlush() {
      const texts: string[] = [];
      for (;;) {
        const packet = waiting.shift();
        if (packet === undefined) {
          const chunk = await input.next();
          if (!chunk) fail("push-refused", "git ended in the middle of a push");
          waiting.push(...decoder.push(chunk));
          continue;
        }
        const text = packetText(packet);
        if (text === undefined) return texts;
        texts.push(text);
      }
    },
  };
}

/**
 * The gate's end of each rack's socket: one connection is one command of the holder, told by the
 * gate's program in a line of JSON. Each rack has its own share of commands at once.
 */
import { chmod, chown, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { PassThrough } from "node:stream";
import type { Readable } from "node:stream";
import { z } from "zod";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { epochSchema } from "../../model/testenv.ts";
import { refused } from "./verb-codec.ts";
import type { GateAnswer } from "./verb-codec.ts";

export type GateRequest = {
  readonly number: number;
  readonly lease: string;
  readonly epoch: number;
  readonly command: string;
  /** Address of the ssh client, for the record. */
  readonly from: string;
  /** The gate asks for the second time: its first agent died over it. */
  readonly again: boolean;
  /** The client's stdin, from now on. */
  stdin(): Readable;
  /** So much came from the client, its words included. */
  bytesRead(): number;
  /** Aborted at the lease's end, and when the client goes away. */
  readonly signal: AbortSignal;
};

const headerSchema = z.strictObject({
  lease: z.string().max(64),
  epoch: epochSchema,
  command: z.string(),
  from: z.string().max(64),
  again: z.boolean(),
});

type Call = { readonly socket: Socket; readonly stop: AbortController; done: Promise<void> };

export type RackSockets = {
  /** Listens at `path`, which is this owner's alone. */
  listen(number: number, path: string, owner: { uid: number; gid: number }): Promise<void>;
  listening(): number[];
  shut(number: number): Promise<void>;
  /** Ends the commands of a rack's lease. */
  abort(number: number): void;
  settled(number: number): Promise<void>;
  open(number: number): number;
};

export function openRackSockets(options: {
  readonly answer: (request: GateRequest) => Promise<GateAnswer>;
  readonly log: Log;
}): RackSockets {
  const servers = new Map<number, Server>();
  const calls = new Map<number, Set<Call>>();
  const away = new Map<number, Set<Socket>>();

  function accept(number: number, socket: Socket): void {
    const stop = new AbortController();
    const call: Call = { socket, stop, done: Promise.resolve() };
    const own = calls.get(number) ?? new Set();
    socket.on("error", () => undefined);
    if (own.size >= limits.gateCalls) return turnAway(number, socket);
    calls.set(number, own.add(call));
    socket.once("close", () => stop.abort(new DOMException("the client is gone", "AbortError")));
    call.done = serve(number, socket, stop.signal).finally(() => own.delete(call));
  }

  /** One pot for each rack: a job that floods its gate waits for itself. */
  function turnAway(number: number, socket: Socket): void {
    const own = away.get(number) ?? new Set();
    away.set(number, own.add(socket));
    socket.once("close", () => own.delete(socket));
    const line = `error: ${limits.gateCalls} commands of this rack are being carried out already`;
    socket.end(`${JSON.stringify(refused(line))}\n`);
    socket.resume().setTimeout(limits.commandMs, () => socket.destroy());
  }

  async function serve(number: number, socket: Socket, signal: AbortSignal): Promise<void> {
    try {
      const { header, rest } = await readHeader(socket, signal);
      const request: GateRequest = {
        ...header,
        number,
        epoch: Number(header.epoch),
        signal,
        bytesRead: () => socket.bytesRead,
        stdin() {
          socket.write(`${JSON.stringify({ want: "stdin" })}\n`);
          if (rest.length > 0) socket.unshift(rest);
          return bytesOf(socket);
        },
      };
      const answer = await options.answer(request).catch((error: unknown) => {
        options.log.warn({ testenv: number, why: describeError(error) }, "a verb failed");
        return refused("error: the agent cannot do it now");
      });
      if (!signal.aborted) socket.end(`${JSON.stringify(answer)}\n`);
    } catch (error) {
      options.log.debug({ testenv: number, why: describeError(error) }, "a gate call ended");
    } finally {
      if (!socket.writableEnded) socket.destroy();
    }
  }

  async function listen(
    number: number,
    path: string,
    owner: { uid: number; gid: number },
  ): Promise<void> {
    await rm(path, { force: true });
    const server = createServer({ allowHalfOpen: true }, (socket) => accept(number, socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    await chmod(path, 0o600);
    await chown(path, owner.uid, owner.gid);
    servers.set(number, server);
  }

  async function shut(number: number): Promise<void> {
    const server = servers.get(number);
    servers.delete(number);
    for (const call of calls.get(number) ?? []) call.socket.destroy();
    for (const socket of away.get(number) ?? []) socket.destroy();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
  }

  return {
    listening: () => [...servers.keys()],
    listen,
    shut,
    abort(number) {
      for (const call of calls.get(number) ?? []) {
        call.stop.abort(new DOMException("the lease is over", "AbortError"));
        call.socket.destroy();
      }
    },
    async settled(number) {
      await Promise.all([...(calls.get(number) ?? [])].map((call) => call.done));
    },
    open: (number) => calls.get(number)?.size ?? 0,
  };
}

/** What the client sends; a socket read to its end by an iterator could not answer any more. */
function bytesOf(socket: Socket): Readable {
  const bytes = new PassThrough();
  socket.once("close", () => {
    if (!socket.readableEnded) bytes.destroy(new Error("the client went away"));
  });
  return socket.pipe(bytes);
}

/** First line of a call: bounded in length and time; `rest` are the bytes behind it. */
async function readHeader(
  socket: Socket,
  signal: AbortSignal,
): Promise<{ header: z.output<typeof headerSchema>; rest: Buffer }> {
  const bound = AbortSignal.any([signal, AbortSignal.timeout(limits.commandMs)]);
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const finish = (act: () => void): void => {
      socket.off("data", onData);
      bound.removeEventListener("abort", onAbort);
      socket.pause();
      act();
    };
    const onAbort = (): void => finish(() => reject(bound.reason as Error));
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf(10);
      if (end < 0 && received.length <= 4 * limits.gateCommandBytes) return;
      finish(() => {
        try {
          const header = headerSchema.parse(JSON.parse(received.toString("utf8", 0, end)));
          resolve({ header, rest: received.subarray(end + 1) });
        } catch (error) {
          reject(error instanceof Error ? error : new Error("not a header"));
        }
      });
    };
    bound.addEventListener("abort", onAbort);
    socket.on("data", onData);
  });
}

/**
 * Serial consoles on their way to the broker (lease.md §6): a stream reads a machine's log from
 * an offset on and follows it, never beyond the credit it was given; of a lease that is over it
 * reads the kept file and ends. Writing to a console is not offered yet.
 */
import { open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { pause } from "../../base/wait.ts";
import type { ToBroker } from "../../model/session.ts";

/** A piece of a console in one message. */
const PIECE_BYTES = 32 * 1024;

export type ConsoleFile = {
  readonly path: string;
  /** Still being written; else the stream ends with the file. */
  readonly live: boolean;
};

export type ConsoleStreams = AsyncDisposable & {
  open(request: {
    stream: string;
    file: ConsoleFile | undefined;
    fromByte: number;
    credit: number;
  }): void;
  credit(stream: string, bytes: number): void;
  close(stream: string): void;
};

type Stream = { readonly stop: AbortController; credit: number; wake: () => void };
type Send = (message: Extract<ToBroker, { kind: "console-data" | "console-end" }>) => void;

export function openConsoleStreams(send: Send): ConsoleStreams {
  const streams = new Map<string, Stream>();
  const running = new Set<Promise<void>>();

  async function follow(
    name: string,
    stream: Stream,
    file: ConsoleFile,
    fromByte: number,
  ): Promise<string> {
    const { signal } = stream.stop;
    await using handle = await openWhenThere(file, signal);
    if (!handle) return "there is no console of this machine";
    let offset = fromByte;
    for (;;) {
      signal.throwIfAborted();
      if (stream.credit <= 0) {
        await new Promise<void>((resolve) => (stream.wake = resolve));
        continue;
      }
      const room = Math.min(PIECE_BYTES, stream.credit);
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(room), 0, room, offset);
      if (bytesRead > 0) {
        const dataBase64 = buffer.subarray(0, bytesRead).toString("base64");
        send({ kind: "console-data", stream: name, offset, dataBase64 });
        offset += bytesRead;
        stream.credit -= bytesRead;
        continue;
      }
      if (!file.live) return "";
      if (await replaced(handle, file.path)) return "the lease is over";
      await pause(limits.pollMs, signal);
    }
  }

  return {
    open({ stream: name, file, fromByte, credit }) {
      if (!file) {
        send({ kind: "console-end", stream: name, detail: "no such machine" });
        return;
      }
      const stream: Stream = { stop: new AbortController(), credit, wake: () => undefined };
      streams.set(name, stream);
      const done = follow(name, stream, file, fromByte)
        .catch((error: unknown) => describeError(error))
        .then((detail) => {
          streams.delete(name);
          if (!stream.stop.signal.aborted) send({ kind: "console-end", stream: name, detail });
        })
        .finally(() => running.delete(done));
      running.add(done);
    },
    credit(name, bytes) {
      const stream = streams.get(name);
      if (!stream) return;
      stream.credit += bytes;
      stream.wake();
    },
    close(name) {
      const stream = streams.get(name);
      stream?.stop.abort();
      stream?.wake();
    },
    async [Symbol.asyncDispose]() {
      for (const stream of streams.values()) {
        stream.stop.abort();
        stream.wake();
      }
      await Promise.all(running);
    },
  };
}

/** A machine that was never on has no log yet: it is waited for. */
async function openWhenThere(
  file: ConsoleFile,
  signal: AbortSignal,
): Promise<FileHandle | undefined> {
  for (;;) {
    try {
      return await open(file.path, "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      if (!file.live) return undefined;
      await pause(limits.pollMs * 5, signal);
    }
  }
}

/** The reset took the file away: what comes under its name is another lease's. */
async function replaced(handle: FileHandle, path: string): Promise<boolean> {
  const own = await handle.stat();
  return stat(path).then(
    (now) => now.ino !== own.ino,
    () => true,
  );
}

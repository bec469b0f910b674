/**
 * A build's console while it runs (ci.md X-3): each line with its time, followed live by any
 * number of readers. Its first bytes and its last are kept, and our own lines always; what is left
 * out between them is told. The file only grows: a reader of a build that runs and of one that
 * is over count the same lines. A disk that takes nothing stops neither the job nor the server:
 * lines wait in bounded memory, then are dropped and counted.
 */
import { constants } from "node:fs";
import { mkdir, open, readFile, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { describeError, fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { backoffMs } from "../../base/retry.ts";
import type { Troubles } from "../../base/troubles.ts";
import { stampLine, writeAt } from "./console-line.ts";
import type { ConsoleLine } from "./console-line.ts";
import { openTail } from "./console-tail.ts";
import type { Pace } from "./pace.ts";

export type LiveConsole = {
  /** The file that readers follow. */
  readonly path: string;
  /** A line of our own: kept whatever the length. */
  say(line: string): void;
  /** A line of the job. */
  output(line: string): void;
  /** Resolves when more output may come; undefined: at once. */
  room(): Promise<void> | undefined;
  /** Resolves when all lines so far are on disk, or the disk takes none just now. */
  flushed(): Promise<void>;
  /** Writes what is still to come: the end of a long console too. Throws what the disk says. */
  finish(): Promise<void>;
  close(): Promise<void>;
  readonly closed: boolean;
  /** Calls back when lines were written and at the close; returns how to stop that. */
  onChange(callback: () => void): () => void;
};

/** `full`: the rest goes to the tail. */
type Head = { readonly file: FileHandle; size: number; full: boolean };

export type ConsoleOptions = {
  /** Of this build alone; kept until {@link LiveConsole.finish} and its owner's removal. */
  readonly folder: string;
  readonly clock: Clock;
  readonly pace: Pace;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  /** Writes to the disk; a test's may be full. */
  readonly write?: typeof writeAt;
  readonly headBytes?: number;
  readonly tailBytes?: number;
};

/** What the alarm says; one for all consoles. */
const TROUBLE = "writing the consoles of builds";

export function consolePath(folder: string): string {
  return join(folder, "console.log");
}

export function openConsole(options: ConsoleOptions): LiveConsole {
  const { folder, clock, pace, troubles } = options;
  const headBytes = options.headBytes ?? limits.buildConsoleHeadBytes;
  const write = options.write ?? writeAt;
  const tail = openTail(folder, options.tailBytes ?? limits.buildConsoleTailBytes, write);
  const path = consolePath(folder);
  const callbacks = new Set<() => void>();
  const over = new AbortController();
  let pending: ConsoleLine[] = [];
  let pendingBytes = 0;
  let lost = 0;
  let failures = 0;
  /** Lines that are neither pending nor on disk. */
  let writing = false;
  let head: Head | undefined;
  let pumping: Promise<void> | undefined;
  let waitMs = 0;
  let stamp = { atMs: -1, text: "" };

  const tell = (): void => {
    for (const callback of callbacks) callback();
  };

  function add(line: string, own: boolean): void {
    if (over.signal.aborted) return;
    const atMs = clock.wallMs();
    if (atMs !== stamp.atMs) stamp = { atMs, text: stampLine("", atMs) };
    const text = `${stamp.text}${line}\n`;
    pending.push({ text, bytes: Buffer.byteLength(text), own });
    pendingBytes += pending.at(-1)!.bytes;
    if (pendingBytes > limits.consoleHeldBytes) shed();
    pumping ??= Promise.resolve().then(pump);
  }

  /** The disk is too slow or takes nothing: the job's older lines go, and are counted. */
  function shed(): void {
    const kept: ConsoleLine[] = [];
    let room = limits.consoleHeldBytes / 2;
    for (const line of pending.toReversed()) {
      if (line.own || room >= line.bytes) kept.push(line);
      else lost++;
      if (!line.own) room -= line.bytes;
    }
    // own lines are few, and yet bounded: a disk may be full for days
    pending = kept.reverse().slice(-10_000);
    pendingBytes = pending.reduce((sum, line) => sum + line.bytes, 0);
  }

  /** Writes until nothing is left to write; the one writer. */
  async function pump(): Promise<void> {
    while (pending.length > 0 && !over.signal.aborted) {
      try {
        await writeSome();
        failures = 0;
        troubles.end(TROUBLE);
        tell();
      } catch (error) {
        failures++;
        troubles.begin(TROUBLE, describeError(error));
        tell();
        await nextTry();
      }
    }
    pumping = undefined;
  }

  function nextTry(): Promise<void> {
    return new Promise((resolve) => {
      const timer = clock.after(backoffMs(failures), done);
      function done(): void {
        timer.cancel();
        over.signal.removeEventListener("abort", done);
        resolve();
      }
      over.signal.addEventListener("abort", done, { once: true });
    });
  }

  async function writeSome(): Promise<void> {
    head ??= await openHead(folder, path);
    if (lost > 0) {
      const text = `(${lost} lines of output were lost: the archive's disk took none)`;
      const line = `${stampLine(text, clock.wallMs())}\n`;
      pending.unshift({ text: line, bytes: Buffer.byteLength(line), own: true });
      lost = 0;
    }
    const batch = pending;
    writing = true;
    pending = [];
    pendingBytes = 0;
    let done = 0;
    try {
      while (done < batch.length) {
        const rest = batch.slice(done);
        done += head.full ? await tail.write(rest) : await writeHead(head, rest);
      }
    } finally {
      writing = false;
      if (done < batch.length) {
        pending = [...batch.slice(done), ...pending];
        pendingBytes = pending.reduce((sum, line) => sum + line.bytes, 0);
      }
    }
  }

  /** As many of these lines as the head takes; gives their number, 0 once it is full. */
  async function writeHead(to: Head, lines: readonly ConsoleLine[]): Promise<number> {
    let size = to.size;
    let count = 0;
    while (count < lines.length && size + lines[count]!.bytes <= headBytes) {
      size += lines[count++]!.bytes;
    }
    if (count === 0) {
      await writeFile(headFile(folder), String(size));
      to.full = true;
      return 0;
    }
    const texts = lines.slice(0, count).map((line) => line.text);
    await write(to.file, Buffer.from(texts.join("")), to.size);
    to.size = size;
    return count;
  }

  function flushed(): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if ((pending.length > 0 || writing) && failures === 0 && !over.signal.aborted) return;
        callbacks.delete(look);
        resolve();
      };
      callbacks.add(look);
      look();
    });
  }

  return {
    path,
    say: (line) => add(line, true),
    output(line) {
      waitMs = pace.spend(line.length + 1);
      add(line, false);
    },
    room() {
      // one that waits for the disk waits for a while at most: then lines are dropped, not the job
      const slow = pendingBytes > limits.consolePendingBytes && failures === 0;
      if (waitMs < 1 && !slow) return undefined;
      const forMs = slow ? Math.max(waitMs, limits.pollMs) : waitMs;
      waitMs = 0;
      return new Promise((resolve) => void clock.after(forMs, resolve));
    },
    flushed,
    async finish() {
      await flushed();
      if (pending.length > 0) fail("unavailable", "the console is not written yet");
      head ??= await openHead(folder, path);
      if (!head.full) return;
      // the head's own size stays: moved again after a failure, it is the same
      const end = await tail.moveTo(head.file, head.size, clock.wallMs());
      await head.file.truncate(end);
    },
    async close() {
      if (over.signal.aborted) return;
      over.abort();
      await pumping;
      await head?.file.close();
      await tail.close();
      tell();
    },
    get closed() {
      return over.signal.aborted;
    },
    onChange(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
  };
}

/** The size at which the head was full, written down: what stands behind it is the end's. */
function headFile(folder: string): string {
  return join(folder, "head");
}

/** Opens what there is, again after a restart: without a torn last line, or an end half moved. */
async function openHead(folder: string, path: string): Promise<Head> {
  await mkdir(dirname(path), { recursive: true });
  const full = await readFile(headFile(folder), "utf8").catch(() => undefined);
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
  try {
    let { size } = await file.stat();
    if (full !== undefined) {
      size = Math.min(size, Number(full));
      await file.truncate(size);
      return { file, size, full: true };
    }
    if (size > 0) {
      const last = Buffer.alloc(1);
      await file.read(last, 0, 1, size - 1);
      if (last[0] !== 10) {
        await writeAt(file, Buffer.from("\n"), size);
        size++;
      }
    }
    return { file, size, full: false };
  } catch (error) {
    await file.close();
    throw error;
  }
}

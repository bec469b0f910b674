/**
 * A build's console on disk: each line with its time, followed live by any number of readers,
 * bounded in size (ci.md X-3). The file is the truth: readers of a build that runs and of one
 * that is over read the same file; a reader waits at its end until the console is closed.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { open } from "node:fs/promises";
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";

export type LiveConsole = {
  /** Appends a line with the time `atMs`. Beyond the limit one last line says so. */
  write(line: string, atMs: number): void;
  close(): void;
  readonly closed: boolean;
  /** Calls back after each line and at the close; returns how to stop that. */
  onChange(callback: () => void): () => void;
};

/** `YYYY-MM-DD HH:MM:SS.mmm | ` in UTC, as 2015's tsfilter wrote it. */
export function stampLine(line: string, atMs: number): string {
  return `${new Date(atMs).toISOString().replace("T", " ").slice(0, 23)} | ${line}`;
}

export function openConsole(path: string, sizeBytes: number): LiveConsole {
  const file = openSync(path, "a", 0o644);
  const callbacks = new Set<() => void>();
  let size = sizeBytes;
  let full = false;
  let closed = false;
  const tell = (): void => {
    for (const callback of callbacks) callback();
  };
  return {
    get closed() {
      return closed;
    },
    write(line, atMs) {
      if (closed || full) return;
      full = size + line.length > limits.buildConsoleBytes;
      const text = full
        ? `console limit of ${limits.buildConsoleBytes} bytes: the rest is dropped`
        : line;
      size += writeSync(file, `${stampLine(text, atMs)}\n`);
      tell();
    },
    close() {
      if (closed) return;
      closed = true;
      closeSync(file);
      tell();
    },
    onChange(callback) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
  };
}

export type NumberedLine = { readonly seq: number; readonly line: string };

/**
 * Lines after number `afterSeq` (they count from 1), as they come. Ends with the console, at
 * the file's end where nothing writes any more (`live` undefined), or with the signal.
 */
export async function* followConsole(
  path: string,
  afterSeq: number,
  live: LiveConsole | undefined,
  signal: AbortSignal,
): AsyncGenerator<NumberedLine> {
  let changed = false;
  let wake: (() => void) | undefined;
  const notify = (): void => {
    changed = true;
    wake?.();
  };
  const stop = live?.onChange(notify);
  signal.addEventListener("abort", notify);
  const file = await open(path, "r");
  try {
    const pending: NumberedLine[] = [];
    let seq = 0;
    const splitter = openLineSplitter(limits.lineBytes, (line) => {
      seq++;
      if (seq > afterSeq) pending.push({ seq, line });
    });
    const buffer = Buffer.alloc(64 * 1024);
    for (;;) {
      changed = false;
      const over = live?.closed ?? true;
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, buffer.length);
        if (bytesRead === 0) break;
        splitter.push(Buffer.from(buffer.subarray(0, bytesRead)));
        for (let next = pending.shift(); next; next = pending.shift()) yield next;
        if (signal.aborted) return;
      }
      if (over) break;
      if (!changed) await new Promise<void>((resolve) => (wake = resolve));
      wake = undefined;
      if (signal.aborted) return;
    }
    splitter.end();
    yield* pending;
  } finally {
    stop?.();
    signal.removeEventListener("abort", notify);
    await file.close();
  }
}

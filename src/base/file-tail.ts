/**
 * Follows a file that another program appends to: whole lines from an offset on, until the
 * signal aborts. A file that is not there yet is waited for; one that became shorter was cut
 * (limits.consoleBytes) and is read from its beginning.
 */
import { watch } from "node:fs";
import { open } from "node:fs/promises";
import { limits } from "./limits.ts";
import { openLineSplitter } from "./lines.ts";
import { pause } from "./wait.ts";

const CHUNK_BYTES = 64 * 1024;

export type TailOptions = {
  readonly onLine: (line: string) => void;
  readonly signal: AbortSignal;
  /** Byte to begin with; default: the file's present end. */
  readonly from?: number;
};

/** Returns when the signal aborts. */
export async function followLines(path: string, options: TailOptions): Promise<void> {
  const { signal } = options;
  const splitter = openLineSplitter(limits.lineBytes, options.onLine);
  let offset = options.from;
  while (!signal.aborted) {
    const changed = nextChange(path, signal); // armed before the look, so that none is missed
    offset = await readOn(path, offset, (chunk) => splitter.push(chunk));
    await changed;
  }
}

/** Reads from `offset` to the end and returns the new offset. */
async function readOn(
  path: string,
  offset: number | undefined,
  onChunk: (chunk: Uint8Array) => void,
): Promise<number> {
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (!file) return 0;
  try {
    const { size } = await file.stat();
    let at = offset ?? size;
    if (at > size) at = 0;
    for (;;) {
      const buffer = Buffer.alloc(CHUNK_BYTES);
      const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES, at);
      if (bytesRead === 0) return at;
      onChunk(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}

async function nextChange(path: string, signal: AbortSignal): Promise<void> {
  const changed = new AbortController();
  const either = AbortSignal.any([signal, changed.signal]);
  try {
    const watcher = watch(path, { signal: either }, () => changed.abort());
    watcher.on("error", () => undefined);
  } catch {
    // not there yet: looked for at the pace
  }
  await pause(limits.tailLookMs, either).catch(() => undefined);
  changed.abort();
}

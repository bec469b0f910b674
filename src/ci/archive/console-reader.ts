/**
 * Reads a console: numbered lines from its file, as they come while it is written.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";
import type { LiveConsole } from "./console.ts";

export type NumberedLine = { readonly seq: number; readonly line: string };

/** Lines after number `afterSeq` (they count from 1), to the source's end. */
export async function* numberedLines(
  source: AsyncIterable<Uint8Array>,
  afterSeq: number,
): AsyncGenerator<NumberedLine> {
  const pending: NumberedLine[] = [];
  let seq = 0;
  const splitter = openLineSplitter(limits.storedLineBytes, (line) => {
    seq++;
    if (seq > afterSeq) pending.push({ seq, line });
  });
  for await (const chunk of source) {
    splitter.push(chunk);
    yield* pending.splice(0);
  }
  splitter.end();
  yield* pending;
}

/**
 * The bytes of a console that is written, as they come: to its close, or (`follow` false) to
 * where it is now. Ends with the signal too.
 */
export async function* liveBytes(
  live: LiveConsole,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let changed = false;
  let wake: (() => void) | undefined;
  const notify = (): void => {
    changed = true;
    wake?.();
  };
  const stop = live.onChange(notify);
  signal.addEventListener("abort", notify);
  let file: FileHandle | undefined;
  try {
    await live.flushed();
    file = await open(live.path, "r").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined; // the disk takes nothing just now
      throw error;
    });
    if (!file) return;
    while (!signal.aborted) {
      changed = false;
      const over = live.closed || !follow;
      for (;;) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(64 * 1024));
        if (bytesRead === 0) break;
        yield buffer.subarray(0, bytesRead);
        if (signal.aborted) return;
      }
      if (over) return;
      if (!changed && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
      wake = undefined;
    }
  } finally {
    stop();
    signal.removeEventListener("abort", notify);
    await file?.close();
  }
}

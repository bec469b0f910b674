/**
 * Serial consoles as kept files: QEMU appends, whether anyone reads or not (H-15.3). Here they
 * are followed line by line, kept small (H-11.4), and searched for the marks that a guest prints
 * about itself (surface.md §10).
 */
import { appendFile, stat, truncate } from "node:fs/promises";
import { followLines } from "../base/file-tail.ts";
import { limits } from "../base/limits.ts";

/** `@rackyard up` or `@rackyard phase=WORD` on a line of its own. */
export type ConsoleMark =
  | { readonly kind: "up" }
  | { readonly kind: "phase"; readonly phase: string };

export function parseConsoleMark(line: string): ConsoleMark | undefined {
  const [, word, phase] =
    /(?:^|\s)@rackyard (up|phase=([A-Za-z0-9._-]{1,64}))\s*$/.exec(line) ?? [];
  if (phase !== undefined) return { kind: "phase", phase };
  return word === "up" ? { kind: "up" } : undefined;
}

/** Follows a console from byte `from` (default: its present end) until the signal aborts. */
export async function followConsole(
  path: string,
  options: {
    readonly from?: number;
    readonly signal: AbortSignal;
    readonly onLine?: (line: string) => void;
    readonly onMark?: (mark: ConsoleMark, line: string) => void;
  },
): Promise<void> {
  await followLines(path, {
    signal: options.signal,
    ...(options.from === undefined ? {} : { from: options.from }),
    onLine(line) {
      options.onLine?.(line);
      const mark = parseConsoleMark(line);
      if (mark) options.onMark?.(mark, line);
    },
  });
}

/** Bytes in a console; 0 where there is none yet. */
export async function consoleSize(path: string): Promise<number> {
  return stat(path).then(
    (facts) => facts.size,
    () => 0,
  );
}

/**
 * Cuts a console that has outgrown its limit, and says so in it. QEMU opened it for appending,
 * so it goes on writing at the new end. Returns the bytes dropped.
 */
export async function keepConsoleSmall(
  path: string,
  limitBytes: number = limits.consoleBytes,
): Promise<number> {
  const size = await consoleSize(path);
  if (size <= limitBytes) return 0;
  await truncate(path, 0);
  await appendFile(path, `… ${size} bytes of this console dropped (limit ${limitBytes})\n`);
  return size;
}

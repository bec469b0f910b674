/**
 * Lines of a console as they are kept.
 */
import type { FileHandle } from "node:fs/promises";

/** `text` with its time and newline; `own`: said by us, not by the job. */
export type ConsoleLine = { readonly text: string; readonly bytes: number; readonly own: boolean };

/** `YYYY-MM-DD HH:MM:SS.mmm | ` in UTC, as 2015's tsfilter wrote it. */
export function stampLine(line: string, atMs: number): string {
  return `${new Date(atMs).toISOString().replace("T", " ").slice(0, 23)} | ${line}`;
}

/** All of it; a disk may take a part at a time. */
export async function writeAt(file: FileHandle, data: Buffer, position: number): Promise<void> {
  for (let at = 0; at < data.length;) {
    at += (await file.write(data, at, data.length - at, position + at)).bytesWritten;
  }
}

/**
 * Unpacks the tar stream of a job's `logs/` into the archive. What comes from a node is not
 * trusted: only plain files and folders below the target are written, with fixed modes, within
 * a limit of bytes; links, devices and paths that lead elsewhere are left out and counted.
 */
import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createTarDecoder } from "modern-tar";

export type UnpackReport = {
  readonly files: number;
  readonly bytes: number;
  /** Names left out, with the reason; at most a hundred are named. */
  readonly left: readonly string[];
  readonly truncated: boolean;
};

const NAMED_AT_MOST = 100;

/** Throws what the stream throws; a limit reached ends it with `truncated`. */
export async function unpackLogs(
  stream: Readable,
  directory: string,
  limitBytes: number,
  signal: AbortSignal,
): Promise<UnpackReport> {
  const left: string[] = [];
  const leave = (name: string, why: string): void => {
    if (left.length < NAMED_AT_MOST) left.push(`${name}: ${why}`);
  };
  let files = 0;
  let bytes = 0;
  let truncated = false;
  await mkdir(directory, { recursive: true });
  const decoder = createTarDecoder();
  const entries = (Readable.toWeb(stream) as ReadableStream<Uint8Array>).pipeThrough(decoder);
  for await (const entry of entries) {
    signal.throwIfAborted();
    const body = Readable.fromWeb(entry.body as Parameters<typeof Readable.fromWeb>[0]);
    const path = insidePath(directory, entry.header.name);
    const type = entry.header.type ?? "file";
    if (type === "directory" && path !== undefined) await mkdir(path, { recursive: true });
    if (type !== "file" || path === undefined || bytes + entry.header.size > limitBytes) {
      if (type === "file" && path !== undefined) {
        truncated = true;
        leave(entry.header.name, "over the limit");
      } else if (type !== "directory") leave(entry.header.name, `${type}, not kept`);
      body.resume();
      continue;
    }
    await mkdir(dirname(path), { recursive: true });
    let written = 0;
    const count = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        written += chunk.length;
        done(null, chunk);
      },
    });
    await pipeline(body, count, createWriteStream(path, { mode: 0o644 }), { signal });
    files++;
    bytes += written;
  }
  return { files, bytes, left, truncated };
}

/** The path of an entry below `directory`, or undefined where its name leads elsewhere. */
export function insidePath(directory: string, name: string): string | undefined {
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (name.startsWith("/") || name.includes("\0") || name.includes("\\")) return undefined;
  if (parts.length === 0 || parts.includes("..") || parts.some((part) => part.length > 255)) {
    return undefined;
  }
  return join(directory, ...parts);
}

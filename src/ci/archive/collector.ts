/**
 * Takes a job's `logs/` from a tar stream into the store. What comes from a node is not trusted:
 * only plain files are kept, below their folder, within limits of bytes, files and the caller's
 * time; what is not kept is named, the rest of the names counted. A stream that ends in the
 * middle, or goes on beyond the limits, is not whole, and says so.
 */
import { isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { ArchiveStore } from "./archive-store.ts";
import { readTar, TarError } from "./tar-reader.ts";

export type CollectedLogs = {
  readonly files: number;
  readonly bytes: number;
  /** Names left out, with the reason; at most `collectNamed` of them. */
  readonly left: readonly string[];
  /** How many more were left out. */
  readonly leftMore: number;
  /** Why the stream was not taken to its end. */
  readonly cut: string | null;
};

export type CollectLimits = { readonly bytes: number; readonly files: number };

/**
 * Throws `no-space`, what the stream throws, or the signal's reason; what was taken before stays.
 */
export async function collectTar(
  source: AsyncIterable<Uint8Array>,
  store: ArchiveStore,
  folder: string,
  bounds: CollectLimits,
  signal: AbortSignal,
): Promise<CollectedLogs> {
  const left: string[] = [];
  let leftMore = 0;
  const leave = (name: Buffer, why: string): void => {
    if (left.length < limits.collectNamed) left.push(`${shownName(name)}: ${why}`);
    else leftMore++;
  };
  const taken = new Map<string, string>();
  let files = 0;
  let bytes = 0;
  const report = (cut: string | null): CollectedLogs => ({ files, bytes, left, leftMore, cut });
  try {
    for await (const entry of readTar(source)) {
      signal.throwIfAborted();
      if (entry.type === "folder") continue; // made by the files in it
      const path = archivedPath(entry.name, taken);
      if (path === undefined) leave(entry.name, "its name leads elsewhere");
      else if (entry.type !== "file") leave(entry.name, `a ${entry.type}, not kept`);
      else if (files >= bounds.files) return report(`more than ${bounds.files} files`);
      else if (bytes + entry.bytes > bounds.bytes) {
        leave(entry.name, `${entry.bytes} bytes, over the limit`);
        // what was sent was chosen to fit: a stream that does not is not drained
        if (entry.bytes > limits.collectLogsBytes) return report(`more than ${bounds.bytes} bytes`);
      } else {
        bytes += (await keep(store, `${folder}/${path}`, entry, leave, signal)) ?? 0;
        files++;
      }
    }
    return report(null);
  } catch (error) {
    if (error instanceof TarError) return report(error.message);
    throw error;
  }
}

async function keep(
  store: ArchiveStore,
  path: string,
  entry: { readonly name: Buffer; readonly body: AsyncIterable<Buffer> },
  leave: (name: Buffer, why: string) => void,
  signal: AbortSignal,
): Promise<number | undefined> {
  try {
    return (await store.put(path, entry.body, { signal })).bytes;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // a file where a folder is, a name that the disk cannot hold: the others are kept
    if (isRackyardError(error) || !["EISDIR", "ENOTDIR", "EEXIST", "ENAMETOOLONG"].includes(code!))
      throw error;
    leave(entry.name, `cannot be kept: ${code}`);
    return undefined;
  }
}

/**
 * Where an entry is kept, or undefined where its name leads elsewhere. Bytes that are no UTF-8
 * are written `%XX`; a name that another has already gets a number, so that none replaces it.
 */
export function archivedPath(name: Buffer, taken: Map<string, string>): string | undefined {
  if (name[0] === 0x2f || name.includes(0) || name.length > limits.collectNameBytes)
    return undefined;
  const text = readable(name);
  const parts = text.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.length === 0 || parts.includes("..")) return undefined;
  if (parts.some((part) => Buffer.byteLength(part) > 240)) return undefined;
  const raw = name.toString("latin1");
  const wanted = parts.join("/");
  for (let number = 1; ; number++) {
    const path = number === 1 ? wanted : `${wanted}~${number}`;
    const owner = taken.get(path);
    if (owner === undefined || owner === raw) {
      taken.set(path, raw);
      return path;
    }
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

function readable(name: Buffer): string {
  try {
    return utf8.decode(name);
  } catch {
    const hex = (byte: number): string => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    return [...name].map((b) => (b < 0x80 ? String.fromCharCode(b) : hex(b))).join("");
  }
}

/** One line, whatever the job called its file. */
function shownName(name: Buffer): string {
  // eslint-disable-next-line no-control-regex
  const text = readable(name).replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/**
 * The archive's store on a file system. Files are written aside and renamed; no link is followed,
 * so that nothing a job leaves leads out; a file of the machine is linked in where that can be
 * (it then lives as long as either name) and copied elsewhere.
 */
import { randomBytes } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { copyFile, link, lstat, mkdir, open, readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { assert } from "../../base/assert.ts";
import { spaceError } from "../../base/files.ts";
import type { ArchiveStore, Put, PutOptions, PutSource } from "./archive-store.ts";

/** Aside, until it is whole: never listed. */
const ASIDE = /\.[0-9a-f]{12}\.new$/;

export function openFileStore(directory: string): ArchiveStore {
  const place = (path: string): string => {
    const parts = path.split("/").filter((part) => part !== "");
    assert(!parts.includes("..") && !path.includes("\0"), `not a path of the store: ${path}`);
    return join(directory, ...parts);
  };

  /** The file's stat where each folder above it is one, not a link. */
  async function look(path: string) {
    const target = place(path);
    try {
      for (let at = dirname(target); at.length > directory.length; at = dirname(at)) {
        if (!(await lstat(at)).isDirectory()) return undefined;
      }
      return await lstat(target, { bigint: false });
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw error;
    }
  }

  async function put(path: string, source: PutSource, options: PutOptions = {}): Promise<Put> {
    const target = place(path);
    const aside = `${target}.${randomBytes(6).toString("hex")}.new`;
    try {
      await mkdir(dirname(target), { recursive: true });
      const done = await writeAside(aside, source, options);
      await rename(aside, target);
      // rename(2) leaves both names where they are one file already
      if (isLocalFile(source)) await rm(aside, { force: true });
      return done;
    } catch (error) {
      await rm(aside, { force: true });
      throw spaceError(path, error);
    }
  }

  async function* walk(folder: string): AsyncGenerator<string> {
    for (const entry of await entriesOf(place(folder))) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) yield* walk(path);
      else if (entry.isFile() && !ASIDE.test(entry.name)) yield path;
    }
  }

  return {
    put,
    async get(path) {
      const found = await look(path);
      if (!found?.isFile()) return undefined;
      return {
        bytes: found.size,
        modifiedMs: found.mtimeMs,
        read: (range) => createReadStream(place(path), { ...range, flags: "r" }),
      };
    },
    async entries(folder) {
      if (folder !== "" && !(await look(folder))?.isDirectory()) return [];
      const found = [];
      for (const entry of await entriesOf(place(folder))) {
        const { name } = entry;
        if (entry.isDirectory()) found.push({ name });
        else if (entry.isFile() && !ASIDE.test(name)) {
          const bytes = await sizeOf(join(place(folder), name));
          if (bytes !== undefined) found.push({ name, bytes });
        }
      }
      return found.sort(byName);
    },
    async list(folder) {
      const found: { path: string; bytes: number }[] = [];
      for await (const path of walk(folder)) {
        const bytes = await sizeOf(place(path));
        const own = folder === "" ? path : path.slice(folder.length + 1);
        if (bytes !== undefined) found.push({ path: own, bytes });
      }
      return found.sort((x, y) => (x.path < y.path ? -1 : 1));
    },
    async remove(path) {
      const target = place(path);
      assert(target !== directory, "the whole store is not removed");
      await rm(target, { recursive: true, force: true });
      for (let at = dirname(target); at.startsWith(directory + sep); at = dirname(at)) {
        const gone = await rmdir(at).then(
          () => true,
          (error: unknown) => isAbsent(error),
        );
        if (!gone) return; // something else is in it
      }
    },
    async usage(folder) {
      let files = 0;
      let bytes = 0;
      for await (const path of walk(folder)) {
        const found = await lstat(place(path)).catch(() => undefined);
        if (!found) continue;
        files++;
        bytes += found.size;
      }
      return { files, bytes };
    },
  };
}

/** Writes what fits the limit. */
async function writeAside(aside: string, source: PutSource, options: PutOptions): Promise<Put> {
  if (isLocalFile(source)) {
    await link(source.file, aside).catch((error: NodeJS.ErrnoException) => {
      if (!["EXDEV", "EPERM", "EMLINK", "ENOTSUP"].includes(error.code ?? "")) throw error;
      return copyFile(source.file, aside, constants.COPYFILE_EXCL);
    });
    return { bytes: (await lstat(aside)).size, whole: true };
  }
  const { signal, limitBytes = Infinity } = options;
  const file = await open(aside, "wx", 0o644);
  let bytes = 0;
  let whole = true;
  try {
    const isOurs = typeof source === "string" || source instanceof Uint8Array;
    for await (const chunk of isOurs ? [source] : source) {
      signal?.throwIfAborted();
      const data = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      const piece = data.subarray(0, Math.min(data.length, limitBytes - bytes));
      await writeWhole(file, piece);
      bytes += piece.length;
      whole = piece.length === data.length;
      if (!whole) break;
    }
    signal?.throwIfAborted();
    await file.chmod(0o644); // the umask does not decide
    // what a job left is not worth a disk's turn a file; our own records are
    if (isOurs) await file.datasync();
  } finally {
    await file.close();
  }
  return { bytes, whole };
}

async function writeWhole(
  file: { write(data: Uint8Array, at: number): Promise<{ bytesWritten: number }> },
  data: Uint8Array,
): Promise<void> {
  for (let at = 0; at < data.length;) at += (await file.write(data, at)).bytesWritten;
}

function isLocalFile(source: PutSource): source is { readonly file: string } {
  return typeof source === "object" && "file" in source;
}

async function entriesOf(path: string) {
  try {
    return await readdir(path, { withFileTypes: true });
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return (await lstat(path).catch(() => undefined))?.size;
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ENOTDIR";
}

function byName(x: { name: string }, y: { name: string }): number {
  return x.name < y.name ? -1 : x.name > y.name ? 1 : 0;
}

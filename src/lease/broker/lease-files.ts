/**
 * Files that hosts bring home (lease.md §6): serial consoles, time line, certificate, a folder
 * for each lease. Names are from a list, sizes bounded, each file whole or absent. A lease that
 * went back to the queue has files of each rack that it had: the last one's under their plain
 * names, an earlier one's with rack and epoch before them. Old folders go after a while; a build's
 * archive has its own copy.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fail } from "../../base/errors.ts";
import { isUuid } from "../../base/ids.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";

const NAMES =
  /^(?:[a-z0-9][a-z0-9._-]{0,62}-[0-9]{1,3}-epoch-[0-9]{1,15}-)?(?:console-[A-Za-z0-9][A-Za-z0-9._-]{0,80}\.log|timeline\.jsonl|certificate\.json)$/;

/** A file of one grant: the rack's id (`here:1`), its epoch then, the file's plain name. */
export type GrantFile = { readonly te: string; readonly epoch: string; readonly name: string };

/** Under what name a file is kept that is not of the lease's last grant. */
export function earlierName({ te, epoch, name }: GrantFile): string {
  return `${te.replace(":", "-")}-epoch-${epoch}-${name}`;
}

export type LeaseFiles = {
  list(lease: string): Promise<{ name: string; bytes: number }[]>;
  /** Throws `not-found`. */
  pathOf(lease: string, name: string): Promise<string>;
  /** Replaces the file when all of it is there; gives its size. */
  store(lease: string, name: string, body: Readable): Promise<number>;
  /** Bytes of a file from an offset. */
  read(lease: string, name: string, fromByte: number): Promise<AsyncIterable<Uint8Array>>;
  /** Removes the folders that nothing was added to since then. */
  sweep(beforeMs: number, signal: AbortSignal): Promise<{ removed: number; freedBytes: number }>;
};

export function openLeaseFiles(directory: string, random: Random): LeaseFiles {
  const place = (lease: string, name: string): string => {
    if (!isUuid(lease)) fail("bad-request", "a lease's id is a UUID");
    if (!NAMES.test(name)) {
      fail("bad-request", `${name}: no such file is brought home`, {
        remedy: "console-….log, timeline.jsonl and certificate.json are",
      });
    }
    return join(directory, lease, name);
  };

  async function pathOf(lease: string, name: string): Promise<string> {
    const path = place(lease, name);
    const there = await stat(path).catch(() => undefined);
    return there?.isFile() ? path : fail("not-found", `lease ${lease} has no file ${name}`);
  }

  return {
    pathOf,
    async list(lease) {
      if (!isUuid(lease)) fail("bad-request", "a lease's id is a UUID");
      const names = await readdir(join(directory, lease)).catch(() => [] as string[]);
      const known = names.filter((name) => NAMES.test(name)).sort();
      return Promise.all(
        known.map(async (name) => ({
          name,
          bytes: (await stat(join(directory, lease, name))).size,
        })),
      );
    },
    async store(lease, name, body) {
      const path = place(lease, name);
      await mkdir(join(directory, lease), { recursive: true });
      const aside = `${path}.${random.bytes(6).toString("hex")}.new`;
      try {
        const bytes = await receive(body, aside);
        await rename(aside, path);
        return bytes;
      } catch (error) {
        await rm(aside, { force: true });
        if ((error as NodeJS.ErrnoException).code === "ENOSPC") {
          return fail("no-space", "no space left for the lease's files", { cause: error });
        }
        throw error;
      }
    },
    async read(lease, name, fromByte) {
      return createReadStream(await pathOf(lease, name), { start: fromByte });
    },
    async sweep(beforeMs, signal) {
      let [removed, freedBytes] = [0, 0];
      for (const lease of await readdir(directory).catch(() => [] as string[])) {
        signal.throwIfAborted();
        if (!isUuid(lease)) continue;
        const folder = join(directory, lease);
        const bytes = await bytesIfOld(folder, beforeMs);
        if (bytes === undefined) continue;
        await rm(folder, { recursive: true, force: true });
        removed++;
        freedBytes += bytes;
      }
      return { removed, freedBytes };
    },
  };
}

/** Undefined: the folder is younger, or has gone meanwhile. */
async function bytesIfOld(folder: string, beforeMs: number): Promise<number | undefined> {
  try {
    const { mtimeMs } = await stat(folder);
    if (mtimeMs >= beforeMs) return undefined;
    let bytes = 0;
    for (const name of await readdir(folder)) bytes += (await stat(join(folder, name))).size;
    return bytes;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function receive(body: Readable, path: string): Promise<number> {
  let bytes = 0;
  const count = async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      bytes += chunk.length;
      if (bytes > limits.leaseFileBytes) {
        fail("too-large", `a file may have ${limits.leaseFileBytes} bytes at most`);
      }
      yield chunk;
    }
  };
  await pipeline(body, count, createWriteStream(path, { flags: "wx", mode: 0o640 }));
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
  return bytes;
}

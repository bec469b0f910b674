/**
 * Images by their digest (H-7.1): one file each under `sha256/`, 0444, with what it is beside it
 * in `<digest>.json`; received aside, checked, synced, renamed. A second place (`images.cache`)
 * may be shared by installations: images are taken from it, and built ones published to it.
 * Who uses which image, and so what may go, is its users' (H-7.7).
 */
import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import {
  chmod,
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  utimes,
} from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { z } from "zod";
import { fail, isRackyardError, RackyardError } from "../base/errors.ts";
import { readTextIfAny, syncDirectory, writeFileAtomic } from "../base/files.ts";
import { systemRandom } from "../base/random.ts";
import type { KeptImage } from "./collection.ts";
import { inspectImage } from "./inspection.ts";

export const storedImageSchema = z.strictObject({
  /** `sha256:` and 64 hex digits, over the file's bytes. */
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  format: z.enum(["qcow2", "raw"]),
  sizeBytes: z.int(),
  virtualBytes: z.int(),
});
export type StoredImage = z.output<typeof storedImageSchema>;

const recipeSchema = z.strictObject({ digest: z.string(), builtAt: z.string() });
export type BuiltRecipe = z.output<typeof recipeSchema>;

export type ReceiveLimits = {
  readonly maxBytes: number;
  readonly maxVirtualBytes: number;
  readonly signal?: AbortSignal | undefined;
};

export type ImageStore = {
  /** The image, if it is here or in the shared place (then it is taken over, hash checked). */
  find(digest: string): Promise<StoredImage | undefined>;
  pathOf(digest: string): string;
  /** Takes a stream to its end; zeroes become holes. Throws what is wrong, leaves nothing. */
  receive(source: Readable, bounds: ReceiveLimits): Promise<StoredImage>;
  /** Takes a finished file over (moved, or copied from another file system). */
  adopt(path: string, bounds: ReceiveLimits): Promise<StoredImage>;
  /** What a recipe's key was built to, here or in the shared place. */
  recall(recipeKey: string): Promise<BuiltRecipe | undefined>;
  /** Records it, here and in the shared place; an unwritable one is left alone. */
  remember(recipeKey: string, built: BuiltRecipe): Promise<void>;
  list(): Promise<StoredImage[]>;
  /** When each was last found or received, and what it takes of the disk (H-7.7). */
  usage(): Promise<KeptImage[]>;
  remove(digest: string): Promise<void>;
};

/** Opens the store under `root`; what an earlier process had not finished is removed. */
export async function openImageStore(root: string, cache?: string): Promise<ImageStore> {
  const own = place(root);
  const shared = cache === undefined ? undefined : place(cache);
  await rm(own.staging, { recursive: true, force: true });
  for (const folder of [own.files, own.recipes, own.staging]) {
    await mkdir(folder, { recursive: true });
  }

  async function keep(aside: string, image: StoredImage): Promise<StoredImage> {
    await writeFileAtomic(own.facts(image.digest), JSON.stringify(image), 0o444);
    await rename(aside, own.file(image.digest));
    await syncDirectory(own.files);
    return image;
  }

  return {
    pathOf: (digest) => own.file(digest),
    async find(digest) {
      const here = await readImage(own, digest);
      if (here) await utimes(own.facts(digest), new Date(), new Date());
      if (here || !shared) return here;
      const there = await readImage(shared, digest);
      if (!there) return undefined;
      const aside = own.aside();
      await linkOrCopy(shared.file(digest), aside);
      if ((await digestOf(aside)) !== digest) {
        await rm(aside, { force: true });
        return undefined; // damaged where it came from: as if it were not there
      }
      return keep(aside, there);
    },
    async receive(source, bounds) {
      const aside = own.aside();
      try {
        const { digest, sizeBytes } = await writeSparse(source, aside, bounds);
        await chmod(aside, 0o444); // nobody must read it
        const header = await inspectImage(aside, bounds.maxVirtualBytes, bounds.signal);
        return await keep(aside, { digest, sizeBytes, ...header });
      } catch (error) {
        await rm(aside, { force: true });
        throw error;
      }
    },
    async adopt(path, bounds) {
      const aside = own.aside();
      await linkOrCopy(path, aside);
      try {
        const { size } = await stat(aside);
        await chmod(aside, 0o444);
        if (size > bounds.maxBytes) fail("image-too-large", `${path} has ${size} bytes`);
        const header = await inspectImage(aside, bounds.maxVirtualBytes, bounds.signal);
        const digest = await digestOf(aside);
        const image = await keep(aside, { digest, sizeBytes: size, ...header });
        await rm(path, { force: true });
        return image;
      } catch (error) {
        await rm(aside, { force: true });
        throw error;
      }
    },
    async recall(recipeKey) {
      return (
        (await readRecipe(own, recipeKey)) ?? (shared && (await readRecipe(shared, recipeKey)))
      );
    },
    async remember(recipeKey, built) {
      await writeFileAtomic(own.recipe(recipeKey), JSON.stringify(built));
      if (shared) await publish(own, shared, recipeKey, built);
    },
    async list() {
      const names = (await readdir(own.files)).filter((name) => /^[0-9a-f]{64}$/.test(name));
      const images = await Promise.all(names.map((name) => readImage(own, `sha256:${name}`)));
      return images.filter((image) => image !== undefined);
    },
    async usage() {
      const images = (await readdir(own.files)).filter((name) => /^[0-9a-f]{64}$/.test(name));
      return Promise.all(
        images.map(async (name) => {
          const digest = `sha256:${name}`;
          const { blocks } = await stat(own.file(digest));
          const { mtimeMs } = await stat(own.facts(digest)).catch(() => ({ mtimeMs: 0 }));
          return { digest, bytes: blocks * 512, usedAtMs: mtimeMs };
        }),
      );
    },
    async remove(digest) {
      await rm(own.file(digest), { force: true });
      await rm(own.facts(digest), { force: true });
    },
  };
}

type Place = {
  readonly files: string;
  readonly recipes: string;
  readonly staging: string;
  file(digest: string): string;
  facts(digest: string): string;
  recipe(key: string): string;
  aside(): string;
};

function place(root: string): Place {
  const files = join(root, "sha256");
  const recipes = join(root, "recipes");
  const staging = join(root, "staging");
  const file = (digest: string): string => {
    if (!/^sha256:[0-9a-f]{64}$/.test(digest)) fail("image-missing", `no digest: ${digest}`);
    return join(files, digest.slice("sha256:".length));
  };
  return {
    files,
    recipes,
    staging,
    file,
    facts: (digest) => `${file(digest)}.json`,
    recipe: (key) => join(recipes, `${key}.json`),
    aside: () => join(staging, systemRandom.uuid4()),
  };
}

async function readImage(from: Place, digest: string): Promise<StoredImage | undefined> {
  const text = await readTextIfAny(from.facts(digest));
  if (text === undefined) return undefined;
  const image = storedImageSchema.safeParse(JSON.parse(text));
  const size = await stat(from.file(digest)).then(
    (file) => file.size,
    () => undefined,
  );
  return image.success && size === image.data.sizeBytes ? image.data : undefined;
}

async function readRecipe(from: Place, key: string): Promise<BuiltRecipe | undefined> {
  const text = await readTextIfAny(from.recipe(key));
  return text === undefined ? undefined : recipeSchema.safeParse(JSON.parse(text)).data;
}

async function publish(own: Place, shared: Place, key: string, built: BuiltRecipe): Promise<void> {
  try {
    await mkdir(shared.staging, { recursive: true });
    const aside = shared.aside();
    await linkOrCopy(own.file(built.digest), aside);
    const facts = (await readTextIfAny(own.facts(built.digest))) ?? "";
    await writeFileAtomic(shared.facts(built.digest), facts, 0o444);
    await rename(aside, shared.file(built.digest));
    await writeFileAtomic(shared.recipe(key), JSON.stringify(built));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    const full = isRackyardError(error, "no-space");
    if (!full && !["EACCES", "EROFS", "EPERM", "ENOSPC"].includes(code)) throw error;
  }
}

/** A second name where the file system is the same, else a copy (cheap where it can be). */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (!["EXDEV", "EPERM", "EMLINK"].includes(code)) throw error;
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
    hash.update(chunk as Buffer);
  }
  return `sha256:${hash.digest("hex")}`;
}

const BLOCK = 64 * 1024;
const zeroes = Buffer.alloc(BLOCK);

/** Writes a stream to `path`, leaving holes where whole blocks are zero. */
async function writeSparse(
  source: Readable,
  path: string,
  bounds: ReceiveLimits,
): Promise<{ digest: string; sizeBytes: number }> {
  const hash = createHash("sha256");
  await using file = await open(path, "wx", 0o600);
  let sizeBytes = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    bounds.signal?.throwIfAborted();
    if (sizeBytes + chunk.length > bounds.maxBytes) {
      fail("image-too-large", `the image has more than ${bounds.maxBytes} bytes`);
    }
    hash.update(chunk);
    await writeBlocks(file, chunk, sizeBytes);
    sizeBytes += chunk.length;
  }
  bounds.signal?.throwIfAborted();
  await file.truncate(sizeBytes);
  await file.sync();
  return { digest: `sha256:${hash.digest("hex")}`, sizeBytes };
}

async function writeBlocks(file: FileHandle, chunk: Buffer, at: number): Promise<void> {
  for (let from = 0; from < chunk.length;) {
    const zero = isZero(chunk.subarray(from, from + BLOCK));
    let to = Math.min(from + BLOCK, chunk.length);
    while (to < chunk.length && isZero(chunk.subarray(to, to + BLOCK)) === zero) {
      to = Math.min(to + BLOCK, chunk.length);
    }
    if (!zero) await writeAll(file, chunk.subarray(from, to), at + from);
    from = to;
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  try {
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
      done += bytesWritten;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    throw new RackyardError("no-space", "no space left for the image", { cause: error });
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(bytes.length === BLOCK ? zeroes : zeroes.subarray(0, bytes.length));
}

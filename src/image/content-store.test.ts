import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../base/command.ts";
import { openImageStore } from "./content-store.ts";

const MiB = 1024 * 1024;
const bounds = { maxBytes: 64 * MiB, maxVirtualBytes: 64 * MiB };
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-images-"));
});
afterEach(() => rm(directory, { recursive: true }));

const store = (name = "one", cache?: string) => openImageStore(join(directory, name), cache);
const pieces = (bytes: Buffer, size: number): Readable => {
  const parts: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += size) parts.push(bytes.subarray(at, at + size));
  return Readable.from(parts);
};

test("H-7.1 H-7.4 a raw image is kept by its digest, 0444, with holes for zeroes", async () => {
  const images = await store();
  const bytes = Buffer.alloc(8 * MiB);
  bytes.write("boot sector", 0);
  bytes.write("the end", bytes.length - 7);
  const image = await images.receive(pieces(bytes, 100_000), bounds);
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  expect(image).toEqual({
    digest,
    format: "raw",
    sizeBytes: bytes.length,
    virtualBytes: bytes.length,
  });
  const path = images.pathOf(digest);
  expect((await readFile(path)).equals(bytes)).toBe(true);
  const facts = await stat(path);
  expect(facts.mode & 0o777).toBe(0o444);
  expect(facts.blocks * 512).toBeLessThan(2 * MiB);
  expect(await images.find(digest)).toEqual(image);
  expect(await images.list()).toEqual([image]);
});

test("H-7.5 what is dangerous or too large is refused, and nothing of it stays", async () => {
  const images = await store();
  const evil = Buffer.alloc(200 * 1024);
  evil.write("QFI\xfb", 0, "latin1");
  evil.writeUInt32BE(3, 4);
  evil.writeBigUInt64BE(512n, 8);
  evil.writeUInt32BE(11, 16);
  evil.writeUInt32BE(16, 20);
  evil.writeBigUInt64BE(BigInt(MiB), 24);
  evil.write("/etc/shadow", 512);
  const refused = async (source: Readable): Promise<unknown> =>
    images.receive(source, bounds).catch((error: unknown) => error);
  expect(await refused(pieces(evil, 1000))).toMatchObject({ code: "image-dangerous" });
  const large = Readable.from([Buffer.alloc(32 * MiB), Buffer.alloc(33 * MiB)]);
  expect(await refused(large)).toMatchObject({ code: "image-too-large" });
  expect(await refused(Readable.from([]))).toMatchObject({ code: "image-format" });
  expect(await readdir(join(directory, "one/staging"))).toEqual([]);
  expect(await images.list()).toEqual([]);
});

test("H-7.5 qcow2 as qemu-img makes it is taken; one with a backing file is not", async () => {
  const images = await store();
  const good = join(directory, "good.qcow2");
  const evil = join(directory, "evil.qcow2");
  await run("qemu-img", ["create", "-q", "-f", "qcow2", good, "10M"]);
  await run("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", good, evil]);
  expect(await images.receive(pieces(await readFile(good), 5000), bounds)).toMatchObject({
    format: "qcow2",
    virtualBytes: 10 * MiB,
  });
  const answer = images.receive(pieces(await readFile(evil), 5000), bounds);
  await expect(answer).rejects.toMatchObject({ code: "image-dangerous" });
});

test("H-7.1 an installation takes from the shared place what another published", async () => {
  const cache = join(directory, "cache");
  const first = await store("one", cache);
  const path = join(directory, "built.img");
  await writeFile(path, Buffer.alloc(2 * MiB, 5));
  const image = await first.adopt(path, bounds);
  await first.remember("recipe-8", { digest: image.digest, builtAt: "2030-01-01T00:00:00.000Z" });
  const second = await store("two", cache);
  const built = await second.recall("recipe-8");
  expect(built?.digest).toBe(image.digest);
  expect(await second.find(image.digest)).toEqual(image);
  await first.remove(image.digest);
  expect((await readFile(second.pathOf(image.digest))).length).toBe(2 * MiB);
});

test("H-7.1 a damaged image of the shared place is as if it were not there", async () => {
  const cache = join(directory, "cache");
  const first = await store("one", cache);
  const path = join(directory, "built.img");
  await writeFile(path, Buffer.alloc(MiB, 5));
  const image = await first.adopt(path, bounds);
  await first.remember("r", { digest: image.digest, builtAt: "2030-01-01T00:00:00.000Z" });
  const file = join(cache, "sha256", image.digest.slice(7));
  await rm(file);
  await writeFile(file, Buffer.alloc(MiB, 6));
  const second = await store("two", cache);
  expect(await second.find(image.digest)).toBeUndefined();
});

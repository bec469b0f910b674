/**
 * Disks with the real qemu-img: a fresh overlay is empty over its base, in the format that is
 * given; an old one is dropped whole, and nobody sees half of either.
 */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { openDisks } from "../../src/hypervisor/disks.ts";

let directory: string;
const disks = openDisks("/var/lib/rackyard");
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-disks-"));
});
afterEach(() => rm(directory, { recursive: true }));

const GIB = 1024 ** 3;
const info = async (path: string) =>
  JSON.parse((await run("qemu-img", ["info", "--output=json", path])).stdout) as Record<
    string,
    unknown
  >;

test("H-7.6 an overlay over a raw base has its size, its base's format, and nothing of its own", async () => {
  const base = join(directory, "base");
  const path = join(directory, "seed_1.qcow2");
  await writeFile(base, Buffer.alloc(1024 * 1024, 7));
  await disks.createOverlay({ path, base: { path: base, format: "raw" }, sizeBytes: 5 * GIB });
  expect(await info(path)).toMatchObject({
    format: "qcow2",
    "virtual-size": 5 * GIB,
    "backing-filename": base,
    "backing-filename-format": "raw",
  });
  const facts = await disks.facts(path);
  expect(facts?.base).toBe(base);
  expect(facts?.bytes).toBeLessThan(512 * 1024);
});

test("H-7.6 wiping is dropping: a new overlay holds nothing of the old one, and leaves no rest", async () => {
  const path = join(directory, "baremetalbrbm1_0.qcow2");
  await disks.createOverlay({ path, base: null, sizeBytes: GIB });
  await run("qemu-io", ["-f", "qcow2", "-c", "write -P 9 0 1M", path]);
  await disks.createOverlay({ path, base: null, sizeBytes: GIB });
  const read = await run("qemu-io", ["-f", "qcow2", "-c", "read -P 0 0 1M", path]);
  expect(read.stdout).not.toContain("verification failed");
  expect(await readdir(directory)).toEqual(["baremetalbrbm1_0.qcow2"]);
});

test("H-7.6 an overlay that cannot be made leaves the old one", async () => {
  const path = join(directory, "disk.qcow2");
  await disks.createOverlay({ path, base: null, sizeBytes: GIB });
  const base = { path: join(directory, "missing"), format: "raw" as const };
  await expect(disks.createOverlay({ path, base, sizeBytes: GIB })).rejects.toMatchObject({
    code: "command-failed",
  });
  expect(await disks.facts(path)).toMatchObject({ base: null });
  await disks.remove(path);
  expect(await disks.facts(path)).toBeNull();
});

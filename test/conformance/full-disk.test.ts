// A disk that somebody else has filled, as a file system of its own: SQLite's pages, the rack's
// fence and the agent's record on it. Needs root, to mount it.
import { appendFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { isNoSpace } from "../../src/base/files.ts";
import { openRoomyStore } from "../../src/store/room.ts";
import { testenvRecords } from "../../src/testenv/record.ts";
import { newTestenv } from "../../src/testenv/testenv-state.ts";

let disk: string;
beforeEach(async () => {
  disk = await mkdtemp(join(tmpdir(), "rackyard-full-"));
  await run("mount", ["-t", "tmpfs", "-o", "size=32m", "rackyard-test", disk]);
});
afterEach(async () => {
  await run("umount", [disk]);
  await rm(disk, { recursive: true });
});

/** To the last byte, as a tenant's overlay does. */
function fill(): void {
  for (const bytes of [1 << 20, 1 << 12, 1]) {
    try {
      for (;;) appendFileSync(join(disk, "tenant"), Buffer.alloc(bytes, 1));
    } catch (error) {
      expect(isNoSpace(error)).toBe(true);
    }
  }
}

const path = (): string => join(disk, "te-host.db");
const step = (epoch: number) => {
  const after = { ...newTestenv(1, "two"), epoch };
  return [{ before: null, event: "raised", after }];
};

test("L6 H-1.5 on a full disk the agent's record goes on: a thousand steps, and over a restart", async () => {
  {
    const { store, keepRoom } = await openRoomyStore(path());
    await using _ = store;
    await keepRoom();
    fill();
    const records = testenvRecords(store, () => 1);
    for (let epoch = 1; epoch <= 1_000; epoch++) await records.save(step(epoch));
    await expect(keepRoom()).resolves.toBeUndefined(); // enough is left
  }
  fill();
  const { store, keepRoom } = await openRoomyStore(path());
  await using _ = store;
  const records = testenvRecords(store, () => 1);
  expect(await records.all()).toMatchObject([{ epoch: 1_000 }]);
  await records.save(step(1_001));
  // what was given up for the start is missed, and told
  await expect(keepRoom()).rejects.toSatisfy(isNoSpace);
  await rm(join(disk, "tenant"));
  await keepRoom();
  expect(await records.all()).toMatchObject([{ epoch: 1_001 }]);
});

test("a store without that room stops at once on a full disk", async () => {
  const { store } = await openRoomyStore(path());
  await using _ = store;
  fill();
  const records = testenvRecords(store, () => 1);
  const many = (async () => {
    for (let epoch = 1; epoch <= 1_000; epoch++) await records.save(step(epoch));
  })();
  await expect(many).rejects.toSatisfy(isNoSpace);
});

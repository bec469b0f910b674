import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { idsBeginning } from "./row-queries.ts";
import { openSqliteStore } from "./store.ts";
import type { LifeKind, Store } from "./store.ts";
import { wholeId } from "./whole-id.ts";

const lamps: LifeKind<{ n: number }> = { life: "lamp", columns: () => ({}) };
const rooms: LifeKind<{ n: number }> = { life: "room", columns: () => ({}) };
const uuid = (start: string): string => `${start}-1111-4222-8333-444455556666`;

let directory: string;
let store: Store;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-ids-"));
  store = await openSqliteStore(join(directory, "test.db"));
  await store.transaction(async (tx) => {
    const add = (kind: typeof lamps, id: string) =>
      store.append(tx, kind, { id, from: null, event: "made", to: "on", body: { n: 1 }, atMs: 1 });
    for (const start of ["6482abcd", "6482abff", "6483ffff", "ffffffff"]) {
      await add(lamps, uuid(start));
    }
    await add(rooms, uuid("6482abce"));
  });
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

test("a unique beginning is the whole id, of this life alone", async () => {
  expect(await wholeId(store, lamps, "6482abcd")).toBe(uuid("6482abcd"));
  expect(await wholeId(store, lamps, "6483")).toBe(uuid("6483ffff"));
  expect(await wholeId(store, lamps, "ffff")).toBe(uuid("ffffffff"));
  expect(await wholeId(store, rooms, "6482")).toBe(uuid("6482abce"));
  // a whole id is not looked for: its own route says whether it is there
  expect(await wholeId(store, rooms, uuid("00000000"))).toBe(uuid("00000000"));
});

test("none is not-found; several are a conflict that names them", async () => {
  await expect(wholeId(store, lamps, "6484")).rejects.toMatchObject({ code: "not-found" });
  await expect(wholeId(store, lamps, "6482")).rejects.toMatchObject({
    code: "conflict",
    message: "several lamps begin with 6482: 6482abcd, 6482abff",
  });
});

test("the beginning of an id is a range of the key, never a scan", async () => {
  const query = sql<{ detail: string }>`explain query plan ${idsBeginning("lamp", "6482", 6)}`;
  const detail = (await query.execute(store.db)).rows.map((row) => row.detail).join("\n");
  expect(detail).toMatch(
    /SEARCH life_row USING (COVERING )?INDEX \S+ \(life=\? AND id>\? AND id<\?\)/,
  );
  expect(detail).not.toMatch(/TEMP B-TREE|SCAN/);
});

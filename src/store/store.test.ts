import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openSqliteStore } from "./store.ts";
import type { LifeKind, Store } from "./store.ts";

type Lamp = { colour: string; watts: number };
const lamps: LifeKind<Lamp> = {
  life: "lamp",
  columns: (body) => ({ a: body.colour, n: body.watts }),
};

let directory: string;
let store: Store;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-store-"));
  store = await openSqliteStore(join(directory, "test.db"));
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function light(id: string, colour: string, atMs: number, from: string | null = null) {
  return store.transaction((tx) =>
    store.append(tx, lamps, {
      id,
      from,
      event: "lit",
      to: "on",
      body: { colour, watts: 5 },
      atMs,
    }),
  );
}

test("lease.md §7 a step appends an event and replaces the row in one transaction", async () => {
  await light("l1", "red", 1);
  await light("l1", "blue", 2, "on");
  expect(await store.row(lamps, "l1")).toMatchObject({
    state: "on",
    createdMs: 1,
    updatedMs: 2,
    body: { colour: "blue" },
  });
  const events = await store.events({ life: "lamp", id: "l1", limit: 10 });
  expect(events.map((event) => [event.from, event.to, event.atMs])).toEqual([
    [null, "on", 1],
    ["on", "on", 2],
  ]);
});

test("L6 what a failed transaction did is not there, and the next one works", async () => {
  const broken = store.transaction(async (tx) => {
    await store.append(tx, lamps, {
      id: "gone",
      from: null,
      event: "lit",
      to: "on",
      body: { colour: "red", watts: 1 },
      atMs: 1,
    });
    throw new Error("crash");
  });
  await expect(broken).rejects.toThrow("crash");
  expect(await store.row(lamps, "gone")).toBeUndefined();
  await light("l2", "red", 2);
  expect(await store.row(lamps, "l2")).toBeDefined();
});

test("lease.md §7 rows can be rebuilt from the events, equal to what they were", async () => {
  for (let n = 0; n < 20; n++) await light(`l${n % 7}`, `c${n}`, n);
  const before = await store.rows(lamps, { limit: 100 });
  await store.db.deleteFrom("life_row").execute();
  expect(await store.rebuild(lamps)).toBe(7);
  expect(await store.rows(lamps, { limit: 100 })).toEqual(before);
});

test("rows are paged by their place, searched by column", async () => {
  for (let n = 0; n < 5; n++) await light(`l${n}`, n % 2 ? "odd" : "even", 100);
  const first = await store.rows(lamps, { limit: 2, newestFirst: true });
  expect(first.map((row) => row.id)).toEqual(["l4", "l3"]);
  const last = first.at(-1)!;
  const next = await store.rows(lamps, { limit: 9, newestFirst: true, after: last });
  expect(next.map((row) => row.id)).toEqual(["l2", "l1", "l0"]);
  const odd = await store.rows(lamps, { limit: 9, where: { a: "odd" } });
  expect(odd.map((row) => row.id)).toEqual(["l1", "l3"]);
});

test("surface.md §3 a newer schema is refused with state-too-new", async () => {
  const path = join(directory, "newer.db");
  await using newer = await openSqliteStore(path);
  await newer.db
    .insertInto("kysely_migration" as never)
    .values({ name: "9999", timestamp: "2030" })
    .execute();
  await expect(openSqliteStore(path)).rejects.toMatchObject({ code: "state-too-new" });
});

test("facts are kept and replaced", async () => {
  await store.transaction((tx) => store.setFact(tx, "last-seen", "1", 1));
  await store.transaction((tx) => store.setFact(tx, "last-seen", "2", 2));
  expect(await store.fact("last-seen")).toBe("2");
  expect(await store.fact("never")).toBeUndefined();
});

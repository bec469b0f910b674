import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filtersOf, listQuery, newestOfEach } from "./row-queries.ts";
import type { RowQuery } from "./row-queries.ts";
import { openSqliteStore } from "./store.ts";
import type { LifeKind, Store } from "./store.ts";

type Lamp = { colour: string; room: string; age: "old" | "new"; watts: number };
const lamps: LifeKind<Lamp> = {
  life: "lamp",
  columns: ({ colour, room, age, watts }) => ({
    a: colour,
    b: room,
    c: age,
    d: age === "old" ? "new" : "old",
    n: watts,
  }),
};

let directory: string;
let store: Store;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-rows-"));
  store = await openSqliteStore(join(directory, "test.db"));
  await store.transaction(async (tx) => {
    for (let n = 0; n < 6_000; n++) {
      const body = {
        colour: n % 2 === 0 ? "red" : "blue",
        room: n % 3 === 0 || n < 10 ? "hall" : "attic",
        age: n < 3_000 ? ("old" as const) : ("new" as const),
        watts: n % 100,
      };
      const id = `l${String(n).padStart(5, "0")}`;
      const to = n % 7 === 0 ? "on" : "off";
      const step = { id, from: null, event: "made", to, body, atMs: 1_000 + Math.floor(n / 3) };
      await store.append(tx, lamps, step);
    }
  });
});
afterAll(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function plan(query: ReturnType<typeof listQuery>): Promise<string> {
  const { rows } = await sql<{ detail: string }>`explain query plan ${query}`.execute(store.db);
  return rows.map((row) => row.detail).join("\n");
}

/** Every column that a list of the API filters by (surface.md §5), and none. */
const single: readonly (readonly [string, Partial<RowQuery>])[] = [
  ["created", {}],
  ["a", { where: { a: "red" } }],
  ["b", { where: { b: "hall" } }],
  ["c", { where: { c: "x" } }],
  ["d", { where: { d: "check" } }],
  ["e", { where: { e: "FAILURE" } }],
  ["n", { where: { n: 7 } }],
  ["state", { states: ["on"] }],
];
const after = { createdMs: 2_000, id: "l03000" };

for (const [index, filter] of single) {
  test(`a list by ${index} is read from its index, in order, from the cursor on`, async () => {
    const query = { ...filter, limit: 100, newestFirst: true };
    for (const more of [{}, { after }, { sinceMs: 5 }, { after, sinceMs: 5 }]) {
      const [lead] = filtersOf(query);
      const detail = await plan(listQuery("lamp", { ...query, ...more }, { lead }));
      expect(detail).toContain(`USING INDEX life_row_${index} (life=?`);
      expect(detail).not.toMatch(/TEMP B-TREE|SCAN/);
      if ("after" in more) expect(detail).toMatch(/created_ms[^\n]*</);
    }
  });
}

test("a list by two columns is led by one index, whatever the other is", async () => {
  for (const [one, a] of single.slice(1)) {
    for (const [, b] of single.slice(1)) {
      const [lead] = filtersOf({ ...a, limit: 1 });
      const others = filtersOf({ ...b, limit: 1 });
      const query = { limit: 100, newestFirst: true, after };
      const detail = await plan(listQuery("lamp", query, { lead, others, until: after }));
      expect(detail).toContain(`USING INDEX life_row_${one} (life=?`);
      expect(detail).not.toMatch(/TEMP B-TREE|SCAN/);
    }
  }
});

test("what belongs to many is read by one look into an index", async () => {
  expect(await plan(newestOfEach("build", "a", ["1", "2"], 10, "id"))).toContain(
    "USING COVERING INDEX life_row_a",
  );
  expect(await plan(newestOfEach("comment", "n", [1, 2], 10, "*"))).toContain(
    "USING INDEX life_row_n",
  );
});

test("filters by several columns give what each row says, over slices and pages", async () => {
  const all = await store.rows(lamps, { limit: 10_000, newestFirst: true });
  const wanted = all.filter(
    ({ state, body }) => state === "on" && body.colour === "blue" && body.room === "attic",
  );
  expect(wanted.length).toBeGreaterThan(200);
  const found: string[] = [];
  let place: RowQuery["after"];
  for (;;) {
    const page = await store.rows(lamps, {
      states: ["on"],
      where: { a: "blue", b: "attic" },
      after: place,
      limit: 37,
      newestFirst: true,
    });
    found.push(...page.map((row) => row.id));
    place = page.at(-1);
    if (page.length < 37) break;
  }
  expect(found).toEqual(wanted.map((row) => row.id));
  const oldest = await store.rows(lamps, { where: { a: "red", b: "attic" }, limit: 3 });
  expect(oldest.map((row) => row.id)).toEqual(["l00010", "l00014", "l00016"]);
});

test("filters that no row passes together give way to others after each slice", async () => {
  let turns = 0;
  let counting = true;
  const turn = (): void => {
    turns++;
    if (counting) setImmediate(turn);
  };
  setImmediate(turn);
  expect(await store.rows(lamps, { where: { c: "old", d: "old" }, limit: 5 })).toEqual([]);
  counting = false;
  expect(turns).toBeGreaterThan(0);
});

test("the newest of each of many, and their ids", async () => {
  const groups = await store.newestOfEach(lamps, "n", [3, 4, 999], 2);
  expect(new Set(groups.keys())).toEqual(new Set([3, 4]));
  expect(groups.get(3)!.map((row) => row.id)).toEqual(["l05903", "l05803"]);
  const ids = await store.newestIdsOfEach(lamps, "a", ["blue"], 2);
  expect(ids.get("blue")).toEqual(["l05999", "l05997"]);
  expect(await store.newestOfEach(lamps, "n", [], 2)).toEqual(new Map());
});

import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Kysely } from "kysely";
import { Migrator } from "kysely/migration";
import { afterEach, beforeEach, expect, test } from "vitest";
import { migrations } from "./migrations.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import { openSqliteStore } from "./store.ts";
import type { LifeKind } from "./store.ts";

type Build = { facts: { pipeline: string; repos: object[] }; result: string | null };
const builds: LifeKind<Build> = {
  life: "build",
  columns: ({ facts, result }) => ({ a: "4", d: facts.pipeline, e: result }),
};

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-upgrade-"));
});
afterEach(() => rm(directory, { recursive: true }));

const bodyOf = (n: number): Build => ({
  facts: { pipeline: n % 2 === 0 ? "check" : "gate", repos: [{ branches: { $part: "main" } }] },
  result: n === 3 ? null : "FAILURE",
});

/** A database as version 0.1.0 left it: schema 1, bodies whole. */
async function makeOld(path: string): Promise<void> {
  const db = new Kysely<never>({ dialect: sqliteDialect(path) });
  const first = { "0001": migrations["0001"]! };
  const provider = { getMigrations: () => Promise.resolve(first) };
  await new Migrator({ db, provider }).migrateToLatest();
  await db.destroy();
  const old = new DatabaseSync(path);
  for (let n = 0; n < 4; n++) {
    const body = JSON.stringify(bodyOf(n));
    old.exec(`insert into life_event (at_ms, life, id, from_state, event, to_state, body)
      values (${n}, 'build', 'b${n}', null, 'created', 'reported', '${body}')`);
    old.exec(`insert into life_row (life, id, state, created_ms, updated_ms, seq, body, a, b, c, n)
      values ('build', 'b${n}', 'reported', ${n}, ${n}, ${n + 1}, '${body}', '4', 'p', 'j', 1)`);
  }
  old.exec("insert into fact values ('host-id', 'h', 1)");
  old.exec("insert into outbox values ('k', '{}', 1, 0, 1, null)");
  old.close();
}

test("surface.md §3 a database of the first version is copied, upgraded in place, and whole", async () => {
  const path = join(directory, "rackyard.db");
  await makeOld(path);
  await using store = await openSqliteStore(path);
  expect(await readdir(join(directory, "backup"))).toEqual(["rackyard.db.schema-1"]);
  const rows = await store.rows(builds, { limit: 10 });
  expect(rows.map((row) => row.body)).toEqual([0, 1, 2, 3].map(bodyOf));
  // Filters that the old schema had no columns for.
  const failed = await store.rows(builds, { where: { d: "gate", e: "FAILURE" }, limit: 10 });
  expect(failed.map((row) => row.id)).toEqual(["b1"]);
  expect(await store.fact("host-id")).toBe("h");
  // Its lives go on, and rows are made anew from events old and new.
  await store.transaction((tx) =>
    store.append(tx, builds, {
      id: "b3",
      from: "reported",
      event: "noted",
      to: "reported",
      body: bodyOf(2),
      atMs: 9,
    }),
  );
  const before = await store.rows(builds, { limit: 10 });
  expect(await store.rebuild(builds)).toBe(4);
  expect(await store.rows(builds, { limit: 10 })).toEqual(before);
});

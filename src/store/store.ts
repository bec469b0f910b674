/**
 * The one interface to what is durable. Each step of a life appends a `life_event` and replaces
 * the life's row in the same transaction; rows can be rebuilt from the events (lease.md §7).
 * Written for two engines: nothing here is SQLite's alone but the dialect and the copy made
 * before a migration. No secrets in bodies.
 */
import { copyFile, mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { Kysely, sql } from "kysely";
import type { Transaction } from "kysely";
import { Migrator } from "kysely/migration";
import { fail } from "../base/errors.ts";
import { migrations, schemaVersion } from "./migrations.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import type { LifeRowTable, Tables } from "./tables.ts";

/** What a life searches by; `a`, `b`, `c` are text, `n` a number. */
export type SearchColumns = Partial<Pick<LifeRowTable, "a" | "b" | "c" | "n">>;

/** A kind of life: its name and how its search columns come out of its body. */
export type LifeKind<Body extends object> = {
  readonly life: string;
  columns(body: Body): SearchColumns;
};

export type LifeStep<Body extends object> = {
  readonly id: string;
  readonly from: string | null;
  readonly event: string;
  readonly to: string;
  /** The whole new body: the row's content. */
  readonly body: Body;
  readonly atMs: number;
};

export type LifeRow<Body extends object> = {
  readonly id: string;
  readonly state: string;
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly seq: number;
  readonly body: Body;
};

export type LifeEvent = {
  readonly seq: number;
  readonly atMs: number;
  readonly life: string;
  readonly id: string;
  readonly from: string | null;
  readonly event: string;
  readonly to: string;
  readonly body: object;
};

export type Tx = Transaction<Tables>;

export type RowQuery = {
  readonly states?: readonly string[];
  readonly where?: SearchColumns;
  /** Rows older (newest first) or younger (oldest first) than this row's place. */
  readonly after?: { readonly createdMs: number; readonly id: string } | undefined;
  readonly sinceMs?: number | undefined;
  readonly limit: number;
  readonly newestFirst?: boolean;
};

export type Store = AsyncDisposable & {
  readonly db: Kysely<Tables>;
  /** Runs `work` in one transaction; transactions run one after another. */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Appends one step of a life and replaces its row; gives the event's seq. */
  append<Body extends object>(tx: Tx, kind: LifeKind<Body>, step: LifeStep<Body>): Promise<number>;
  row<Body extends object>(kind: LifeKind<Body>, id: string): Promise<LifeRow<Body> | undefined>;
  rows<Body extends object>(kind: LifeKind<Body>, query: RowQuery): Promise<LifeRow<Body>[]>;
  /** Events of one life, or of all after `afterSeq`, in order. */
  events(query: {
    life?: string;
    id?: string;
    afterSeq?: number;
    limit: number;
  }): Promise<LifeEvent[]>;
  /** Makes all rows of a life anew from its events. */
  rebuild<Body extends object>(kind: LifeKind<Body>): Promise<number>;
  fact(name: string): Promise<string | undefined>;
  setFact(tx: Tx, name: string, value: string, atMs: number): Promise<void>;
};

/**
 * Opens a SQLite store, made or migrated as need be. An older database is first copied to
 * `backup/` beside it; a newer one is refused with `state-too-new`.
 */
export async function openSqliteStore(path: string): Promise<Store> {
  await mkdir(dirname(path), { recursive: true });
  const db = new Kysely<Tables>({ dialect: sqliteDialect(path) });
  try {
    await migrate(db, path);
  } catch (error) {
    await db.destroy();
    throw error;
  }
  return storeOn(db);
}

async function migrate(db: Kysely<Tables>, path: string): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve({ ...migrations }) },
    allowUnorderedMigrations: false,
  });
  const version = await appliedVersion(db);
  if (version > schemaVersion) {
    fail("state-too-new", `${path} has schema ${version}, this program knows ${schemaVersion}`, {
      remedy: "use the newer program, or restore the copy in backup/",
    });
  }
  if (version > 0 && version < schemaVersion && path !== ":memory:") {
    const backup = join(dirname(path), "backup");
    await mkdir(backup, { recursive: true });
    await sql`PRAGMA wal_checkpoint(TRUNCATE)`.execute(db);
    await copyFile(path, join(backup, `${basename(path)}.schema-${version}`));
  }
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}

async function appliedVersion(db: Kysely<Tables>): Promise<number> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === "kysely_migration")) return 0;
  const result = await sql<{ n: number }>`select count(*) as n from kysely_migration`.execute(db);
  return Number(result.rows[0]?.n ?? 0);
}

function storeOn(db: Kysely<Tables>): Store {
  // One connection: transactions queue here, in order, and do not interleave.
  let last: Promise<unknown> = Promise.resolve();
  return {
    db,
    transaction(work) {
      const next = last.then(() => db.transaction().execute(work));
      last = next.catch(() => undefined);
      return next;
    },
    append,
    async row(kind, id) {
      const row = await db
        .selectFrom("life_row")
        .selectAll()
        .where("life", "=", kind.life)
        .where("id", "=", id)
        .executeTakeFirst();
      return row && rowOf(row);
    },
    rows: (kind, query) => selectRows(db, kind.life, query),
    async events(query) {
      let select = db.selectFrom("life_event").selectAll().orderBy("seq").limit(query.limit);
      if (query.life !== undefined) select = select.where("life", "=", query.life);
      if (query.id !== undefined) select = select.where("id", "=", query.id);
      if (query.afterSeq !== undefined) select = select.where("seq", ">", query.afterSeq);
      const rows = await select.execute();
      return rows.map((row) => ({
        seq: Number(row.seq),
        atMs: Number(row.at_ms),
        life: row.life,
        id: row.id,
        from: row.from_state,
        event: row.event,
        to: row.to_state,
        body: JSON.parse(row.body) as object,
      }));
    },
    rebuild: (kind) => db.transaction().execute((tx) => rebuildRows(tx, kind)),
    async fact(name) {
      const row = await db
        .selectFrom("fact")
        .select("value")
        .where("name", "=", name)
        .executeTakeFirst();
      return row?.value;
    },
    async setFact(tx, name, value, atMs) {
      await tx
        .insertInto("fact")
        .values({ name, value, updated_ms: atMs })
        .onConflict((c) => c.column("name").doUpdateSet({ value, updated_ms: atMs }))
        .execute();
    },
    async [Symbol.asyncDispose]() {
      await last;
      await db.destroy();
    },
  };
}

async function append<Body extends object>(
  tx: Tx,
  kind: LifeKind<Body>,
  step: LifeStep<Body>,
): Promise<number> {
  const body = JSON.stringify(step.body);
  const { seq } = await tx
    .insertInto("life_event")
    .values({
      at_ms: step.atMs,
      life: kind.life,
      id: step.id,
      from_state: step.from,
      event: step.event,
      to_state: step.to,
      body,
    })
    .returning("seq")
    .executeTakeFirstOrThrow();
  await putRow(tx, kind, { ...step, json: body, seq: Number(seq) });
  return Number(seq);
}

async function putRow<Body extends object>(
  tx: Tx,
  kind: LifeKind<Body>,
  step: { id: string; to: string; body: Body; atMs: number; json: string; seq: number },
): Promise<void> {
  const search = { a: null, b: null, c: null, n: null, ...kind.columns(step.body) };
  const changed = {
    state: step.to,
    updated_ms: step.atMs,
    seq: step.seq,
    body: step.json,
    ...search,
  };
  await tx
    .insertInto("life_row")
    .values({ life: kind.life, id: step.id, created_ms: step.atMs, ...changed })
    .onConflict((c) => c.columns(["life", "id"]).doUpdateSet(changed))
    .execute();
}

async function selectRows<Body extends object>(
  db: Kysely<Tables>,
  life: string,
  query: RowQuery,
): Promise<LifeRow<Body>[]> {
  const order = query.newestFirst ? "desc" : "asc";
  let select = db
    .selectFrom("life_row")
    .selectAll()
    .where("life", "=", life)
    .orderBy("created_ms", order)
    .orderBy("id", order)
    .limit(query.limit);
  if (query.states) select = select.where("state", "in", [...query.states]);
  if (query.sinceMs !== undefined) select = select.where("created_ms", ">=", query.sinceMs);
  for (const [column, value] of Object.entries(query.where ?? {})) {
    select = select.where(column as "a" | "b" | "c" | "n", "=", value as never);
  }
  const after = query.after;
  if (after) {
    const than = query.newestFirst ? "<" : ">";
    select = select.where((eb) =>
      eb.or([
        eb("created_ms", than, after.createdMs),
        eb.and([eb("created_ms", "=", after.createdMs), eb("id", than, after.id)]),
      ]),
    );
  }
  return (await select.execute()).map((row) => rowOf<Body>(row));
}

async function rebuildRows<Body extends object>(tx: Tx, kind: LifeKind<Body>): Promise<number> {
  await tx.deleteFrom("life_row").where("life", "=", kind.life).execute();
  let afterSeq = 0;
  for (;;) {
    const page = await tx
      .selectFrom("life_event")
      .selectAll()
      .where("life", "=", kind.life)
      .where("seq", ">", afterSeq)
      .orderBy("seq")
      .limit(1_000)
      .execute();
    for (const row of page) {
      afterSeq = Number(row.seq);
      const body = JSON.parse(row.body) as Body;
      const step = { id: row.id, to: row.to_state, body, atMs: Number(row.at_ms) };
      await putRow(tx, kind, { ...step, json: row.body, seq: afterSeq });
    }
    if (page.length < 1_000) break;
  }
  const { n } = await tx
    .selectFrom("life_row")
    .select((eb) => eb.fn.countAll().as("n"))
    .where("life", "=", kind.life)
    .executeTakeFirstOrThrow();
  return Number(n);
}

function rowOf<Body extends object>(row: LifeRowTable): LifeRow<Body> {
  return {
    id: row.id,
    state: row.state,
    createdMs: Number(row.created_ms),
    updatedMs: Number(row.updated_ms),
    seq: Number(row.seq),
    body: JSON.parse(row.body) as Body,
  };
}

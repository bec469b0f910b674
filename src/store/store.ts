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
import { limits } from "../base/limits.ts";
import { openContents } from "./contents.ts";
import type { Contents } from "./contents.ts";
import { migrations, schemaVersion } from "./migrations.ts";
import { pack } from "./packing.ts";
import { idsBeginning, newestOfEach, selectRows } from "./row-queries.ts";
import type { RowQuery, SearchColumns } from "./row-queries.ts";
import { sqliteDialect } from "./sqlite-dialect.ts";
import type { LifeRowTable, Tables } from "./tables.ts";

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

/** An event as its table has it. */
export type KeptEvent = { readonly seq: number; readonly body: string };

export type EventQuery = {
  readonly life?: string;
  readonly id?: string;
  readonly afterSeq?: number;
  readonly limit: number;
  /** Parts of bodies that are left out where they are large (RowQuery). */
  readonly without?: readonly string[];
};

export type Store = AsyncDisposable & {
  readonly db: Kysely<Tables>;
  /**
   * Runs `work` in one transaction; transactions run one after another. Throws `unavailable`
   * where too many wait already.
   */
  transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** Appends one step of a life and replaces its row; gives the event's seq. */
  append<Body extends object>(tx: Tx, kind: LifeKind<Body>, step: LifeStep<Body>): Promise<number>;
  row<Body extends object>(kind: LifeKind<Body>, id: string): Promise<LifeRow<Body> | undefined>;
  rows<Body extends object>(kind: LifeKind<Body>, query: RowQuery): Promise<LifeRow<Body>[]>;
  /** Ids that begin so, in order. */
  idsBeginning<Body extends object>(
    kind: LifeKind<Body>,
    beginning: string,
    limit: number,
  ): Promise<string[]>;
  /** Those of these ids that are there, in no order. */
  rowsOf<Body extends object>(
    kind: LifeKind<Body>,
    ids: readonly string[],
  ): Promise<LifeRow<Body>[]>;
  /** The newest rows for each value of a column, newest first: one statement for all values. */
  newestOfEach<Body extends object>(
    kind: LifeKind<Body>,
    column: "a" | "n",
    values: readonly (string | number)[],
    each: number,
  ): Promise<ReadonlyMap<string | number, LifeRow<Body>[]>>;
  /** As `newestOfEach`, ids alone. */
  newestIdsOfEach(
    kind: Pick<LifeKind<object>, "life">,
    column: "a" | "n",
    values: readonly (string | number)[],
    each: number,
  ): Promise<ReadonlyMap<string | number, string[]>>;
  /** How many rows are in each of these states. */
  countStates(
    kind: Pick<LifeKind<object>, "life">,
    states: readonly string[],
  ): Promise<ReadonlyMap<string, number>>;
  /** Events of one life, or of all after `afterSeq`, in order. */
  events(query: EventQuery): Promise<LifeEvent[]>;
  /** Seq of the newest event, of one life or of all; 0: there is none. */
  newestSeq(life?: string): Promise<number>;
  /** Removes these events, in this transaction, with what they alone named; gives bytes. */
  forgetEvents(tx: Tx, events: readonly KeptEvent[]): Promise<number>;
  /** Makes all rows of a life anew from its events. */
  rebuild<Body extends object>(kind: LifeKind<Body>): Promise<number>;
  fact(name: string): Promise<string | undefined>;
  /** Those of these facts that are there. */
  facts(names: readonly string[]): Promise<ReadonlyMap<string, string>>;
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
  const contents = openContents();
  const read = async <Body extends object>(
    rows: readonly LifeRowTable[],
    without?: readonly string[],
  ): Promise<LifeRow<Body>[]> => {
    const texts = rows.map((row) => row.body);
    const bodies = await contents.read(db, texts, without);
    return rows.map((row, n) => rowOf(row, bodies[n] as Body));
  };
  return {
    db,
    transaction: openQueue(db),
    append: (tx, kind, step) => append(tx, contents, kind, step),
    async row(kind, id) {
      const rows = await db
        .selectFrom("life_row")
        .selectAll()
        .where("life", "=", kind.life)
        .where("id", "=", id)
        .execute();
      return (await read<never>(rows))[0];
    },
    async idsBeginning({ life }, beginning, limit) {
      const { rows } = await idsBeginning(life, beginning, limit).execute(db);
      return rows.map(({ id }) => id);
    },
    async rowsOf(kind, ids) {
      if (ids.length === 0) return [];
      const rows = await db
        .selectFrom("life_row")
        .selectAll()
        .where("life", "=", kind.life)
        .where("id", "in", ids)
        .execute();
      return read(rows);
    },
    rows: async (kind, query) => read(await selectRows(db, kind.life, query), query.without),
    async newestOfEach(kind, column, values, each) {
      if (values.length === 0) return new Map();
      const { rows } = await newestOfEach(kind.life, column, values, each, "*").execute(db);
      return grouped(await read<never>(rows), (_row, n) => rows[n]![column]!);
    },
    async newestIdsOfEach(kind, column, values, each) {
      if (values.length === 0) return new Map();
      const { rows } = await newestOfEach(kind.life, column, values, each, "id").execute(db);
      const groups = grouped(rows, (row) => row[column]!);
      return new Map([...groups].map(([value, of]) => [value, of.map((row) => row.id)]));
    },
    async countStates({ life }, states) {
      const rows = await db
        .selectFrom("life_row")
        .select(["state", (eb) => eb.fn.countAll().as("n")])
        .where("life", "=", life)
        .where("state", "in", states)
        .groupBy("state")
        .execute();
      return new Map(rows.map(({ state, n }) => [state, Number(n)]));
    },
    events: (query) => selectEvents(db, contents, query),
    async newestSeq(life) {
      let select = db.selectFrom("life_event").select("seq").orderBy("seq", "desc").limit(1);
      if (life !== undefined) select = select.where("life", "=", life);
      return Number((await select.executeTakeFirst())?.seq ?? 0);
    },
    async forgetEvents(tx, events) {
      const freed = await contents.release(
        tx,
        events.map((event) => event.body),
      );
      for (const { seq } of events) {
        await tx.deleteFrom("life_event").where("seq", "=", Number(seq)).execute();
      }
      return freed + events.reduce((bytes, event) => bytes + event.body.length, 0);
    },
    rebuild: (kind) => db.transaction().execute((tx) => rebuildRows(tx, contents, kind)),
    async fact(name) {
      const row = await db
        .selectFrom("fact")
        .select("value")
        .where("name", "=", name)
        .executeTakeFirst();
      return row?.value;
    },
    async facts(names) {
      if (names.length === 0) return new Map();
      const rows = await db
        .selectFrom("fact")
        .select(["name", "value"])
        .where("name", "in", names)
        .execute();
      return new Map(rows.map(({ name, value }) => [name, value]));
    },
    async setFact(tx, name, value, atMs) {
      await tx
        .insertInto("fact")
        .values({ name, value, updated_ms: atMs })
        .onConflict((c) => c.column("name").doUpdateSet({ value, updated_ms: atMs }))
        .execute();
    },
    async [Symbol.asyncDispose]() {
      await db.destroy();
    },
  };
}

/** One connection: transactions queue here, in order, and do not interleave. */
function openQueue(db: Kysely<Tables>): Store["transaction"] {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return async (work) => {
    if (waiting >= limits.storeQueue) {
      fail("unavailable", `${waiting} transactions wait already: the store is too slow`);
    }
    waiting++;
    const next = last.then(() => db.transaction().execute(work));
    last = next.catch(() => undefined);
    try {
      return await next;
    } finally {
      waiting--;
    }
  };
}

function grouped<T>(
  all: readonly T[],
  valueOf: (one: T, n: number) => string | number,
): Map<string | number, T[]> {
  const groups = new Map<string | number, T[]>();
  for (const [n, one] of all.entries()) {
    const value = valueOf(one, n);
    const group = groups.get(value);
    if (group) group.push(one);
    else groups.set(value, [one]);
  }
  return groups;
}

async function selectEvents(
  db: Kysely<Tables>,
  contents: Contents,
  query: EventQuery,
): Promise<LifeEvent[]> {
  let select = db.selectFrom("life_event").selectAll().orderBy("seq").limit(query.limit);
  if (query.life !== undefined) select = select.where("life", "=", query.life);
  if (query.id !== undefined) select = select.where("id", "=", query.id);
  if (query.afterSeq !== undefined) select = select.where("seq", ">", query.afterSeq);
  const rows = await select.execute();
  const texts = rows.map((row) => row.body);
  const bodies = await contents.read(db, texts, query.without);
  return rows.map((row, n) => ({
    seq: Number(row.seq),
    atMs: Number(row.at_ms),
    life: row.life,
    id: row.id,
    from: row.from_state,
    event: row.event,
    to: row.to_state,
    body: bodies[n]!,
  }));
}

async function append<Body extends object>(
  tx: Tx,
  contents: Contents,
  kind: LifeKind<Body>,
  step: LifeStep<Body>,
): Promise<number> {
  const packed = pack(step.body);
  await contents.put(tx, packed);
  const { text } = packed;
  const { rows } = await sql<{ seq: number }>`
    insert into life_event (at_ms, life, id, from_state, event, to_state, body)
    values (${step.atMs}, ${kind.life}, ${step.id}, ${step.from}, ${step.event}, ${step.to},
      ${text})
    returning seq`.execute(tx);
  const seq = Number(rows[0]!.seq);
  await putRow(tx, kind, { ...step, text, seq });
  return seq;
}

async function putRow<Body extends object>(
  tx: Tx,
  kind: LifeKind<Body>,
  step: { id: string; to: string; body: Body; atMs: number; text: string; seq: number },
): Promise<void> {
  const { a = null, b = null, c = null, d = null, e = null, n = null } = kind.columns(step.body);
  await sql`
    insert into life_row
      (life, id, state, created_ms, updated_ms, seq, a, b, c, d, e, n, body)
    values (${kind.life}, ${step.id}, ${step.to}, ${step.atMs}, ${step.atMs}, ${step.seq},
      ${a}, ${b}, ${c}, ${d}, ${e}, ${n}, ${step.text})
    on conflict (life, id) do update set state = excluded.state, updated_ms = excluded.updated_ms,
      seq = excluded.seq, a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d,
      e = excluded.e, n = excluded.n, body = excluded.body`.execute(tx);
}

async function rebuildRows<Body extends object>(
  tx: Tx,
  contents: Contents,
  kind: LifeKind<Body>,
): Promise<number> {
  await tx.deleteFrom("life_row").where("life", "=", kind.life).execute();
  let afterSeq = 0;
  for (;;) {
    const page = await tx
      .selectFrom("life_event")
      .selectAll()
      .where("life", "=", kind.life)
      .where("seq", ">", afterSeq)
      .orderBy("seq")
      .limit(200)
      .execute();
    const texts = page.map((row) => row.body);
    const bodies = await contents.read(tx, texts);
    for (const [n, row] of page.entries()) {
      afterSeq = Number(row.seq);
      const body = bodies[n] as Body;
      const step = { id: row.id, to: row.to_state, body, atMs: Number(row.at_ms) };
      await putRow(tx, kind, { ...step, text: row.body, seq: afterSeq });
    }
    if (page.length < 200) break;
  }
  const { n } = await tx
    .selectFrom("life_row")
    .select((eb) => eb.fn.countAll().as("n"))
    .where("life", "=", kind.life)
    .executeTakeFirstOrThrow();
  return Number(n);
}

function rowOf<Body extends object>(row: LifeRowTable, body: Body): LifeRow<Body> {
  return {
    id: row.id,
    state: row.state,
    createdMs: Number(row.created_ms),
    updatedMs: Number(row.updated_ms),
    seq: Number(row.seq),
    body,
  };
}

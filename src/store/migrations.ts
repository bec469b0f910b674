/**
 * Numbered migrations, the same for every engine: plain kysely schema calls. A number once
 * shipped is never changed. The highest number is the state directory's schema version
 * (surface.md §3).
 */
import { sql } from "kysely";
import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

// Migrations see the schema of their time, not today's tables.
type AnyDatabase = Kysely<unknown>;

export const migrations: Readonly<Record<string, Migration>> = {
  "0001": {
    async up(db: AnyDatabase): Promise<void> {
      await db.schema
        .createTable("life_event")
        .addColumn("seq", "integer", (c) => c.primaryKey().autoIncrement())
        .addColumn("at_ms", "bigint", (c) => c.notNull())
        .addColumn("life", "text", (c) => c.notNull())
        .addColumn("id", "text", (c) => c.notNull())
        .addColumn("from_state", "text")
        .addColumn("event", "text", (c) => c.notNull())
        .addColumn("to_state", "text", (c) => c.notNull())
        .addColumn("body", "text", (c) => c.notNull())
        .execute();
      await db.schema
        .createIndex("life_event_of")
        .on("life_event")
        .columns(["life", "id", "seq"])
        .execute();
      await db.schema
        .createTable("life_row")
        .addColumn("life", "text", (c) => c.notNull())
        .addColumn("id", "text", (c) => c.notNull())
        .addColumn("state", "text", (c) => c.notNull())
        .addColumn("created_ms", "bigint", (c) => c.notNull())
        .addColumn("updated_ms", "bigint", (c) => c.notNull())
        .addColumn("seq", "bigint", (c) => c.notNull())
        .addColumn("body", "text", (c) => c.notNull())
        .addColumn("a", "text")
        .addColumn("b", "text")
        .addColumn("c", "text")
        .addColumn("n", "bigint")
        .addPrimaryKeyConstraint("life_row_key", ["life", "id"])
        .execute();
      for (const column of ["state", "a", "b", "c", "n", "created_ms"]) {
        await db.schema
          .createIndex(`life_row_${column}`)
          .on("life_row")
          .columns(["life", column])
          .execute();
      }
      await makeFactTables(db);
    },
  },
  "0002": {
    async up(db: AnyDatabase): Promise<void> {
      await db.schema
        .createTable("content")
        .addColumn("digest", "text", (c) => c.primaryKey())
        .addColumn("refs", "integer", (c) => c.notNull())
        .addColumn("text", "text", (c) => c.notNull())
        .execute();
      await makeRowsAnew(db);
      await db.schema
        .createIndex("outbox_open")
        .on("outbox")
        .columns(["created_ms", "attempts"])
        .where(sql.ref("done_ms"), "is", null)
        .execute();
      await db.schema.createIndex("outbox_done").on("outbox").column("done_ms").execute();
      await db.schema
        .createIndex("idempotency_age")
        .on("idempotency")
        .column("created_ms")
        .execute();
      // The review system's place: the newest event of one life.
      await db.schema
        .createIndex("life_event_seq")
        .on("life_event")
        .columns(["life", "seq"])
        .execute();
    },
  },
};

/**
 * 0002: rows with two more search columns, the body last (what stands behind a long text is slow
 * to reach), and indexes in the order in which lists are read.
 */
async function makeRowsAnew(db: AnyDatabase): Promise<void> {
  await db.schema
    .createTable("life_row_new")
    .addColumn("life", "text", (c) => c.notNull())
    .addColumn("id", "text", (c) => c.notNull())
    .addColumn("state", "text", (c) => c.notNull())
    .addColumn("created_ms", "bigint", (c) => c.notNull())
    .addColumn("updated_ms", "bigint", (c) => c.notNull())
    .addColumn("seq", "bigint", (c) => c.notNull())
    .addColumn("a", "text")
    .addColumn("b", "text")
    .addColumn("c", "text")
    .addColumn("d", "text")
    .addColumn("e", "text")
    .addColumn("n", "bigint")
    .addColumn("body", "text", (c) => c.notNull())
    .addPrimaryKeyConstraint("life_row_new_key", ["life", "id"])
    .execute();
  // A build's pipeline and result were in its body alone.
  await sql`
    insert into life_row_new
      (life, id, state, created_ms, updated_ms, seq, a, b, c, d, e, n, body)
    select life, id, state, created_ms, updated_ms, seq, a, b, c,
      case when life = 'build' then body ->> '$.facts.pipeline' end,
      case when life = 'build' then body ->> '$.result' end,
      n, body
    from life_row`.execute(db);
  await db.schema.dropTable("life_row").execute();
  await sql`alter table life_row_new rename to life_row`.execute(db);
  for (const column of ["state", "a", "b", "c", "d", "e", "n"]) {
    await db.schema
      .createIndex(`life_row_${column}`)
      .on("life_row")
      .columns(["life", column, "created_ms", "id"])
      .where(sql.ref(column), "is not", null)
      .execute();
  }
  await db.schema
    .createIndex("life_row_created")
    .on("life_row")
    .columns(["life", "created_ms", "id"])
    .execute();
}

export const schemaVersion = Object.keys(migrations).length;

/** 0001: what has no life. */
async function makeFactTables(db: AnyDatabase): Promise<void> {
  await db.schema
    .createTable("fact")
    .addColumn("name", "text", (c) => c.primaryKey())
    .addColumn("value", "text", (c) => c.notNull())
    .addColumn("updated_ms", "bigint", (c) => c.notNull())
    .execute();
  await db.schema
    .createTable("outbox")
    .addColumn("key", "text", (c) => c.primaryKey())
    .addColumn("body", "text", (c) => c.notNull())
    .addColumn("created_ms", "bigint", (c) => c.notNull())
    .addColumn("attempts", "integer", (c) => c.notNull().defaultTo(sql`0`))
    .addColumn("next_try_ms", "bigint", (c) => c.notNull())
    .addColumn("done_ms", "bigint")
    .execute();
  await db.schema
    .createTable("token")
    .addColumn("id", "text", (c) => c.primaryKey())
    .addColumn("name", "text", (c) => c.notNull())
    .addColumn("hash", "text", (c) => c.notNull().unique())
    .addColumn("role", "text", (c) => c.notNull())
    .addColumn("groups", "text", (c) => c.notNull())
    .addColumn("created_ms", "bigint", (c) => c.notNull())
    .addColumn("expires_ms", "bigint")
    .execute();
  await db.schema
    .createTable("idempotency")
    .addColumn("key", "text", (c) => c.primaryKey())
    .addColumn("body_hash", "text", (c) => c.notNull())
    .addColumn("status", "integer", (c) => c.notNull())
    .addColumn("answer", "text", (c) => c.notNull())
    .addColumn("created_ms", "bigint", (c) => c.notNull())
    .execute();
}

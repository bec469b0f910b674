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
};

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

/**
 * kysely on `node:sqlite`: one connection, WAL, `synchronous=FULL`, so that what was committed
 * survives the machine's death. kysely's own SQLite dialect does the rest; this file only gives
 * it the three calls of a prepared statement that it makes.
 */
import { DatabaseSync } from "node:sqlite";
import type { SQLInputValue } from "node:sqlite";
import { SqliteDialect } from "kysely";
import type { SqliteStatement } from "kysely";
import { fail } from "../base/errors.ts";

export function sqliteDialect(path: string): SqliteDialect {
  const database = new DatabaseSync(path);
  try {
    minding(path, () => database.exec("PRAGMA journal_mode = WAL"));
  } catch (error) {
    database.close();
    throw error;
  }
  database.exec("PRAGMA synchronous = FULL");
  database.exec("PRAGMA busy_timeout = 5000");
  database.exec("PRAGMA foreign_keys = ON");
  const statement = keepStatements((text) => prepared(database, path, text));
  return new SqliteDialect({
    database: {
      close: () => database.close(),
      // after a full disk SQLite has rolled back by itself: there is nothing to roll back
      prepare: (text) =>
        text === "rollback" && !database.isTransaction
          ? statement("SELECT 0 WHERE FALSE")
          : statement(text),
    },
  });
}

/** Statements kept compiled; the program has some 100 texts, lists with filters a few more. */
const STATEMENTS = 500;

/** SQLite compiles a text once, not at each call; the least used goes. */
function keepStatements(
  make: (text: string) => SqliteStatement,
): (text: string) => SqliteStatement {
  const kept = new Map<string, SqliteStatement>();
  return (text) => {
    const statement = kept.get(text) ?? make(text);
    kept.delete(text);
    kept.set(text, statement);
    if (kept.size > STATEMENTS) kept.delete(kept.keys().next().value!);
    return statement;
  };
}

function prepared(database: DatabaseSync, path: string, text: string): SqliteStatement {
  const statement = database.prepare(text);
  const values = (parameters: readonly unknown[]): SQLInputValue[] => [
    ...(parameters as readonly SQLInputValue[]),
  ];
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => minding(path, () => statement.all(...values(parameters))),
    run: (parameters) => minding(path, () => statement.run(...values(parameters))),
    iterate: (parameters) => statement.iterate(...values(parameters)) as IterableIterator<unknown>,
  };
}

/** SQLITE_FULL (sqlite.org/rescode.html): the file system has no room, nothing was changed. */
const SQLITE_FULL = 13;
/** The same, met while the index of the write-ahead log was made. */
const SQLITE_IOERR_SHMSIZE = 4874;

/** A full disk is no mistake of ours: it is told as such. */
function minding<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (error) {
    const { errcode } = error as { readonly errcode?: number };
    const full = (errcode ?? 0) % 256 === SQLITE_FULL || errcode === SQLITE_IOERR_SHMSIZE;
    if (!full) throw error;
    return fail("no-space", `no space left for ${path}`, {
      cause: error,
      remedy: "make room: archive.keepDays and archive.maxGiB keep less; df -h shows what is full",
    });
  }
}

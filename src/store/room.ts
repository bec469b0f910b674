/**
 * Room for a store on a disk that others fill. SQLite writes to pages that it has already: to free
 * ones of its file, and to its write-ahead log, which it uses again from the beginning. So both
 * are made larger than what is in them, while there is room, and records go on when the disk is
 * full (docs/decisions/room-for-the-agents-record.md). What a start needs beyond that (the log is
 * removed when a store is closed) is kept as a file beside it, and given up when a start fails.
 */
import { open, rm, stat } from "node:fs/promises";
import { sql } from "kysely";
import { isNoSpace } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { openSqliteStore } from "./store.ts";
import type { Store } from "./store.ts";

export type RoomyStore = {
  readonly store: Store;
  /** Makes the room whole again where it was used up; throws `no-space` where it cannot be. */
  readonly keepRoom: () => Promise<void>;
};

/** Opens the store, with the reserve's room if there is no other. */
export async function openRoomyStore(path: string): Promise<RoomyStore> {
  const reserve = `${path}.reserve`;
  const store = await openSqliteStore(path).catch(async (error: unknown) => {
    if (!isNoSpace(error)) throw error;
    await rm(reserve, { force: true });
    return openSqliteStore(path);
  });
  return {
    store,
    async keepRoom() {
      if ((await freeBytes(store)) < limits.storeRoomBytes / 2) await makeRoom(store);
      await keepReserve(reserve);
    },
  };
}

async function freeBytes(store: Store): Promise<number> {
  type Row = { n: number };
  const pages = await sql<Row>`SELECT freelist_count AS n FROM pragma_freelist_count`.execute(
    store.db,
  );
  const size = await sql<Row>`SELECT page_size AS n FROM pragma_page_size`.execute(store.db);
  return (pages.rows[0]?.n ?? 0) * (size.rows[0]?.n ?? 0);
}

/** Writes that much, and drops it: the pages stay with the file, and with the log. */
async function makeRoom(store: Store): Promise<void> {
  await store.transaction(async (tx) => {
    await sql`CREATE TABLE IF NOT EXISTS room (bytes BLOB NOT NULL)`.execute(tx);
    await sql`INSERT INTO room VALUES (zeroblob(${limits.storeRoomBytes}))`.execute(tx);
  });
  // In a transaction of its own: pages that are freed in the one that takes them are not written.
  await store.transaction(async (tx) => {
    await sql`DROP TABLE room`.execute(tx);
  });
}

async function keepReserve(path: string): Promise<void> {
  const there = await stat(path).catch(() => undefined);
  if (there?.size === limits.storeReserveBytes) return;
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(Buffer.alloc(limits.storeReserveBytes, 0xff));
    await file.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

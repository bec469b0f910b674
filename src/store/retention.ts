/**
 * Forgets what is old, some rows a transaction, so that others have their turn in between and
 * the event loop is never held. Of a life that is still shown, its first and its last event
 * stay: rows can be rebuilt from them. The newest events stay for those who follow.
 */
import { sql } from "kysely";
import { limits } from "../base/limits.ts";
import type { KeptEvent, Store, Tx } from "./store.ts";

export type Swept = { readonly removed: number; readonly freedBytes: number };

/** Rows or events looked at in one transaction. */
const AT_ONCE = 100;
const STEPS_FACT = "retention/steps";

/** Steps of lives between their first and their last, older than this. */
export function forgetSteps(store: Store, beforeMs: number, signal: AbortSignal): Promise<Swept> {
  return inSteps(store, signal, async (tx) => {
    const from = await factIn(tx, STEPS_FACT);
    const { rows } = await sql<StepRow>`
      select e.seq, e.at_ms, e.body, r.seq as last,
        exists (select 1 from life_event as o
          where o.life = e.life and o.id = e.id and o.seq < e.seq) as "hasEarlier"
      from life_event as e left join life_row as r on r.life = e.life and r.id = e.id
      where e.seq > ${from} order by e.seq limit ${AT_ONCE}`.execute(tx);
    const newest = await newestSeq(tx);
    const isOld = (row: StepRow): boolean =>
      Number(row.at_ms) < beforeMs && Number(row.seq) <= newest - limits.eventBacklog;
    const until = rows.findIndex((row) => !isOld(row));
    const old = until === -1 ? rows : rows.slice(0, until);
    const last = old.at(-1);
    if (!last) return { removed: 0, freedBytes: 0, isDone: true };
    const middle = old.filter((row) => row.hasEarlier && row.last !== null && row.last > row.seq);
    const freedBytes = await store.forgetEvents(tx, middle);
    await store.setFact(tx, STEPS_FACT, String(last.seq), beforeMs);
    return { removed: middle.length, freedBytes, isDone: old.length < AT_ONCE };
  });
}

type StepRow = KeptEvent & {
  readonly at_ms: number;
  readonly last: number | null;
  /** SQLite's booleans are numbers. */
  readonly hasEarlier: number | boolean;
};

/** Lives that are in one of these states, begun and last changed before; with all their events. */
export async function forgetLives(
  store: Store,
  life: string,
  states: readonly string[],
  beforeMs: number,
  signal: AbortSignal,
): Promise<Swept> {
  let sum: Swept = { removed: 0, freedBytes: 0 };
  for (const state of states) {
    const swept = await inSteps(store, signal, async (tx) => {
      const rows = await tx
        .selectFrom("life_row")
        .select(["id", "body"])
        .where("life", "=", life)
        .where("state", "=", state)
        .where("created_ms", "<", beforeMs)
        .where("updated_ms", "<", beforeMs)
        .orderBy("created_ms")
        .limit(AT_ONCE / 4)
        .execute();
      let freedBytes = 0;
      for (const { id, body } of rows) {
        const events = await tx
          .selectFrom("life_event")
          .select(["seq", "body"])
          .where("life", "=", life)
          .where("id", "=", id)
          .execute();
        freedBytes += body.length + (await store.forgetEvents(tx, events));
        await tx.deleteFrom("life_row").where("life", "=", life).where("id", "=", id).execute();
      }
      return { removed: rows.length, freedBytes, isDone: rows.length < AT_ONCE / 4 };
    });
    sum = added(sum, swept);
  }
  return sum;
}

/** Reports that were delivered before. */
export function forgetReports(store: Store, beforeMs: number, signal: AbortSignal): Promise<Swept> {
  return inSteps(store, signal, async (tx) => {
    const rows = await tx
      .selectFrom("outbox")
      .select(["key", "body"])
      .where("done_ms", "<", beforeMs)
      .limit(AT_ONCE)
      .execute();
    await removeKeys(tx, "outbox", rows);
    return freed(rows.map(({ key, body }) => key + body));
  });
}

/** Answers kept for `Idempotency-Key` before. */
export function forgetAnswers(store: Store, beforeMs: number, signal: AbortSignal): Promise<Swept> {
  return inSteps(store, signal, async (tx) => {
    const rows = await tx
      .selectFrom("idempotency")
      .select(["key", "answer"])
      .where("created_ms", "<=", beforeMs)
      .limit(AT_ONCE)
      .execute();
    await removeKeys(tx, "idempotency", rows);
    return freed(rows.map(({ key, answer }) => key + answer));
  });
}

type Step = Swept & { readonly isDone: boolean };

async function inSteps(
  store: Store,
  signal: AbortSignal,
  step: (tx: Tx) => Promise<Step>,
): Promise<Swept> {
  let sum: Swept = { removed: 0, freedBytes: 0 };
  for (;;) {
    signal.throwIfAborted();
    const done = await store.transaction(step);
    sum = added(sum, done);
    if (done.isDone) return sum;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function added(one: Swept, other: Swept): Swept {
  return {
    removed: one.removed + other.removed,
    freedBytes: one.freedBytes + other.freedBytes,
  };
}

function freed(texts: readonly string[]): Step {
  const freedBytes = texts.reduce((sum, text) => sum + text.length, 0);
  return { removed: texts.length, freedBytes, isDone: texts.length < AT_ONCE };
}

async function removeKeys(
  tx: Tx,
  table: "outbox" | "idempotency",
  rows: readonly { readonly key: string }[],
): Promise<void> {
  if (rows.length === 0) return;
  const keys = rows.map(({ key }) => key);
  await tx.deleteFrom(table).where("key", "in", keys).execute();
}

/** Within the transaction: the store's one connection is busy with it. */
async function factIn(tx: Tx, name: string): Promise<number> {
  const row = await tx
    .selectFrom("fact")
    .select("value")
    .where("name", "=", name)
    .executeTakeFirst();
  return Number(row?.value ?? 0);
}

async function newestSeq(tx: Tx): Promise<number> {
  const row = await tx
    .selectFrom("life_event")
    .select("seq")
    .orderBy("seq", "desc")
    .limit(1)
    .executeTakeFirst();
  return Number(row?.seq ?? 0);
}

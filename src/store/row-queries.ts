/**
 * Lists of rows, in the order of their making, by the index of one search column. Where a list
 * is filtered by several, the column with the fewest rows leads, and its rows are looked through
 * in slices, so that no list holds the event loop however many rows its other filters refuse.
 */
import { sql } from "kysely";
import type { Kysely, RawBuilder } from "kysely";
import type { LifeRowTable, Tables } from "./tables.ts";

/** What a life searches by; `n` is a number, the others are text. */
export type SearchColumns = Partial<Pick<LifeRowTable, "a" | "b" | "c" | "d" | "e" | "n">>;

export type Place = { readonly createdMs: number; readonly id: string };

export type RowQuery = {
  readonly states?: readonly string[];
  readonly where?: SearchColumns;
  /** Rows older (newest first) or younger (oldest first) than this row's place. */
  readonly after?: Place | undefined;
  readonly sinceMs?: number | undefined;
  readonly limit: number;
  readonly newestFirst?: boolean;
  /** Parts of bodies that nobody here reads: `facts.repos`. Left out where they are large. */
  readonly without?: readonly string[];
};

type Column = "state" | keyof SearchColumns;
type Filter = { readonly column: Column; readonly values: readonly (string | number | null)[] };

/** Rows looked through without a pause: some milliseconds. */
const SLICE_ROWS = 2_000;
/** To compare filters, more rows need not be counted. */
const COUNTED_ROWS = 1_000;

export async function selectRows(
  db: Kysely<Tables>,
  life: string,
  query: RowQuery,
): Promise<LifeRowTable[]> {
  const [lead, ...others] = await ordered(db, life, filtersOf(query));
  if (others.length === 0 || !lead) {
    return (await listQuery(life, query, { lead, others }).execute(db)).rows;
  }
  const found: LifeRowTable[] = [];
  let after = query.after;
  for (;;) {
    const until = await endOfSlice(db, life, { ...query, after }, lead);
    const limit = query.limit - found.length;
    const part = listQuery(life, { ...query, after, limit }, { lead, others, until });
    found.push(...(await part.execute(db)).rows);
    if (!until || found.length >= query.limit) return found;
    after = until;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The statement of a list; `lead` is the filter that its index serves. */
export function listQuery(
  life: string,
  query: RowQuery,
  by: { lead?: Filter | undefined; others?: readonly Filter[]; until?: Place | undefined },
): RawBuilder<LifeRowTable> {
  const order = sql.raw(query.newestFirst ? "desc" : "asc");
  const where = [
    ...conditions(life, query, by.lead),
    ...(by.others ?? []).map(unindexed),
    ...(by.until ? [beyond(by.until, query.newestFirst ? ">=" : "<=")] : []),
  ];
  return sql<LifeRowTable>`select * from life_row where ${sql.join(where, sql` and `)}
    order by created_ms ${order}, id ${order} limit ${query.limit}`;
}

export function filtersOf(query: RowQuery): Filter[] {
  const columns = Object.entries(query.where ?? {}) as [keyof SearchColumns, string | number][];
  return [
    ...columns.map(([column, value]) => ({ column, values: [value] })),
    ...(query.states ? [{ column: "state" as const, values: query.states }] : []),
  ];
}

/** The filter with the fewest rows first. */
async function ordered(
  db: Kysely<Tables>,
  life: string,
  filters: readonly Filter[],
): Promise<Filter[]> {
  if (filters.length < 2) return [...filters];
  const counted = [];
  for (const filter of filters) {
    const { rows } = await sql<{ n: number }>`
      select count(*) as n from (select 1 from life_row
        where life = ${life} and ${indexed(filter)} limit ${COUNTED_ROWS}) as some`.execute(db);
    counted.push({ filter, n: Number(rows[0]?.n ?? 0) });
  }
  return counted.sort((one, other) => one.n - other.n).map(({ filter }) => filter);
}

/** Place of the last row of the next slice; undefined: what is left is less than one. */
async function endOfSlice(
  db: Kysely<Tables>,
  life: string,
  query: RowQuery,
  lead: Filter,
): Promise<Place | undefined> {
  const order = sql.raw(query.newestFirst ? "desc" : "asc");
  const { rows } = await sql<{ created_ms: number; id: string }>`
    select created_ms, id from life_row
    where ${sql.join(conditions(life, query, lead), sql` and `)}
    order by created_ms ${order}, id ${order} limit 1 offset ${SLICE_ROWS - 1}`.execute(db);
  const [row] = rows;
  return row && { createdMs: Number(row.created_ms), id: row.id };
}

function conditions(
  life: string,
  query: RowQuery,
  lead: Filter | undefined,
): RawBuilder<unknown>[] {
  const { after, sinceMs, newestFirst } = query;
  return [
    sql`life = ${life}`,
    ...(lead ? [indexed(lead)] : []),
    ...(sinceMs === undefined ? [] : [sql`created_ms >= ${sinceMs}`]),
    ...(after ? [beyond(after, newestFirst ? "<" : ">")] : []),
  ];
}

/** As one comparison of pairs, which an index serves; an `or` of two is looked through. */
function beyond({ createdMs, id }: Place, than: "<" | ">" | "<=" | ">="): RawBuilder<unknown> {
  return sql`(created_ms, id) ${sql.raw(than)} (${createdMs}, ${id})`;
}

function indexed({ column, values }: Filter): RawBuilder<unknown> {
  if (values.length === 1) return sql`${sql.ref(column)} = ${values[0]}`;
  return sql`${sql.ref(column)} in (${sql.join(values)})`;
}

/** The same condition, in a form that no index is taken for. */
function unindexed({ column, values }: Filter): RawBuilder<unknown> {
  const nothing = column === "n" ? sql`0` : sql`''`;
  const value = sql`coalesce(${sql.ref(column)}, ${nothing})`;
  return column === "n"
    ? sql`${value} = ${values[0]} and n is not null`
    : sql`${value} in (${sql.join(values)})`;
}

/** A row's columns, or its id and the column it was asked by. */
export function newestOfEach(
  life: string,
  column: "a" | "n",
  values: readonly (string | number)[],
  each: number,
  what: "*" | "id",
): RawBuilder<LifeRowTable> {
  const by = sql.ref(column);
  const columns = what === "*" ? sql.raw("*") : sql`id, ${by}, created_ms`;
  return sql<LifeRowTable>`
    select * from (
      select ${columns}, row_number() over
        (partition by ${by} order by created_ms desc, id desc) as place
      from life_row where life = ${life} and ${by} in (${sql.join(values)})
    ) as placed
    where place <= ${each} order by created_ms desc, id desc`;
}

/** Ids are digits, letters and dashes: all that begin so lie before the beginning and `~`. */
export function idsBeginning(
  life: string,
  beginning: string,
  limit: number,
): RawBuilder<{ id: string }> {
  return sql<{ id: string }>`select id from life_row
    where life = ${life} and id >= ${beginning} and id < ${`${beginning}~`}
    order by id limit ${limit}`;
}

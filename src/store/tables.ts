/**
 * The tables of both databases, as kysely sees them. A life's row is a projection of its events
 * (lease.md §7): `body` is that of the last event (packing.ts), the other columns are taken
 * out of it to be searched. Types only; the columns themselves are made in migrations/.
 */
import type { Generated } from "kysely";

export type LifeEventTable = {
  seq: Generated<number>;
  at_ms: number;
  life: string;
  id: string;
  from_state: string | null;
  event: string;
  to_state: string;
  body: string;
};

/** Lives: `lease`, `testenv`, `host`, `build`, `buildset`, `node`, `image`, `change`, … */
export type LifeRowTable = {
  life: string;
  id: string;
  state: string;
  created_ms: number;
  updated_ms: number;
  seq: number;
  body: string;
  /** Search columns; what each holds for a life is said where the life is defined. */
  a: string | null;
  b: string | null;
  c: string | null;
  d: string | null;
  e: string | null;
  n: number | null;
};

/** Large parts of bodies, each once (packing.ts). */
export type ContentTable = {
  /** SHA-256 of the text, base64url. */
  digest: string;
  /** Events and other parts that name it. */
  refs: number;
  text: string;
};

/** Small durable facts that have no life: counters, keys' public halves, last seen. */
export type FactTable = { name: string; value: string; updated_ms: number };

export type OutboxTable = {
  /** (buildset, reporter, stage): a second report of the same does nothing. */
  key: string;
  body: string;
  created_ms: number;
  attempts: number;
  next_try_ms: number;
  done_ms: number | null;
};

export type TokenTable = {
  id: string;
  name: string;
  /** SHA-256 of the token, hex; the token itself is never stored. */
  hash: string;
  role: string;
  groups: string;
  created_ms: number;
  expires_ms: number | null;
};

export type IdempotencyTable = {
  /** caller, route and key. */
  key: string;
  body_hash: string;
  status: number;
  answer: string;
  created_ms: number;
};

export type Tables = {
  life_event: LifeEventTable;
  life_row: LifeRowTable;
  content: ContentTable;
  fact: FactTable;
  outbox: OutboxTable;
  token: TokenTable;
  idempotency: IdempotencyTable;
};

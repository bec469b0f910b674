/**
 * Parts of bodies in their table (packing.ts): put with the event that names them first, counted
 * by whoever names them, gone with the last. A part that is there has all its own parts.
 */
import { sql } from "kysely";
import type { Kysely } from "kysely";
import { digestsIn, digestsOfPart, unpack } from "./packing.ts";
import type { Packed, Part } from "./packing.ts";
import type { Tables } from "./tables.ts";

/** Parsed parts kept in memory, by the length of their texts. */
const CACHE_CHARS = 4 * 1024 * 1024;
/** Digests asked for in one statement: SQLite takes 32,766 values. */
const AT_ONCE = 500;

export type Contents = {
  /** In the transaction of the event that has this body. */
  put(tx: Kysely<Tables>, packed: Packed): Promise<void>;
  /** In the transaction that removes events with these texts; gives the bytes freed. */
  release(tx: Kysely<Tables>, texts: readonly string[]): Promise<number>;
  /** Bodies of these texts, in order. */
  read(
    db: Kysely<Tables>,
    texts: readonly string[],
    without?: readonly string[],
  ): Promise<object[]>;
};

export function openContents(): Contents {
  const cache = openCache();

  /** Puts what is missing, and counts one use of each. */
  async function use(tx: Kysely<Tables>, parts: readonly Part[]): Promise<void> {
    if (parts.length === 0) return;
    const uses = new Map<string, { part: Part; count: number }>();
    for (const part of parts) {
      const known = uses.get(part.digest);
      uses.set(part.digest, { part, count: (known?.count ?? 0) + 1 });
    }
    const there = await thereOf(tx, [...uses.keys()]);
    for (const { part, count } of uses.values()) {
      if (there.has(part.digest)) {
        await sql`update content set refs = refs + ${count} where digest = ${part.digest}`.execute(
          tx,
        );
        continue;
      }
      await sql`insert into content (digest, refs, text)
        values (${part.digest}, ${count}, ${part.text})`.execute(tx);
      await use(tx, part.parts);
    }
  }

  async function drop(tx: Kysely<Tables>, digests: readonly string[]): Promise<number> {
    let freed = 0;
    for (const digest of digests) {
      const { rows } = await sql<{ refs: number; text: string }>`
        update content set refs = refs - 1 where digest = ${digest}
        returning refs, case when refs = 0 then text else '' end as text`.execute(tx);
      const [row] = rows;
      if (!row || row.refs > 0) continue;
      await sql`delete from content where digest = ${digest}`.execute(tx);
      cache.drop(digest);
      freed += row.text.length + (await drop(tx, digestsOfPart(row.text)));
    }
    return freed;
  }

  return {
    put: (tx, packed) => use(tx, packed.parts),
    async release(tx, texts) {
      let freed = 0;
      for (const text of texts) freed += await drop(tx, digestsIn(text));
      return freed;
    },
    async read(db, texts, without) {
      const bodies: object[] = Array.from(texts, () => ({}));
      // What this call reads stays for this call, whatever the cache lets go of meanwhile.
      const own = new Map<string, unknown>();
      const partOf = (digest: string): unknown => own.get(digest) ?? cache.get(digest);
      let open = texts.map((_text, n) => n);
      while (open.length > 0) {
        const missing = new Set<string>();
        const still: number[] = [];
        for (const n of open) {
          const unpacked = unpack(texts[n]!, partOf, without);
          if (unpacked.missing) {
            for (const digest of unpacked.missing) missing.add(digest);
            still.push(n);
          } else bodies[n] = unpacked.body;
        }
        await load(db, [...missing], own);
        open = still;
      }
      return bodies;
    },
  };

  async function load(
    db: Kysely<Tables>,
    digests: readonly string[],
    own: Map<string, unknown>,
  ): Promise<void> {
    for (let n = 0; n < digests.length; n += AT_ONCE) {
      const some = digests.slice(n, n + AT_ONCE);
      const rows = await db
        .selectFrom("content")
        .select(["digest", "text"])
        .where("digest", "in", some)
        .execute();
      for (const { digest, text } of rows) {
        const part = JSON.parse(text) as unknown;
        own.set(digest, part);
        cache.put(digest, part, text.length);
      }
      const lost = some.find((digest) => !own.has(digest));
      if (lost !== undefined) throw new Error(`the store lacks the part ${lost} of a body`);
    }
  }
}

async function thereOf(
  tx: Kysely<Tables>,
  digests: readonly string[],
): Promise<ReadonlySet<string>> {
  const there = new Set<string>();
  for (let n = 0; n < digests.length; n += AT_ONCE) {
    const rows = await tx
      .selectFrom("content")
      .select("digest")
      .where("digest", "in", digests.slice(n, n + AT_ONCE))
      .execute();
    for (const { digest } of rows) there.add(digest);
  }
  return there;
}

/** The least used goes first. A digest's content never changes: nothing here grows stale. */
function openCache() {
  const kept = new Map<string, { readonly part: unknown; readonly chars: number }>();
  let chars = 0;
  const drop = (digest: string): void => {
    chars -= kept.get(digest)?.chars ?? 0;
    kept.delete(digest);
  };
  return {
    drop,
    get(digest: string): unknown {
      const entry = kept.get(digest);
      if (!entry) return undefined;
      kept.delete(digest);
      kept.set(digest, entry);
      return entry.part;
    },
    put(digest: string, part: unknown, length: number): void {
      drop(digest);
      kept.set(digest, { part, chars: length });
      chars += length;
      for (const oldest of kept.keys()) {
        if (chars <= CACHE_CHARS) return;
        drop(oldest);
      }
    },
  };
}

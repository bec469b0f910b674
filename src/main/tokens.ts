/**
 * Tokens of people and programs (surface.md §6): 256 random bits, shown once, kept as SHA-256
 * with name, role, groups and expiry. The first start writes the admin's to `tokens/admin`.
 */
import { chmod, mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import type { AdminViews } from "../api/views.ts";
import { isoTime } from "../base/clock.ts";
import type { Clock } from "../base/clock.ts";
import { fail } from "../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { sha256Hex } from "../base/ids.ts";
import { makeToken } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import { roleSchema } from "../model/identity.ts";
import type { Caller, TokenView } from "../model/identity.ts";
import type { Store } from "../store/store.ts";
import type { TokenTable } from "../store/tables.ts";

export type Tokens = Pick<AdminViews, "authenticate" | "createToken" | "tokens" | "revokeToken"> & {
  /** Makes the admin's token where its file is missing or no longer works. */
  ensureAdmin(path: string): Promise<void>;
};

export function openTokens(store: Store, clock: Clock, random: Random): Tokens {
  const tokens: Tokens = {
    async authenticate(token) {
      if (!token.startsWith("ry_")) return undefined;
      const row = await store.db
        .selectFrom("token")
        .selectAll()
        .where("hash", "=", sha256Hex(token))
        .executeTakeFirst();
      if (!row) return undefined;
      if (row.expires_ms !== null && Number(row.expires_ms) <= clock.wallMs()) return undefined;
      return callerOf(row);
    },
    async createToken(request) {
      const token = makeToken(random, "ry_");
      const nowMs = clock.wallMs();
      const row: TokenTable = {
        id: random.uuid4(),
        name: request.name,
        hash: sha256Hex(token),
        role: request.role,
        groups: JSON.stringify(request.groups),
        created_ms: nowMs,
        expires_ms:
          request.expiresInSeconds === undefined ? null : nowMs + request.expiresInSeconds * 1_000,
      };
      await store.transaction((tx) => tx.insertInto("token").values(row).execute());
      return { ...viewOf(row), token };
    },
    async tokens() {
      const rows = await store.db
        .selectFrom("token")
        .selectAll()
        .orderBy("created_ms")
        .orderBy("id")
        .execute();
      return rows.map(viewOf);
    },
    async revokeToken(id) {
      const gone = await store.transaction((tx) =>
        tx.deleteFrom("token").where("id", "=", id).executeTakeFirst(),
      );
      if (Number(gone.numDeletedRows) === 0) fail("not-found", `there is no token ${id}`);
    },
    async ensureAdmin(path) {
      const kept = (await readTextIfAny(path))?.trim();
      if (kept !== undefined && (await tokens.authenticate(kept))?.role === "admin") return;
      const { token } = await tokens.createToken({ name: "admin", role: "admin", groups: [] });
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await chmod(dirname(path), 0o700);
      await writeFileAtomic(path, `${token}\n`, 0o600);
    },
  };
  return tokens;
}

function callerOf(row: TokenTable): Caller {
  const role = roleSchema.parse(row.role);
  return { name: row.name, role, groups: JSON.parse(row.groups) as string[] };
}

function viewOf(row: TokenTable): TokenView {
  return {
    id: row.id,
    ...callerOf(row),
    groups: JSON.parse(row.groups) as string[],
    createdAt: isoTime(Number(row.created_ms)),
    expiresAt: row.expires_ms === null ? null : isoTime(Number(row.expires_ms)),
  };
}

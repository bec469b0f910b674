/**
 * Answers kept for `Idempotency-Key`, in the store's table, for a day. What is kept is sealed by
 * the API; here are rows only.
 */
import type { AnswerStore } from "../api/idempotency.ts";
import type { Clock } from "../base/clock.ts";
import { limits } from "../base/limits.ts";
import type { Store } from "../store/store.ts";

export function openAnswerStore(store: Store, clock: Clock): AnswerStore {
  return {
    async find(key) {
      const row = await store.db
        .selectFrom("idempotency")
        .selectAll()
        .where("key", "=", key)
        .where("created_ms", ">", clock.wallMs() - limits.idempotencyKeepMs)
        .executeTakeFirst();
      return row && { bodyHash: row.body_hash, status: row.status, answer: row.answer };
    },
    async keep(key, { bodyHash, status, answer }) {
      const nowMs = clock.wallMs();
      await store.transaction(async (tx) => {
        await tx
          .deleteFrom("idempotency")
          .where((eb) =>
            eb.or([eb("created_ms", "<=", nowMs - limits.idempotencyKeepMs), eb("key", "=", key)]),
          )
          .execute();
        await tx
          .insertInto("idempotency")
          .values({ key, body_hash: bodyHash, status, answer, created_ms: nowMs })
          .execute();
      });
    },
  };
}

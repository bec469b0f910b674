/**
 * The durable form of TEs in te-host.db (H-1.5): life `testenv`, one row per number, kept for
 * ever for its epoch's sake (L2). No secret is in it: private keys lie in files of their own.
 */
import type { LifeKind, Store } from "../store/store.ts";
import { openTerms } from "./testenv-state.ts";
import type { Testenv } from "./testenv-state.ts";

/** a: kind, b: lease whose credentials may exist, n: epoch. */
export const testenvLife: LifeKind<Testenv> = {
  life: "testenv",
  columns: (te) => ({ a: te.kind, b: openTerms(te)?.lease ?? null, n: te.epoch }),
};

/** One step of a life; `before` is null for a TE that is new. */
export type TestenvStep = {
  readonly before: Testenv | null;
  readonly event: string;
  readonly after: Testenv;
};

export type TestenvRecords = {
  all(): Promise<Testenv[]>;
  /** All of them in one transaction, durable when it returns; else none is. */
  save(steps: readonly TestenvStep[]): Promise<void>;
};

export function testenvRecords(store: Store, wallMs: () => number): TestenvRecords {
  return {
    async all() {
      const rows = await store.rows(testenvLife, { limit: 1_000 });
      return rows.map((row) => row.body).sort((a, b) => a.number - b.number);
    },
    async save(steps) {
      await store.transaction(async (tx) => {
        for (const { before, event, after } of steps) {
          await store.append(tx, testenvLife, {
            id: String(after.number),
            from: before?.phase.state ?? null,
            event,
            to: after.phase.state,
            body: after,
            atMs: wallMs(),
          });
        }
      });
    },
  };
}

/**
 * A real store whose transactions fail where a test says: once, for a while, or until it is
 * healed. What the transaction did is rolled back by the engine itself, as a full disk or a lost
 * connection does; reads go on.
 */
import { RackyardError } from "../../src/base/errors.ts";
import type { Store } from "../../src/store/store.ts";

export type Failures = {
  /** The first transaction that fails, from 1, counted since the store was wrapped. */
  readonly at: number;
  /** How many fail in a row; default 1. `Infinity`: until `heal()`. */
  readonly times?: number;
  /** What is thrown; default `no-space`, as on a full disk. */
  readonly error?: Error;
  /** Default "commit": the work runs and is rolled back. "begin": it does not run at all. */
  readonly when?: "begin" | "commit";
};

export type FailingStore = Store & {
  /** Transactions begun so far, those that failed included. */
  readonly transactions: number;
  /** Transactions that were made to fail. */
  readonly failed: number;
  /** From here on none fails any more. */
  heal(): void;
  /** Fails anew, `at` counted from now on. */
  failAgain(failures: Failures): void;
};

/** With `at: Infinity` it only counts: how many transactions a story has. */
export function failing(store: Store, failures: Failures): FailingStore {
  let plan: Failures = failures;
  let begunBefore = 0;
  let begun = 0;
  let failed = 0;
  let healed = false;

  const isFailing = (number: number): boolean =>
    !healed && number >= plan.at && number < plan.at + (plan.times ?? 1);

  return {
    ...store,
    async transaction(work) {
      const number = ++begun - begunBefore;
      if (!isFailing(number)) return store.transaction(work);
      failed++;
      const error =
        plan.error ?? new RackyardError("no-space", `transaction ${number} was to fail`);
      if (plan.when === "begin") throw error;
      return store.transaction(async (tx) => {
        await work(tx);
        throw error;
      });
    },
    get transactions() {
      return begun;
    },
    get failed() {
      return failed;
    },
    heal() {
      healed = true;
    },
    failAgain(again) {
      plan = again;
      begunBefore = begun;
      healed = false;
    },
  };
}

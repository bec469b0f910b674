import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { failing } from "../../test/samples/failing-store.ts";
import { openSqliteStore } from "./store.ts";
import type { Store } from "./store.ts";

let directory: string;
let real: Store;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-failing-"));
  real = await openSqliteStore(join(directory, "test.db"));
});
afterEach(async () => {
  await real[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const set = (store: Store, name: string): Promise<void> =>
  store.transaction((tx) => store.setFact(tx, name, "there", 1));

test("L6 the n-th transaction fails as often as asked, is rolled back, and the next one works", async () => {
  const store = failing(real, { at: 2, times: 2 });
  await set(store, "one");
  await expect(set(store, "two")).rejects.toMatchObject({ code: "no-space" });
  await expect(set(store, "three")).rejects.toMatchObject({ code: "no-space" });
  await set(store, "four");
  const there = await Promise.all(["one", "two", "three", "four"].map((name) => store.fact(name)));
  expect(there).toEqual(["there", undefined, undefined, "there"]);
  expect([store.transactions, store.failed]).toEqual([4, 2]);
});

test("L6 a store that is away until it is healed fails with the given error, and may fail again", async () => {
  const store = failing(real, { at: 1, times: Infinity, error: new Error("away"), when: "begin" });
  let ran = false;
  const work = (): Promise<void> => {
    ran = true;
    return Promise.resolve();
  };
  for (let n = 0; n < 3; n++) await expect(store.transaction(work)).rejects.toThrow("away");
  expect(ran).toBe(false);
  store.heal();
  await set(store, "after");
  store.failAgain({ at: 2 });
  await set(store, "fine");
  await expect(set(store, "not")).rejects.toMatchObject({ code: "no-space" });
  expect(await store.fact("not")).toBeUndefined();
});

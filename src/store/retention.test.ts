import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { failing } from "../../test/samples/failing-store.ts";
import { limits } from "../base/limits.ts";
import { forgetAnswers, forgetLives, forgetReports, forgetSteps } from "./retention.ts";
import { openSqliteStore } from "./store.ts";
import type { LifeKind, Store } from "./store.ts";

type Body = { frozen: string[]; step: number };
const builds: LifeKind<Body> = { life: "build", columns: ({ step }) => ({ n: step }) };
const others: LifeKind<object> = { life: "other", columns: () => ({}) };

let directory: string;
let store: Store;
const { signal } = new AbortController();
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-retention-"));
  store = await openSqliteStore(join(directory, "test.db"));
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const frozen = (n: number): string[] =>
  Array.from({ length: 60 }, (_one, b) => `branch-${b} of ${n} `.padEnd(60, "x"));

/** Five steps; two builds of an item share what is frozen. */
async function build(n: number, atMs: number, to = "reported"): Promise<void> {
  for (let step = 0; step < 5; step++) {
    const body = { frozen: frozen(Math.floor(n / 2)), step };
    const state = step === 4 ? to : "running";
    const made = { id: `b${n}`, from: null, event: `s${step}`, to: state, body, atMs: atMs + step };
    await store.transaction((tx) => store.append(tx, builds, made));
  }
}

/** So many that what came before is no longer kept for those who follow. */
async function fillBacklog(): Promise<void> {
  await store.transaction(async (tx) => {
    for (let n = 0; n < limits.eventBacklog; n++) {
      const step = { id: `o${n}`, from: null, event: "e", to: "there", body: {}, atMs: 9_000 };
      await store.append(tx, others, step);
    }
  });
}

const contents = (): Promise<{ digest: string; refs: number }[]> =>
  store.db.selectFrom("content").select(["digest", "refs"]).execute();

test("lease.md §7 old steps go, the first and the last stay, and rows can still be rebuilt", async () => {
  for (let n = 0; n < 60; n++) await build(n, n < 50 ? 100 : 5_000);
  await fillBacklog();
  const before = await store.rows(builds, { limit: 100 });
  const swept = await forgetSteps(store, 1_000, signal);
  expect(swept.removed).toBe(50 * 3);
  expect(swept.freedBytes).toBeGreaterThan(50 * 3 * 50);
  const events = await store.events({ life: "build", id: "b7", limit: 10 });
  expect(events.map((event) => event.event)).toEqual(["s0", "s4"]);
  expect(await store.events({ life: "build", id: "b55", limit: 10 })).toHaveLength(5);
  await store.rebuild(builds);
  expect(await store.rows(builds, { limit: 100 })).toEqual(before);
  expect(await forgetSteps(store, 1_000, signal)).toEqual({ removed: 0, freedBytes: 0 });
}, 60_000);

test("surface.md §5 the newest 10,000 events stay, however old they are", async () => {
  await build(1, 100);
  expect(await forgetSteps(store, 1_000, signal)).toEqual({ removed: 0, freedBytes: 0 });
});

test("lives that are over go whole, with what they alone had frozen; others keep theirs", async () => {
  for (let n = 0; n < 60; n++) await build(n, n < 41 ? 100 : 5_000);
  await build(70, 100, "running");
  const swept = await forgetLives(store, "build", ["reported"], 1_000, signal);
  expect(swept.removed).toBe(41);
  expect(await store.rows(builds, { limit: 100 })).toHaveLength(20);
  // Build 41 shares its frozen state with build 40, which has gone.
  expect((await store.row(builds, "b41"))!.body.frozen).toEqual(frozen(20));
  expect((await store.row(builds, "b70"))!.body.frozen).toEqual(frozen(35));
  await forgetLives(store, "build", ["reported", "running"], 10_000, signal);
  expect(await contents()).toEqual([]);
  expect(await store.newestSeq("build")).toBe(0);
});

test("L6 a sweep that fails on its way goes on where it stood, and counts nothing twice", async () => {
  for (let n = 0; n < 60; n++) await build(n, 100);
  const broken = failing(store, { at: 2 });
  const first = forgetLives(broken, "build", ["reported"], 1_000, signal);
  await expect(first).rejects.toMatchObject({ code: "no-space" });
  expect((await forgetLives(broken, "build", ["reported"], 1_000, signal)).removed).toBe(35);
  expect(await contents()).toEqual([]);
});

test("reports that are delivered and answers that are old go; what is still to be done stays", async () => {
  await store.transaction(async (tx) => {
    for (let n = 0; n < 250; n++) {
      const done_ms = n < 240 ? n : null;
      const report = { key: `k${n}`, body: "{}", created_ms: 1, attempts: 0, next_try_ms: 1 };
      await tx
        .insertInto("outbox")
        .values({ ...report, done_ms })
        .execute();
      const answer = { key: `a${n}`, body_hash: "h", status: 201, answer: "x", created_ms: n };
      await tx.insertInto("idempotency").values(answer).execute();
    }
  });
  expect((await forgetReports(store, 230, signal)).removed).toBe(230);
  expect((await forgetAnswers(store, 199, signal)).removed).toBe(200);
  const left = await store.db.selectFrom("outbox").select("key").execute();
  expect(left).toHaveLength(20);
});

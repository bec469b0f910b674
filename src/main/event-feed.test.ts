import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ApiEvent } from "../api/views.ts";
import { limits } from "../base/limits.ts";
import { openSqliteStore } from "../store/store.ts";
import type { LifeKind, Store } from "../store/store.ts";
import { openEventFeed } from "./event-feed.ts";

let directory: string;
let store: Store;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-feed-"));
  store = await openSqliteStore(join(directory, "test.db"));
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const nowMs = 1_000;

const builds: LifeKind<object> = { life: "build", columns: () => ({}) };

async function append(to: Store, id: string, body: object): Promise<void> {
  await to.transaction((tx) =>
    to.append(tx, builds, { id, from: null, event: "created", to: "waiting", body, atMs: nowMs }),
  );
}

test("surface.md §5 events: from a point on, as they become durable, with facts to find them by", async () => {
  const feed = await openEventFeed(store);
  const facts = {
    job: { name: "deploy" },
    changes: [{ change: 4, patchset: 2 }],
    pipeline: "check",
  };
  await append(feed.store, "b1", { facts, secret: "no" });
  const stop = new AbortController();
  const events = feed.watch(["build"], 0, stop.signal)[Symbol.asyncIterator]();
  const first = await events.next();
  expect(first.value).toMatchObject({
    topic: "build",
    subject: "b1",
    event: "created",
    body: { change: 4, patchset: 2, pipeline: "check", to: "waiting" },
  });
  expect(JSON.stringify(first.value)).not.toContain("secret");
  const next = events.next();
  await append(feed.store, "b2", {});
  expect((await next).value).toMatchObject({ subject: "b2" });
  const last = events.next();
  stop.abort();
  expect((await last).done).toBe(true);
});

test("surface.md §5 an id that is no longer kept, or not yet, begins with resync", async () => {
  const feed = await openEventFeed(store);
  await append(feed.store, "b1", {});
  const stop = new AbortController();
  const events = feed.watch([], 99, stop.signal)[Symbol.asyncIterator]();
  expect((await events.next()).value).toEqual({ resync: true, id: 1 });
  stop.abort();
});

const nodes: LifeKind<object> = { life: "node", columns: () => ({}) };

/** The same store, with its looks into the events counted. */
function counted(): { store: Store; looks: () => number } {
  let looks = 0;
  return {
    looks: () => looks,
    store: {
      ...store,
      events(query) {
        looks++;
        return store.events(query);
      },
    },
  };
}

test("surface.md §5 500 streams cost the store one look an event, and wake only for their topic", async () => {
  const { store: inner, looks } = counted();
  const feed = await openEventFeed(inner);
  const stop = new AbortController();
  const got: ApiEvent[][] = [];
  const streams = Array.from({ length: 500 }, async (_one, n) => {
    const own: ApiEvent[] = (got[n] = []);
    const topic = n % 2 === 0 ? "build" : "host";
    for await (const event of feed.watch([topic], 0, stop.signal)) {
      if (!("resync" in event)) own.push(event);
    }
  });
  await append(feed.store, "first", {});
  await expect.poll(() => got.filter((own) => own.length === 1).length).toBe(250);
  const before = looks();
  for (let n = 1; n < 20; n++) await append(feed.store, `b${n}`, {});
  await expect.poll(() => got.filter((own) => own.length === 20).length).toBe(250);
  expect(looks() - before).toBeLessThanOrEqual(40);
  expect(got[0]!.map((event) => event.subject)).toEqual(got[498]!.map((event) => event.subject));
  expect(got[1]).toEqual([]);
  stop.abort();
  await Promise.all(streams);
});

test("surface.md §5 whoever was away reads on where it was, also beyond what is kept in memory", async () => {
  const feed = await openEventFeed(store);
  const stop = new AbortController();
  const idle = feed.watch(["build"], 0, stop.signal)[Symbol.asyncIterator]();
  const first = idle.next();
  const many = 2 * limits.eventsShared + 700;
  await feed.store.transaction(async (tx) => {
    for (let n = 0; n < many; n++) {
      const kind = n % 10 === 0 ? builds : nodes;
      const step = { id: `x${n}`, from: null, event: "made", to: "there", body: {}, atMs: nowMs };
      await feed.store.append(tx, kind, step);
    }
  });
  const seen: string[] = [];
  seen.push(((await first).value as ApiEvent).subject);
  while (seen.length < many / 10) seen.push(((await idle.next()).value as ApiEvent).subject);
  expect(seen).toEqual(Array.from({ length: many / 10 }, (_one, n) => `x${n * 10}`));
  await append(feed.store, "last", {});
  expect((await idle.next()).value).toMatchObject({ subject: "last" });
  const again = feed.watch(["build"], 4_000, stop.signal)[Symbol.asyncIterator]();
  expect((await again.next()).value).toMatchObject({ id: 4_001, subject: "x4000" });
  stop.abort();
});

// kill -9 of the server at every single commit of a whole lease: the real store,
// sessions, API and holder go on with the next server, the lease is had and given back, nothing
// is lost or doubled, and the rack comes back with proof (L6, must-hold 6).
import { afterEach, expect, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import { openHolder } from "../../src/lease/holder/holder.ts";
import type { Store } from "../../src/store/store.ts";
import { makeLeaseDirectory, openLeaseServer } from "./lease-world.ts";
import { openScriptedHost } from "./scripted-host.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (let close = closers.pop(); close; close = closers.pop()) await close();
});

const soon = { timeoutMs: 40_000, everyMs: 10 };
type Where = "before" | "after";

/** A store whose process dies at its nth commit: the call never comes back. */
function dyingStore(nth: number, where: Where, onDeath: () => void) {
  let commits = 0;
  let armed = true;
  const wrap = (store: Store): Store => ({
    ...store,
    transaction(work) {
      commits++;
      if (!armed || commits < nth) return store.transaction(work);
      const dead = new Promise<never>(() => undefined);
      if (commits > nth) return dead;
      if (where === "before") {
        onDeath();
        return dead;
      }
      return store.transaction(work).then(() => {
        onDeath();
        return dead;
      });
    },
  });
  /** All has been lived through: what comes now is the test's own end. */
  const disarm = (): void => {
    armed = false;
  };
  return { wrap, disarm };
}

/** One lease from asking to proof, with the server dying once; false: it came to no nth commit. */
async function liveThrough(nth: number, where: Where): Promise<boolean> {
  const directory = await makeLeaseDirectory();
  closers.push(() => directory[Symbol.asyncDispose]());
  const died = Promise.withResolvers<void>();
  let dead = false;
  const onDeath = (): void => {
    dead = true;
    died.resolve();
  };
  const deadly = dyingStore(nth, where, onDeath);
  const first = await openLeaseServer(directory.path, {}, deadly.wrap);
  let server = first;
  const restarted = died.promise.then(async () => {
    await first.die();
    server = await openLeaseServer(directory.path);
  });
  const host = openScriptedHost({ url: first.hostUrl });
  closers.push(async () => {
    await host.die();
    await server.close();
  });
  host.start();
  const ready = async (): Promise<boolean> => {
    const [te] = await server.broker.fleet.testenvs();
    const [there] = await server.broker.fleet.hosts();
    return te?.state === "ready" && there?.state === "connected";
  };
  await until(ready, { ...soon, what: "the rack" });
  const holder = openHolder({ url: `unix:${first.socketPath}` });
  const signal = AbortSignal.timeout(60_000);
  const held = await holder.acquire({ durationSeconds: 60, holder: { name: "me" } }, { signal });
  expect(host.racks[0]).toMatchObject({ state: "leased", lease: held.id });
  expect(held.data["ssh-key"]).toContain(`epoch ${held.epoch}`);
  expect(held.lost.aborted).toBe(false);
  const over = await held.release();
  await until(ready, { ...soon, what: "the rack's return" });
  if (dead) await restarted;
  else deadly.disarm();
  await until(ready, { ...soon, what: "the rack's return" });
  expect(over?.id ?? held.id).toBe(held.id);
  expect(await server.broker.leases.get(held.id)).toMatchObject({ state: "ended" });
  expect(await server.broker.leases.certificate(held.id)).toMatchObject({ lease: held.id });
  const { items } = await server.broker.leases.list({ limit: 100 });
  expect(items.filter(({ state }) => state !== "ended")).toEqual([]);
  const epochs = items.flatMap(({ testenvs }) => testenvs.map(({ epoch }) => epoch));
  expect(new Set(epochs).size, "L2 no epoch twice").toBe(epochs.length);
  return dead;
}

// By turns before and after it: the random histories of the ledger do both for each.
test("L6 the server dies at every commit of a lease, one after another", async () => {
  let nth = 1;
  for (; await liveThrough(nth, nth % 2 === 1 ? "before" : "after"); nth++) {
    for (let close = closers.pop(); close; close = closers.pop()) await close();
  }
  expect(nth).toBeGreaterThan(8);
}, 300_000);

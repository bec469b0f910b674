/** The loop over a clock of its own: when it looks, and what a store that fails makes of it. */
import { beforeEach, expect, test } from "vitest";
import { handClock } from "../../../test/samples/clock.ts";
import type { HandClock } from "../../../test/samples/clock.ts";
import { samplePolicy, sampleRequest } from "../../../test/samples/leases.ts";
import { sampleFacts, sampleReport } from "../../../test/samples/hosts.ts";
import { limits } from "../../base/limits.ts";
import { silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { openTroubles } from "../../base/troubles.ts";
import type { LeaseRequest } from "../../model/lease.ts";
import type { Store } from "../../store/store.ts";
import type { CheckedReport, LedgerEvent } from "../ledger/ledger-event.ts";

import { emptyLedger } from "../ledger/restoring.ts";
import { openLoop, steadyTime } from "./loop.ts";
import type { Loop } from "./loop.ts";

const policy = samplePolicy({ maxDurationMs: 3_600_000 });

/** A store that keeps nothing, counts its transactions, and may be away. */
function openCounting() {
  const seen = { transactions: 0, away: false };
  const store = {
    transaction: async () => {
      seen.transactions++;
      await Promise.resolve();
      if (seen.away) throw new Error("disk full");
    },
    row: async () => undefined,
  } as unknown as Store;
  return { seen, store };
}

let clock: HandClock;
let counting: ReturnType<typeof openCounting>;
let troubles: ReturnType<typeof openTroubles>;
let loop: Loop;
let ticks: number;

beforeEach(() => {
  clock = handClock();
  counting = openCounting();
  troubles = openTroubles({ log: silentLog, wallMs: () => clock.wallMs() });
  ticks = 0;
  loop = openLoop({
    store: counting.store,
    clock,
    random: systemRandom,
    log: silentLog,
    nowMs: steadyTime(clock),
    ledger: emptyLedger(policy),
    troubles,
    act: () => void ticks++,
  });
});

const request = (more: Partial<LeaseRequest> = {}): LeaseRequest =>
  sampleRequest({ machines: { count: 2 }, ...more });

async function post(event: LedgerEvent): Promise<void> {
  const posted = loop.post(event);
  posted.catch(() => undefined);
  await clock.advance(0);
  return posted;
}

const ask = (id: string, more: Partial<LeaseRequest> = {}): Promise<void> =>
  post({
    kind: "ask",
    id,
    request: request(more),
    caller: "c",
    group: "g",
    tenant: "t",
    paired: false,
  });

const report: CheckedReport = {
  report: sampleReport({ state: "provisioning" }),
  proof: { kind: "bad", why: "none yet" },
};

async function connect(): Promise<void> {
  const facts = sampleFacts();
  await post({ kind: "hello", facts, reports: [report], processes: [] });
  await post({ kind: "host-open", hostId: facts.hostId });
}

test("an idle ledger sets no timer", async () => {
  await clock.advance(60_000);
  expect(ticks).toBe(0);
  expect(clock.waiting).toBe(0);
});

test("L11 L14 a waiter that avoids its TE and goes silent is noticed, and the loop hardly looks", async () => {
  await connect();
  await ask("retried", { avoid: { hosts: ["here"], testenvs: [] } });
  // Somebody looks for it for two minutes; the host gives signs of life all the time.
  const { hostId } = sampleFacts();
  for (let beat = 0; beat < 24; beat++) {
    await clock.advance(limits.heartbeatMs);
    await post({ kind: "heard", hostId, vitals: null });
    await post({ kind: "look", id: "retried" });
  }
  expect(loop.ledger.leases.has("retried")).toBe(true);
  const before = ticks;
  for (let beat = 0; beat < 8; beat++) {
    await clock.advance(limits.heartbeatMs);
    await post({ kind: "heard", hostId, vitals: null });
  }
  expect(loop.ledger.leases.has("retried"), "its silence is noticed").toBe(false);
  expect(ticks - before, "looks of the loop, the 8 heartbeats among them").toBeLessThan(14);
});

test("a dead host is noticed while a waiter's avoidance is long over", async () => {
  await connect();
  await ask("retried", { avoid: { hosts: ["here"], testenvs: [] } });
  for (let beat = 0; beat < 24; beat++) {
    await clock.advance(limits.heartbeatMs);
    await post({ kind: "look", id: "retried" });
  }
  expect([...loop.ledger.hosts.values()].map(({ state }) => state)).toEqual(["lost"]);
});

test("a store that is away is asked ever more rarely, alarmed once, and work goes on by itself", async () => {
  await connect();
  await ask("waits", { waitSeconds: 20 });
  counting.seen.away = true;
  await expect(ask("refused")).rejects.toMatchObject({ code: "unavailable" });
  expect(troubles.list()).toMatchObject([{ what: "recording leases", why: "disk full" }]);
  const before = counting.seen.transactions;
  await clock.advance(300_000);
  expect(counting.seen.transactions - before, "tries within five minutes").toBeLessThan(25);
  expect(counting.seen.transactions - before).toBeGreaterThan(4);
  expect(loop.ledger.leases.has("waits"), "what was not recorded did not happen").toBe(true);
  counting.seen.away = false;
  await clock.advance(120_000);
  expect(loop.ledger.leases.has("waits"), "the wait was over long ago").toBe(false);
  expect(troubles.list()).toEqual([]);
});

test("what comes at once shares a transaction; a full mailbox rejects, and never throws", async () => {
  await connect();
  const before = counting.seen.transactions;
  const asked = Array.from({ length: 50 }, (_, n) =>
    loop.post({
      kind: "ask",
      id: `l${n}`,
      request: request(),
      caller: "c",
      group: "g",
      tenant: "t",
      paired: false,
    }),
  );
  await clock.advance(0);
  await Promise.all(asked);
  expect(counting.seen.transactions - before).toBe(1);
  const many = Array.from({ length: limits.leaseMailbox + 1 }, () => loop.post({ kind: "tick" }));
  await expect(many.at(-1)).rejects.toMatchObject({ code: "too-many" });
  await clock.advance(0);
  await expect(many[0]).resolves.toBe(undefined);
});

test("a host whose coming could not be recorded is there as soon as the store is well", async () => {
  const { hostId } = sampleFacts();
  await connect();
  loop.insist("presence", { kind: "host-closed", hostId });
  await clock.advance(0);
  counting.seen.away = true;
  loop.insist("presence", { kind: "host-closed", hostId });
  loop.insist("presence", { kind: "host-open", hostId });
  await clock.advance(10_000);
  expect(loop.ledger.hosts.get(hostId)).toMatchObject({ open: false });
  counting.seen.away = false;
  await clock.advance(20_000);
  expect(loop.ledger.hosts.get(hostId)).toMatchObject({ open: true, state: "connected" });
});

test("L14 signs of life count also while the store is away: who was there keeps place and host", async () => {
  await connect();
  await ask("waits");
  await ask("due", { waitSeconds: 20 });
  const { hostId } = sampleFacts();
  await clock.advance(15_000);
  counting.seen.away = true;
  for (let beat = 0; beat < 24; beat++) {
    await clock.advance(limits.heartbeatMs);
    await post({ kind: "heard", hostId, vitals: null }).catch(() => undefined);
    await post({ kind: "look", id: "waits" }).catch(() => undefined);
  }
  counting.seen.away = false;
  await post({ kind: "tick" });
  expect([...loop.ledger.leases.keys()]).toEqual(["waits"]);
  expect(loop.ledger.hosts.get(hostId)).toMatchObject({ state: "connected", open: true });
});

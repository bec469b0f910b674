import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { openTroubles } from "../../base/troubles.ts";
import type { Troubles } from "../../base/troubles.ts";
import { hostStartedAnew } from "../../model/node.ts";
import { failing } from "../../../test/samples/failing-store.ts";
import { openScope } from "../../base/scope.ts";
import type { Scope } from "../../base/scope.ts";
import { until } from "../../base/wait.ts";
import { configSchema } from "../../model/config.ts";
import { sampleHello } from "../../../test/samples/hosts.ts";
import type { Hello, ToHost } from "../../model/session.ts";
import { openSqliteStore } from "../../store/store.ts";
import type { Store } from "../../store/store.ts";
import { openNodePool } from "./pool.ts";
import type { NodePoolEdge } from "./pool.ts";

const HOST = "11111111-1111-4111-8111-111111111111";
let directory: string;
let store: Store;
let scope: Scope;
let sent: ToHost[];
/** The host's session is not open: what is said does not reach it. */
let away: boolean;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-pool-"));
  await writeFile(join(directory, "build"), "#!/bin/sh\n");
  await chmod(join(directory, "build"), 0o755);
  store = await openSqliteStore(join(directory, "server.db"));
  sent = [];
  away = false;
});
afterEach(async () => {
  await scope.close();
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

async function openPool(
  kept: Store = store,
  troubles: Pick<Troubles, "begin" | "end"> = { begin: () => undefined, end: () => undefined },
): Promise<NodePoolEdge> {
  scope = openScope((name, error) => {
    throw new Error(name, { cause: error });
  });
  return openNodePool({
    store: kept,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    scope,
    troubles,
    config: configSchema.parse({}).nodes,
    recipeDirectory: () => directory,
    authorizedKey: "ssh-ed25519 AAAA test",
    send: (_host, message) => !away && sent.push(message) > 0,
    onEvent: () => undefined,
  });
}

const hello = (changes: Partial<Hello> = {}): Hello => sampleHello({ hostId: HOST, ...changes });

const builtImage = { name: "debian-12", recipe: "", digest: "d1", sizeBytes: 1, builtAt: "" };
const sentOf = <K extends ToHost["kind"]>(kind: K) =>
  sent.filter((message): message is Extract<ToHost, { kind: K }> => message.kind === kind);
const soon = (what: string, condition: () => unknown) =>
  until(condition, { timeoutMs: 5_000, everyMs: 5, what });

/** A pool whose host is connected, has built the image and made one node ready. */
async function poolWithNode(): Promise<{ pool: NodePoolEdge; node: string }> {
  const pool = await openPool();
  await pool.onHello(hello());
  pool.onConnected(HOST);
  await soon("the image's build", () => sentOf("image-build").length === 1);
  const asked = sentOf("image-build")[0]!;
  const report = { name: asked.name, recipe: asked.recipe, digest: "d1", sizeBytes: 1 };
  await pool.onMessage(HOST, {
    kind: "image-ready",
    report: { ...report, builtAt: "2026-01-01T00:00:00Z" },
  });
  await soon("a node's launch", () => sentOf("node-create").length === 1);
  const node = sentOf("node-create")[0]!.id;
  await pool.onMessage(HOST, {
    kind: "node-ready",
    id: node,
    address: "10.99.0.180",
    hostKey: "ssh-ed25519 BBBB",
  });
  return { pool, node };
}

test("N-4, N-8 image first, then a node; ready with its host key known", async () => {
  const { pool, node } = await poolWithNode();
  expect(pool.ready("worker")).toMatchObject([
    { id: node, address: "10.99.0.180", hostKey: "ssh-ed25519 BBBB", image: "d1" },
  ]);
  expect(sentOf("node-create")[0]).toMatchObject({ image: "d1", memoryMiB: 512 });
});

test("I2, N-5 a node is given once, and after its use deleted", async () => {
  const { pool, node } = await poolWithNode();
  const both = await Promise.allSettled([pool.assign(node, "b1"), pool.assign(node, "b2")]);
  expect(both.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(pool.ready("worker")).toEqual([]);
  await pool.release(node);
  await soon("its deletion", () => sentOf("node-delete").some((m) => m.id === node));
  await pool.onMessage(HOST, { kind: "node-gone", id: node });
  expect(pool.nodes().some((view) => view.id === node)).toBe(false);
  await expect(pool.assign(node, "b3")).rejects.toMatchObject({ code: "conflict" });
});

test("X-4 after kill -9 the pool knows its nodes; one whose build is over is given back", async () => {
  const { pool, node } = await poolWithNode();
  await pool.assign(node, "b1");
  await scope.close();
  sent = [];
  const again = await openPool();
  expect(again.nodes()).toMatchObject([{ id: node, state: "in-use", build: "b1" }]);
  await again.reconcile(new Set());
  await again.onHello(
    hello({
      nodes: [{ id: node, label: "worker", state: "ready", address: "a", hostKey: "h" }],
    }),
  );
  again.onConnected(HOST);
  await soon("its deletion", () => sentOf("node-delete").some((m) => m.id === node));
});

test("N-6 a node that its host does not have any more is gone", async () => {
  const { pool, node } = await poolWithNode();
  await pool.onHello(hello({ sessionNumber: 2 }));
  expect(pool.nodes().some((view) => view.id === node)).toBe(false);
});

test("N-4 three failed launches are the label's failure, with the host's reason", async () => {
  const { pool } = await poolWithNode();
  expect(pool.failure("worker")).toBeUndefined();
  await pool.assign(pool.ready("worker")[0]!.id, "b1");
  for (let n = 0; n < 3; n++) {
    await soon("a launch", () => sentOf("node-create").length === n + 2);
    const id = sentOf("node-create").at(-1)!.id;
    await pool.onMessage(HOST, { kind: "node-failed", id, reason: `boot ${n}` });
    await pool.onMessage(HOST, { kind: "node-gone", id });
  }
  expect(pool.failure("worker")).toBe("boot 2");
}, 20_000);

test("why no node is there is told in words", async () => {
  const pool = await openPool();
  expect(pool.why("worker")).toContain("no host that serves label worker is connected");
  expect(pool.why("other")).toBe("no label other is configured");
  await pool.onHello(hello());
  pool.onConnected(HOST);
  await soon("the image's build", () => sentOf("image-build").length === 1);
  await pool.onMessage(HOST, { kind: "image-progress", name: "debian-12", step: "mmdebstrap" });
  expect(pool.why("worker")).toBe("image debian-12 is being built (mmdebstrap)");
  const detail = "mmdebstrap: exit 25\nE: no mirror";
  const recipe = sentOf("image-build")[0]!.recipe;
  await pool.onMessage(HOST, { kind: "image-failed", name: "debian-12", recipe, detail });
  expect(pool.why("worker")).toBe(
    "image debian-12 could not be built and is tried again: E: no mirror",
  );
});

test("why none is free where all are in use or boot", async () => {
  const { pool, node } = await poolWithNode();
  await pool.assign(node, "b1");
  expect(pool.why("worker")).toMatch(/^no node of label worker is free: 1 in use, \d+ at most$/);
});

test("N-8 a mended recipe is built at once, and the old one's failures are forgotten", async () => {
  const pool = await openPool();
  await pool.onHello(hello());
  pool.onConnected(HOST);
  await soon("the image's build", () => sentOf("image-build").length === 1);
  const { name, recipe } = sentOf("image-build")[0]!;
  for (let n = 0; n < 3; n++) {
    await pool.onMessage(HOST, { kind: "image-failed", name, recipe, detail: "no such package" });
  }
  expect(pool.failure("worker")).toBe("image debian-12: no such package");
  await writeFile(join(directory, "build"), "#!/bin/sh\n# mended\n");
  await pool.reconfigure(configSchema.parse({}).nodes);
  expect(pool.failure("worker")).toBeUndefined();
  await soon("its build", () => sentOf("image-build").at(-1)!.recipe !== recipe);
});

test("surface.md §2 a recipe that is not there is refused, and the old configuration stays", async () => {
  const pool = await openPool();
  await pool.onHello(hello());
  const before = pool.images();
  expect(before).toMatchObject([{ name: "debian-12" }]);
  await rm(join(directory, "build"));
  const { nodes } = configSchema.parse({ nodes: { labels: {} } });
  await expect(pool.reconfigure(nodes)).rejects.toMatchObject({ code: "bad-config" });
  expect(pool.images()).toEqual(before);
  expect(pool.why("worker")).not.toContain("no label");
});

test("N-4 a host that begins anew under launches is no failed launch, however often", async () => {
  const pool = await openPool();
  await pool.onHello(hello({ images: [builtImage] }));
  for (let n = 1; n < 7; n++) {
    await soon("a launch", () => sentOf("node-create").length >= n);
    const { id } = sentOf("node-create").at(-1)!;
    // As one that was restarted with its machine says it: the node is there, failed.
    if (n % 2) await pool.onMessage(HOST, { kind: "node-failed", id, reason: hostStartedAnew });
    await pool.onHello(hello({ sessionNumber: n + 1, images: [builtImage] }));
    pool.onConnected(HOST);
    expect(pool.failure("worker")).toBeUndefined();
  }
}, 20_000);

test("N-4 a host that begins anew under every launch is told after so many", async () => {
  const pool = await openPool();
  await pool.onHello(hello({ images: [builtImage] }));
  for (let n = 1; n < 30 && pool.failure("worker") === undefined; n++) {
    await soon("a launch", () => sentOf("node-create").length >= n);
    await pool.onHello(hello({ sessionNumber: n + 1, images: [builtImage] }));
  }
  expect(pool.failure("worker")).toMatch(/^its host was started anew \d+ times$/);
}, 20_000);

test("a node in use that its host's new beginning took is lost; one that broke is not", async () => {
  const { pool, node } = await poolWithNode();
  await pool.assign(node, "b1");
  expect(await pool.lost(node)).toBeUndefined();
  pool.onDisconnected(HOST);
  expect(await pool.lost(node)).toBe("its host here does not answer");
  await pool.onHello(hello({ sessionNumber: 2, images: [builtImage] }));
  expect(await pool.lost(node)).toBe("the host does not have it any more");
  expect(await pool.ends(node)).toMatchObject([{ step: "node-deleted", detail: "worker" }]);
  await soon("another launch", () => sentOf("node-create").length === 2);
  const second = sentOf("node-create")[1]!.id;
  await pool.onMessage(HOST, { kind: "node-failed", id: second, reason: "QEMU crashed" });
  expect(await pool.lost(second)).toBeUndefined();
});

test("P1 a write that fails: what the host said is recorded by the next pass", async () => {
  const broken = failing(store, { at: Infinity });
  const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });
  const pool = await openPool(broken, troubles);
  await pool.onHello(hello({ images: [builtImage] }));
  await soon("a launch", () => sentOf("node-create").length === 1);
  const { id } = sentOf("node-create")[0]!;
  broken.failAgain({ at: 1, times: 3 });
  await pool.onMessage(HOST, { kind: "node-ready", id, address: "a", hostKey: "h" });
  expect(troubles.list()).toMatchObject([{ what: "the record of nodes" }]);
  await soon("it is ready", () => pool.ready("worker").length === 1);
  expect(troubles.list()).toEqual([]);
  await pool.assign(id, "b1");
  broken.failAgain({ at: 1, times: 1 });
  await expect(pool.release(id)).rejects.toMatchObject({ code: "no-space" });
  expect(sentOf("node-delete")).toEqual([]);
  await pool.release(id);
  await soon("its deletion", () => sentOf("node-delete").some((m) => m.id === id));
});

test("N-6 a node that nobody here ordered is deleted", async () => {
  const pool = await openPool();
  const leak = "99999999-9999-4999-8999-999999999999";
  const report = { id: leak, label: "worker", state: "ready", address: "a", hostKey: "h" } as const;
  await pool.onHello(hello({ nodes: [report] }));
  await soon("its deletion", () => sentOf("node-delete").length > 0);
  expect(sentOf("node-delete")[0]).toMatchObject({ id: leak });
});

test("X-4 a deletion that an earlier life recorded is asked again, whatever the host heard of it", async () => {
  const { pool, node } = await poolWithNode();
  await pool.assign(node, "b1");
  await pool.release(node);
  await scope.close();
  sent = [];
  const again = await openPool();
  const report = { id: node, label: "worker", state: "ready", address: "a", hostKey: "h" } as const;
  await again.onHello(hello({ nodes: [report] }));
  await soon("its deletion", () => sentOf("node-delete").length > 0);
  expect(sentOf("node-delete")).toMatchObject([{ id: node }]);
});

test("N-1 an image's build that did not reach the host is asked when it is connected", async () => {
  const pool = await openPool();
  away = true;
  await pool.onHello(hello());
  expect(sentOf("image-build")).toEqual([]);
  away = false;
  pool.onConnected(HOST);
  await soon("the image's build", () => sentOf("image-build").length === 1);
});

test("N-1 a node's order that did not reach the host is said when it is connected", async () => {
  const pool = await openPool();
  await pool.onHello(hello());
  pool.onConnected(HOST);
  await soon("the image's build", () => sentOf("image-build").length === 1);
  const asked = sentOf("image-build")[0]!;
  away = true;
  const report = { ...builtImage, recipe: asked.recipe };
  await pool.onMessage(HOST, { kind: "image-ready", report });
  await soon("a node is wanted", () => pool.nodes().length > 0);
  expect(sentOf("node-create")).toEqual([]);
  away = false;
  await pool.onHello(hello({ images: [report], sessionNumber: 2 }));
  pool.onConnected(HOST);
  await soon("the node's order", () => sentOf("node-create").length > 0);
  expect(new Set(sentOf("node-create").map(({ id }) => id)).size).toBe(
    sentOf("node-create").length,
  );
});

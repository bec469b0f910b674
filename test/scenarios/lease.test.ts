// Racks are asked for, granted, taken, given back: real store, broker, sessions and HTTP API,
// the real holder; only the hypervisor's machines are missing.
import { request as httpRequest } from "node:http";
import { readFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { call } from "../../src/base/http-client.ts";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { openHolder } from "../../src/lease/holder/holder.ts";
import { openLeaseCalls } from "../../src/lease/holder/lease-calls.ts";
import { openBuildLeases } from "../../src/main/build-leases.ts";
import type { LeaseRequestInput, LeaseView } from "../../src/model/lease.ts";
import { makeLeaseDirectory, openLeaseServer } from "./lease-world.ts";
import type { LeaseServer } from "./lease-world.ts";
import { openScriptedHost } from "./scripted-host.ts";
import type { ScriptedHost } from "./scripted-host.ts";

let directory: Awaited<ReturnType<typeof makeLeaseDirectory>>;
let server: LeaseServer;
const hosts: ScriptedHost[] = [];
const soon = { timeoutMs: 15_000, everyMs: 10 };
const never = new AbortController().signal;

beforeEach(async () => {
  directory = await makeLeaseDirectory();
  server = await openLeaseServer(directory.path);
});
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.die();
  await server.close();
  await directory[Symbol.asyncDispose]();
});

async function host(more: Partial<Parameters<typeof openScriptedHost>[0]> = {}) {
  const made = openScriptedHost({ url: server.hostUrl, ...more });
  hosts.push(made);
  made.start();
  await allReady();
  return made;
}

const te = async (id: string) => server.broker.fleet.testenv(id);
const allReady = () =>
  until(
    async () => {
      const all = await server.broker.fleet.testenvs();
      const connected = (await server.broker.fleet.hosts()).every(
        (one) => one.state === "connected",
      );
      return all.length > 0 && connected && all.every(({ state }) => state === "ready");
    },
    { ...soon, what: "all TEs to be ready" },
  );
const asking = (more: Partial<LeaseRequestInput> = {}): LeaseRequestInput => ({
  durationSeconds: 600,
  holder: { name: "me" },
  ...more,
});
const calls = () => openLeaseCalls(server.endpoint);
const stateOf = async (id: string): Promise<LeaseView> => server.broker.leases.get(id);
const becomes = (id: string, state: string) =>
  until(async () => (await stateOf(id)).state === state, { ...soon, what: `lease to be ${state}` });

test("L2 L5 L8 a rack is granted, taken, released, reset with proof, and its epoch grows", async () => {
  const here = await host();
  const updates: string[] = [];
  const holder = openHolder(server.endpoint);
  const held = await holder.acquire(asking(), {
    signal: never,
    onUpdate: (view) => updates.push(view.state),
  });
  expect(held).toMatchObject({ te: "here:1", epoch: "1", host: "here" });
  expect(held.data["ssh-key"]).toContain("epoch 1");
  expect(here.knowsToken(1, held.token)).toBe(true);
  const renew = `http://server.example/v1/leases/${held.id}/renew`;
  expect(held.data["lease"]).toMatchObject({ token: held.token, renew }); // H-12.1
  expect(held.token).toMatch(/^ryl_/);
  expect(await te("here:1")).toMatchObject({ state: "leased", lease: held.id, epoch: "1" });
  await until(() => here.heard.some(({ kind }) => kind === "taken"), { ...soon, what: "taken" });
  const over = await held.release();
  expect(over).toMatchObject({ state: "ended", reason: "released" });
  expect(Date.parse(over!.endedAt!)).toBeGreaterThan(0);
  expect(held.lost.aborted).toBe(false);
  await allReady();
  const certificate = await server.broker.leases.certificate(held.id);
  expect(certificate).toMatchObject({ te: 1, epoch: 1, lease: held.id });
  expect((await stateOf(held.id)).testenvs[0]!.certificate).toContain(held.id);
  const again = await holder.acquire(asking(), { signal: never });
  expect(again).toMatchObject({ te: "here:1", epoch: "2" });
  await again.release();
});

test("must-hold 9: the second waits, and reads which TE, who has it, until when", async () => {
  await host();
  const holder = openHolder(server.endpoint);
  const first = await holder.acquire(asking({ holder: { name: "deploy of change 1" } }), {
    signal: never,
  });
  const second = await calls().ask(asking({ holder: { name: "deploy of change 2" } }), "k2");
  expect(second).toMatchObject({ state: "waiting", place: 1 });
  const why = second.why![0]!;
  expect(why).toMatchObject({ code: "te-leased", te: "here:1", holder: "deploy of change 1" });
  expect(why.untilAt).toBe(first.expiresAt);
  expect(why.text).toContain("until");
  const { earliestAt, likelyAt, latestAt } = second.predictedStart!;
  expect(earliestAt <= likelyAt && likelyAt <= latestAt).toBe(true);
  expect(Date.parse(latestAt)).toBeGreaterThan(Date.parse(first.expiresAt));
  const third = await calls().ask(asking({ holder: { name: "third" } }), "k3");
  expect(third.why!.at(-1)).toMatchObject({ code: "ahead", holder: "deploy of change 2" });
  const listed = await call<{ items: LeaseView[] }>(server.endpoint, "/v1/leases?state=waiting");
  expect(listed.items.map(({ place }) => place)).toEqual([2, 1]);
  await first.release();
  await becomes(second.id, "active");
  expect((await stateOf(third.id)).why![0]).toMatchObject({ holder: "deploy of change 2" });
});

test("L11 a waiter whose stream closes is gone after 2 s; its TE goes on under a new epoch", async () => {
  const here = await host();
  here.held.add("prepare");
  const gone = new AbortController();
  const acquiring = openHolder(server.endpoint).acquire(asking(), { signal: gone.signal });
  acquiring.catch(() => undefined);
  await until(async () => (await te("here:1")).state === "preparing", { ...soon, what: "a grant" });
  const next = await calls().ask(asking({ holder: { name: "next" } }), "next");
  gone.abort(new Error("went away"));
  await expect(acquiring).rejects.toThrow("went away");
  here.resume("prepare");
  await becomes(next.id, "active");
  expect((await stateOf(next.id)).testenvs[0]).toMatchObject({ id: "here:1", epoch: "2" });
});

test("L11 a stream that is cut without a word ends the request after 2 s", async () => {
  await host();
  const first = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const asked = await calls().ask(asking(), "cut");
  const { port } = new URL(server.endpoint.url);
  const stream = httpRequest({
    port,
    path: `/v1/leases/${asked.id}`,
    headers: { accept: "text/event-stream", authorization: `Bearer ${asked.token}` },
  });
  stream.on("error", () => undefined);
  await new Promise<void>((resolve) => {
    stream.on("response", (response) => response.once("data", () => resolve()));
    stream.end();
  });
  stream.destroy();
  const started = performance.now();
  await becomes(asked.id, "ended");
  expect(performance.now() - started).toBeLessThan(6_000);
  expect(await stateOf(asked.id)).toMatchObject({ reason: "cancelled" });
  await first.release();
});

test("L8 TE data not taken within 10 s end the lease as cancelled", async () => {
  await host();
  const asked = await calls().ask(asking(), "not-taken");
  await becomes(asked.id, "active");
  await becomes(asked.id, "ended");
  expect(await stateOf(asked.id)).toMatchObject({ reason: "cancelled" });
  await allReady();
});

describe("L12", () => {
  test("what no registered TE could ever satisfy is refused with 422, naming what is missing", async () => {
    await host({ labels: ["ipv6"] });
    await expect(calls().ask(asking({ machines: { count: 9 } }), "u1")).rejects.toMatchObject({
      code: "unsatisfiable",
      message: expect.stringContaining("count 9") as string,
    });
    await expect(calls().ask(asking({ labels: "kvm && ipv6" }), "u2")).rejects.toMatchObject({
      code: "unsatisfiable",
      faults: [{ pointer: "/labels", remedy: expect.stringContaining("emulated, ipv6") as string }],
    });
    await expect(calls().ask(asking({ labels: "ipv6 &&" }), "u3")).rejects.toMatchObject({
      code: "bad-request",
      message: expect.stringContaining("column 8") as string,
    });
  });

  test("what fits only TEs that are offline waits, and is told so", async () => {
    await server.close();
    server = await openLeaseServer(directory.path, { graceMs: 300 });
    const here = await host();
    await here.die();
    await until(async () => (await te("here:1")).state === "offline", { ...soon, what: "offline" });
    const asked = await calls().ask(asking(), "offline");
    expect(asked.why![0]).toMatchObject({ code: "only-offline" });
    here.start();
    await becomes(asked.id, "active");
  });
});

test("must-hold 8, L3: a stale token on each call of the next lease is 403 stale-epoch, nothing moved", async () => {
  await host();
  const holder = openHolder(server.endpoint);
  const old = await holder.acquire(asking(), { signal: never });
  await old.release();
  await allReady();
  const held = await holder.acquire(asking(), { signal: never });
  const before = JSON.stringify(await stateOf(held.id));
  const stale = { ...server.endpoint, token: old.token };
  const path = `/v1/leases/${held.id}`;
  const tries: [string, string, object?][] = [
    ["GET", path],
    ["GET", `${path}/testenv.json`],
    ["PATCH", path, { takeable: false }],
    ["POST", `${path}/renew`],
    ["POST", `${path}/extend`, { durationSeconds: 60 }],
    ["DELETE", path],
  ];
  for (const [method, where, body] of tries) {
    const tried = call(stale, where, { method, ...(body ? { body } : {}) });
    await expect(tried, `${method} ${where}`).rejects.toMatchObject({
      code: "stale-epoch",
      httpStatus: 403,
    });
  }
  expect(JSON.stringify(await stateOf(held.id))).toBe(before);
  const own = { ...server.endpoint, token: old.token };
  await expect(call(own, `/v1/leases/${old.id}/testenv.json`)).rejects.toMatchObject({
    code: "lease-over",
  });
  expect(await call(own, `/v1/leases/${old.id}`, { method: "DELETE" })).toMatchObject({
    state: "ended",
  });
  await held.release();
});

describe("L6", () => {
  test("after the server's death the queue is as it was, holders and hosts go on", async () => {
    const here = await host({ racks: 1 });
    const holder = openHolder({ url: `unix:${server.socketPath}` }); // the same after a restart
    const held = await holder.acquire(asking(), { signal: never });
    const waiting = [];
    for (const n of [1, 2, 3]) {
      waiting.push(await calls().ask(asking({ holder: { name: `w${n}` } }), `w${n}`));
    }
    await server.close();
    server = await openLeaseServer(directory.path);
    const places = await Promise.all(waiting.map(async ({ id }) => (await stateOf(id)).place));
    expect(places).toEqual([1, 2, 3]);
    await here.die();
    here.start();
    await until(() => here.connected, { ...soon, what: "the host again" });
    // the data are with the host: asked again, and the token is the same
    const again = await openLeaseCalls(server.endpoint).data(held);
    expect(again["ssh-key"]).toContain("epoch 1");
    expect(await openLeaseCalls(server.endpoint).renew(held)).toMatchObject({ state: "active" });
    expect(held.lost.aborted).toBe(false);
    expect(await held.release()).toMatchObject({ state: "ended", reason: "released" });
    await becomes(waiting[0]!.id, "active");
  });

  test("asking again with the same key is the same lease with the same token", async () => {
    await host();
    const one = await calls().ask(asking(), "same");
    const two = await calls().ask(asking(), "same");
    expect(two.id).toBe(one.id);
    expect(two.token).toBe(one.token);
    await expect(calls().ask(asking({ durationSeconds: 1 }), "same")).rejects.toMatchObject({
      code: "idempotency-mismatch",
    });
  });

  test("rows of lease, testenv and host can be rebuilt from their events", async () => {
    await host();
    const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
    await held.release();
    await allReady();
    const all = () => server.store.db.selectFrom("life_row").selectAll().orderBy("id").execute();
    const { leaseLife, testenvLife, hostLife, certificateLife } =
      await import("../../src/lease/broker/records.ts");
    const before = await all();
    await server.store.rebuild(leaseLife);
    await server.store.rebuild(testenvLife);
    await server.store.rebuild(hostLife);
    await server.store.rebuild(certificateLife);
    expect(await all()).toEqual(before);
    expect(JSON.stringify(before)).not.toMatch(/ryl_|BEGIN TEST KEY/);
  });
});

test("L2 a store from yesterday: the host refuses the low epoch, the broker moves up", async () => {
  const here = await host();
  here.raise(1, 7); // what the store has forgotten; its host has not said so yet
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  expect(held.epoch).toBe("8");
  await held.release();
});

test("L5 a certificate with a wrong signature or epoch keeps the TE from being ready", async () => {
  const here = await host();
  const { certificate } = here.racks[0]!;
  here.racks[0]!.certificate = { ...certificate, reason: "forged" };
  here.report(1);
  await until(async () => (await te("here:1")).state === "faulty", { ...soon, what: "faulty" });
  expect((await te("here:1")).detail).toContain("signature");
  const asked = await calls().ask(asking(), "forged");
  expect(asked.why![0]).toMatchObject({ code: "te-faulty" });
  here.racks[0]!.certificate = certificate;
  here.report(1);
  await becomes(asked.id, "active");
});

test("L7 the host ends a lease alone; the holder is told at once", async () => {
  const here = await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const lost = new Promise<unknown>((resolve) => {
    held.lost.addEventListener("abort", () => resolve(held.lost.reason), { once: true });
  });
  here.endAlone(1, "expired");
  expect(await lost).toMatchObject({ code: "lease-lost" });
  expect(await stateOf(held.id)).toMatchObject({ state: "ended", reason: "expired" });
});

test("lease.md §6 a host that stays away: te-lost, offline until it has reported end and reset", async () => {
  await server.close();
  server = await openLeaseServer(directory.path, { graceMs: 500 });
  const here = await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  await here.die();
  await until(() => held.lost.aborted, { ...soon, what: "the loss" });
  expect(await stateOf(held.id)).toMatchObject({ state: "ended", reason: "te-lost" });
  expect(await te("here:1")).toMatchObject({ state: "offline" });
  const next = await calls().ask(asking({ holder: { name: "next" } }), "next");
  expect(next.state).toBe("waiting");
  here.held.add("reset");
  here.start();
  const end = () => here.wanted().find(({ lease, ended }) => !lease && ended?.lease === held.id);
  await until(() => end() !== undefined, { ...soon, what: "the end" });
  expect(end()).toMatchObject({ ended: { reason: "te-lost" } });
  await until(async () => (await te("here:1")).state === "resetting", { ...soon, what: "reset" });
  expect((await stateOf(next.id)).state).toBe("waiting");
  here.resume("reset");
  await becomes(next.id, "active");
});

test("interruptions that the host reports stand in the lease", async () => {
  const here = await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const at = new Date().toISOString();
  here.say({
    kind: "event",
    at,
    testenv: 1,
    lease: held.id,
    epoch: held.epoch,
    machine: null,
    what: "interruption",
    detail: "libvirtd was restarted",
    interruption: { at, code: "daemon-restarted", text: "libvirtd was restarted" },
  });
  await until(async () => (await stateOf(held.id)).interruptions.length === 1, {
    ...soon,
    what: "the interruption",
  });
  expect((await held.release())!.interruptions[0]).toMatchObject({ code: "daemon-restarted" });
  expect(server.happened).toContainEqual(
    expect.objectContaining({ topic: "lease", subject: held.id, event: "interruption" }),
  );
});

test("takeable: a waiter without a node keeps its place and is passed over", async () => {
  await host();
  const early = await calls().ask(asking({ takeable: false, holder: { name: "early" } }), "e");
  expect(early).toMatchObject({ state: "waiting", place: 1 });
  expect(early.why![0]).toMatchObject({ code: "not-takeable" });
  const late = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const behind = await calls().ask(asking({ holder: { name: "behind" } }), "b");
  // A stranger may name no address of the test network; our scheduler, in the process, may.
  await expect(calls().offer(early, true, ["10.99.0.180"])).rejects.toMatchObject({
    code: "address-not-yours",
    faults: [{ pointer: "/holder/addresses/0" }],
  });
  await openBuildLeases(() => server.broker.leases, silentLog).offer(early, true, ["10.99.0.180"]);
  await late.release();
  await becomes(early.id, "active");
  expect((await stateOf(behind.id)).state).toBe("waiting");
  const offer = hosts[0]!.wanted().findLast(({ lease }) => lease !== null);
  expect(offer).toMatchObject({ lease: { holderAddresses: ["10.99.0.180"] } });
});

test("avoid: another TE is preferred; the avoided one at once where nothing else is registered", async () => {
  await host({ racks: 2 });
  const holder = openHolder(server.endpoint);
  const avoid = { testenvs: ["here:1"], hosts: [] };
  const held = await holder.acquire(asking({ avoid }), { signal: never });
  expect(held.te).toBe("here:2");
  const both = { testenvs: ["here:1", "here:2"], hosts: [] };
  const other = await holder.acquire(asking({ avoid: both }), { signal: never });
  expect(other.te).toBe("here:1");
  await held.release();
  await other.release();
});

test("extend moves the deadline, not while another waits for this TE", async () => {
  await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const before = Date.parse((await stateOf(held.id)).expiresAt!);
  const view = await calls().extend(held, 60);
  expect(Date.parse(view.expiresAt!) - before).toBe(60_000);
  await expect(calls().extend(held, 100_000)).rejects.toMatchObject({ code: "not-allowed" });
  await calls().ask(asking({ holder: { name: "poor one" } }), "poor");
  await expect(calls().extend(held, 60)).rejects.toThrow(/poor one waits/);
  await held.release();
});

test("drain: the present lease goes on, no further one; undrain grants again", async () => {
  await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const operator = { ...server.endpoint, token: "ry_operator" };
  await call(operator, "/v1/testenvs/here:1/drain", { method: "POST" });
  const next = await calls().ask(asking(), "next");
  expect(await calls().renew(held)).toMatchObject({ state: "active" });
  await held.release();
  await allReady();
  expect((await stateOf(next.id)).why![0]).toMatchObject({ code: "te-draining" });
  await call(operator, "/v1/testenvs/here:1/undrain", { method: "POST" });
  await becomes(next.id, "active");
});

test("H-8.5 a quarantined rack is its own problem, and an operator's reset brings it back", async () => {
  const here = await host({ racks: 2 });
  here.quarantine(1);
  const state = async (): Promise<string> =>
    (await call<{ state: string }>(server.endpoint, "/v1/testenvs/here:1")).state;
  await until(async () => (await state()) === "quarantined", { timeoutMs: 5_000, what: "it" });
  // the other rack is lent meanwhile
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  expect(held.te).toBe("here:2");
  const operator = { ...server.endpoint, token: "ry_operator" };
  const order = (id: string) => call(operator, `/v1/testenvs/${id}/reset`, { method: "POST" });
  await expect(order("here:2")).rejects.toMatchObject({ code: "conflict" });
  await order("here:1");
  await until(async () => (await state()) === "ready", { timeoutMs: 5_000, what: "its reset" });
  expect(await calls().renew(held)).toMatchObject({ state: "active" });
  await held.release();
});

test("an operator revokes; a reader may not; the holder hears of it", async () => {
  await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const path = `/v1/leases/${held.id}`;
  await expect(
    call({ ...server.endpoint, token: "ry_reader" }, path, { method: "DELETE" }),
  ).rejects.toMatchObject({ code: "not-allowed" });
  await call({ ...server.endpoint, token: "ry_operator" }, path, { method: "DELETE" });
  await until(() => held.lost.aborted, { ...soon, what: "the loss" });
  expect(held.lost.reason).toMatchObject({ code: "lease-lost" });
  expect(String(held.lost.reason)).toContain("operator");
});

test("files come home: listed names only, whole or not at all, read back over HTTP", async () => {
  await host();
  const held = await openHolder(server.endpoint).acquire(asking(), { signal: never });
  const socket = { url: `unix:${server.socketPath}` };
  const put = (name: string, text: string, of = `te=${held.te}&epoch=${held.epoch}`) =>
    call(socket, `/v1/hosts/leases/${held.id}/files/${name}?${of}`, {
      method: "PUT",
      stream: Readable.from([text]),
    });
  await put("console-te1-n0.log", "Linux version 6.1\n");
  await expect(put("passwd", "x")).rejects.toMatchObject({ code: "bad-request" });
  const files = await call<{ items: object[] }>(server.endpoint, `/v1/leases/${held.id}/files`);
  expect(files.items).toEqual([{ name: "console-te1-n0.log", bytes: 18 }]);
  await held.release();
  await put("timeline.jsonl", "{}\n"); // still open: the end was just now
  expect(await server.broker.leases.filePath(held.id, "timeline.jsonl")).toContain(held.id);
  // a rack that it had before, and lost: that evidence stays beside the last one's
  await put("timeline.jsonl", '{"te":7}\n', "te=there:7&epoch=3");
  const names = (await server.broker.leases.files(held.id)).map(({ name }) => name);
  expect(names).toEqual(["console-te1-n0.log", "there-7-epoch-3-timeline.jsonl", "timeline.jsonl"]);
  const earlier = await server.broker.leases.filePath(held.id, "there-7-epoch-3-timeline.jsonl");
  expect(await readFile(earlier, "utf8")).toContain('"te":7');
  const last = await server.broker.leases.filePath(held.id, "timeline.jsonl");
  expect(await readFile(last, "utf8")).toBe("{}\n");
});

test("consoles: live ones are relayed from the host, from an offset", async () => {
  await host();
  const bytes = [];
  const reading = server.broker.fleet.console("here:1", "te1-n0", 5, false, never);
  for await (const piece of reading) bytes.push(Buffer.from(piece).toString());
  expect(bytes.join("")).toBe("one\nline two\n");
  await expect(
    server.broker.fleet.console("here:1", "te9-n9", 0, false, never).next(),
  ).rejects.toMatchObject({ code: "not-found" });
});

test("history is paged, newest first, and filtered", async () => {
  await host();
  for (const n of [1, 2, 3]) {
    const name = n === 2 ? "even" : "odd";
    const held = await openHolder(server.endpoint).acquire(asking({ holder: { name } }), {
      signal: never,
    });
    await held.release();
    await allReady();
  }
  type Page = { items: LeaseView[]; next: string | null };
  const page = await call<Page>(server.endpoint, "/v1/leases?limit=2");
  expect(page.items.map(({ holder }) => holder.name)).toEqual(["odd", "even"]);
  const rest = await call<Page>(server.endpoint, `/v1/leases?limit=2&cursor=${page.next}`);
  expect(rest.items.map(({ testenvs }) => testenvs[0]!.epoch)).toEqual(["1"]);
  const even = await call<Page>(server.endpoint, "/v1/leases?holder=even&te=here:1");
  expect(even.items).toHaveLength(1);
});

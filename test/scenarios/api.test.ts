/**
 * The API over real sockets, on views in memory: every route without a token, with a wrong one,
 * by a wrong method and with a malformed body; then the manners of surface.md §5, one by one.
 */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { AnswerStore, KeptAnswer } from "../../src/api/idempotency.ts";
import { openApi, routesOf } from "../../src/api/server.ts";
import type { Api, ApiOptions } from "../../src/api/server.ts";
import { open, readText, serverSentEvents } from "../../src/base/http-client.ts";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { ids, memoryViews } from "./api-views.ts";
import type { Memory } from "./api-views.ts";

let directory: string;
let memory: Memory;
let api: Api;
let socket: string;
const kept = new Map<string, KeptAnswer>();
const answers: AnswerStore = {
  find: (key) => Promise.resolve(kept.get(key)),
  keep: (key, answer) => Promise.resolve(void kept.set(key, answer)),
};

const optionsFor = (more: Partial<ApiOptions> = {}): ApiOptions => ({
  views: memory.views,
  answers,
  log: silentLog,
  version: "0.1.0",
  listen: ["127.0.0.1:0"],
  socketPath: socket,
  anonymousRead: true,
  hostNames: ["ci.example"],
  insecure: false,
  ...more,
});

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "api-"));
  socket = join(directory, "api.sock");
});
afterAll(() => rm(directory, { recursive: true, force: true }));
beforeEach(async () => {
  memory = memoryViews(directory);
  kept.clear();
  api = await openApi(optionsFor());
  return () => api.close();
});

type Sent = {
  method?: string;
  token?: string;
  body?: string | object;
  headers?: Record<string, string>;
  via?: string;
};
type Got = { status: number; headers: Record<string, unknown>; text: string; json: Json };
type Json = Record<string, unknown> & {
  code?: string;
  items?: unknown[];
  errors?: { pointer: string; code: string }[];
};

async function send(path: string, sent: Sent = {}): Promise<Got> {
  const text = typeof sent.body === "object" ? JSON.stringify(sent.body) : sent.body;
  const { Readable } = await import("node:stream");
  const response = await open({ url: sent.via ?? api.urls[0]! }, path, {
    method: sent.method ?? "GET",
    ...(sent.token === undefined ? {} : { token: sent.token }),
    ...(text === undefined ? {} : { stream: Readable.from([text]) }),
    headers: {
      ...(text === undefined ? {} : { "content-type": "application/json" }),
      ...sent.headers,
    },
  });
  const body = await readText(response, 10_000_000);
  let json: Json = {};
  try {
    json = JSON.parse(body) as Json;
  } catch {
    // not JSON's
  }
  return { status: response.statusCode!, headers: response.headers, text: body, json };
}

const walked = routesOf(memoryViews("/").views, "0.1.0").map((route) => ({
  route,
  name: `${route.method.toUpperCase()} ${route.path}`,
  path: route.path
    .replace("/testenvs/{id}", "/testenvs/here:1")
    .replace("/builds/{id}", `/builds/${ids.build}`)
    .replace("/nodes/{id}", `/nodes/${ids.node}`)
    .replace("/leases/{id}", `/leases/${ids.lease}`)
    .replace("/tokens/{id}", `/tokens/${ids.nothing}`)
    .replace("{number}", "1")
    .replace("/hosts/{name}", "/hosts/here")
    .replace("/pipelines/{name}", "/pipelines/check")
    .replace("{machine}", "te1-n0")
    .replace("{name}", "console.log"),
}));

describe.each(walked)("surface.md §5 $name", ({ route, path }) => {
  const method = route.method.toUpperCase();
  const reads =
    route.access.kind === "public" ||
    (route.access.kind !== "socket" &&
      route.access.kind !== "lease" &&
      route.access.role === "reader");

  test("without a token: reading alone is open, and only where it says so", async () => {
    if (reads) return; // the answers of reads are tested one by one below
    const got = await send(path, { method });
    expect([401, 403]).toContain(got.status);
    expect(got.headers["content-type"]).toContain("application/problem+json");
    expect(["no-token", "not-allowed"]).toContain(got.json.code);
    expect(memory.called).toEqual([]);
  });

  test("with a wrong token: 401 bad-token, also where anybody may read", async () => {
    const got = await send(path, { method, token: "ry_wrong" });
    expect([got.status, got.json.code]).toEqual([401, "bad-token"]);
    expect(got.headers["www-authenticate"]).toContain("Bearer");
  });

  test("by a wrong method: 405 with Allow", async () => {
    const got = await send(path, { method: "TRACE", token: "ry_admin" });
    expect([got.status, got.json.code]).toEqual([405, "method-not-allowed"]);
    expect(String(got.headers["allow"]).split(", ")).toContain(method);
  });

  test("with a malformed body: 400 or 415, never 5xx", async () => {
    if (!route.body) return;
    const token = route.access.kind === "lease" ? "ryl_good" : "ry_admin";
    const broken = await send(path, { method, token, body: '{"a":' });
    expect([broken.status, broken.json.code]).toEqual([400, "bad-request"]);
    const unknown = await send(path, { method, token, body: { "no/such": 1 } });
    expect(unknown.status).toBe(400);
    expect(unknown.json.errors).toContainEqual(
      expect.objectContaining({ pointer: "/no~1such", code: "unknown-field" }),
    );
    const headers = { "content-type": "text/yaml" };
    const typed = await send(path, { method, token, body: "a: b", headers });
    expect([typed.status, typed.json.code]).toEqual([415, "unsupported-media-type"]);
    const large = JSON.stringify({ message: "x".repeat(1024 * 1024) });
    const big = await send(path, { method, token, body: large });
    expect([big.status, big.json.code]).toEqual([413, "too-large"]);
  });

  test("an unknown query field is refused", async () => {
    if (!reads || method !== "GET") return;
    const got = await send(`${path}?nonsense=1`);
    expect([got.status, got.json.code]).toEqual([400, "bad-request"]);
  });
});

test("surface.md §5 plain reads answer, lists as { items, next }", async () => {
  for (const { route, path } of walked) {
    if (route.method !== "get" || route.path === "/v1/events") continue;
    const via = `unix:${socket}`;
    const token = route.access.kind === "lease" ? { token: "ryl_good" } : {};
    const got = await send(path, { via, ...token });
    const wanted = route.path === "/readyz" ? 503 : 200;
    expect([route.path, got.status, got.text.slice(0, 200)]).toEqual([
      route.path,
      wanted,
      expect.anything(),
    ]);
  }
  const changes = await send("/v1/changes");
  expect(changes.json).toMatchObject({ items: [{ number: 1 }], next: "c2" });
});

test("surface.md §5 the OpenAPI document names every route, its schemas and 3.1", async () => {
  const { json } = await send("/v1/openapi.json");
  expect(json["openapi"]).toBe("3.1.0");
  const paths = json["paths"] as Record<string, Record<string, unknown>>;
  for (const { route } of walked) expect(paths[route.path]).toHaveProperty(route.method);
  const schemas = (json["components"] as { schemas: object }).schemas;
  expect(Object.keys(schemas)).toEqual(expect.arrayContaining(["Lease", "Build", "Problem"]));
});

test("surface.md §5 single resources have an ETag, and 304 while they stay", async () => {
  const first = await send(`/v1/builds/${ids.build}`);
  const etag = String(first.headers["etag"]);
  const again = await send(`/v1/builds/${ids.build}`, { headers: { "if-none-match": etag } });
  expect([again.status, again.text]).toEqual([304, ""]);
  const other = await send(`/v1/builds/${ids.build}`, { headers: { "if-none-match": '"x"' } });
  expect(other.status).toBe(200);
  const late = await send(`/v1/builds/${ids.build}/cancel`, {
    method: "POST",
    token: "ry_operator",
    headers: { "if-match": '"x"' },
  });
  expect([late.status, late.json.code]).toEqual([412, "precondition-failed"]);
});

test("surface.md §5 one Idempotency-Key makes one lease; another body is 409", async () => {
  const body = { durationSeconds: 60, holder: { name: "me" } };
  const headers = { "idempotency-key": "k1" };
  const ask = (more: object = {}): Promise<Got> =>
    send("/v1/leases", { method: "POST", token: "ry_holder", body: { ...body, ...more }, headers });
  const [first, second] = await Promise.all([ask(), ask()]);
  expect([first.status, second.status]).toEqual([201, 201]);
  expect(second.text).toBe(first.text);
  expect(memory.called).toEqual(["ask holly me"]);
  expect(JSON.stringify([...kept.values()])).not.toContain("ryl_");
  const other = await ask({ durationSeconds: 61 });
  expect([other.status, other.json.code]).toEqual([409, "idempotency-mismatch"]);
  const impossible = { machines: { count: 9 } };
  const refused = await send("/v1/leases", {
    method: "POST",
    token: "ry_holder",
    body: { ...body, ...impossible },
    headers: { "idempotency-key": "k2" },
  });
  expect([refused.status, refused.json.code]).toEqual([422, "unsatisfiable"]);
});

test("surface.md §6 roles: each may what the former may, and no more", async () => {
  const body = { durationSeconds: 60, holder: { name: "me" } };
  const status = async (path: string, token: string, sent: Sent): Promise<number> =>
    (await send(path, { method: "POST", token, ...sent })).status;
  expect(await status("/v1/leases", "ry_reader", { body })).toBe(403);
  expect(await status("/v1/leases", "ry_holder", { body })).toBe(201);
  expect(await status("/v1/leases", "ry_holder", { body: { ...body, group: "other" } })).toBe(403);
  expect(await status("/v1/leases", "ry_holder", { body: { ...body, group: "metal" } })).toBe(201);
  const comment = { body: { message: "recheck" } };
  expect(await status("/v1/changes/1/comments", "ry_holder", comment)).toBe(403);
  expect(await status("/v1/changes/1/comments", "ry_developer", comment)).toBe(201);
  expect(memory.called).toContain("comment dora recheck");
  expect(await status(`/v1/builds/${ids.build}/cancel`, "ry_developer", {})).toBe(403);
  expect(await status("/v1/reload", "ry_operator", {})).toBe(403);
  expect(await status("/v1/reload", "ry_admin", {})).toBe(200);
});

test("surface.md §6 a lease's token opens that lease alone; an old one is stale-epoch", async () => {
  const lease = `/v1/leases/${ids.lease}`;
  expect((await send(`${lease}/testenv.json`, { token: "ryl_good" })).status).toBe(200);
  const admin = await send(`${lease}/testenv.json`, { token: "ry_admin" });
  expect([admin.status, admin.json.code]).toEqual([401, "no-token"]);
  for (const [method, path] of [
    ["GET", lease],
    ["GET", `${lease}/testenv.json`],
    ["POST", `${lease}/renew`],
    ["DELETE", lease],
  ] as const) {
    const stale = await send(path, { method, token: "ryl_old" });
    expect([path, stale.status, stale.json.code]).toEqual([path, 403, "stale-epoch"]);
  }
  const elsewhere = await send("/v1/tokens", { token: "ryl_good" });
  expect(elsewhere.status).toBe(403);
  expect((await send(lease, { method: "DELETE", token: "ry_operator" })).status).toBe(200);
  expect(memory.called).toEqual(["revoke otto"]);
});

test("surface.md §4 the socket is admin, its file 0600; sessions and files come through it", async () => {
  const via = `unix:${socket}`;
  expect((await stat(socket)).mode & 0o777).toBe(0o600);
  expect((await send("/v1/tokens", { via })).status).toBe(200);
  const path = `/v1/hosts/leases/${ids.lease}/files/a.log?te=here:1&epoch=7`;
  expect((await send(path, { method: "PUT", token: "ry_admin", body: "abc" })).status).toBe(403);
  expect((await send(path, { via, method: "PUT", body: "abc" })).status).toBe(204);
  expect(memory.called).toEqual(["store a.log 3"]);
  expect(await upgrade({ path: socket })).toContain("101");
  const { hostname, port } = new URL(api.urls[0]!);
  expect(await upgrade({ host: hostname, port: Number(port) })).toContain("403");
});

function upgrade(where: { path: string } | { host: string; port: number }): Promise<string> {
  return new Promise((resolve, reject) => {
    const stream = connect(where as never);
    let text = "";
    stream.on("data", (chunk: Buffer) => (text += chunk.toString()));
    stream.on("close", () => resolve(text));
    stream.on("error", reject);
    const lines = ["GET /v1/hosts/session HTTP/1.1", "host: localhost", "upgrade: websocket"];
    stream.write([...lines, "connection: Upgrade", "", ""].join("\r\n"));
  });
}

test("surface.md §4 anonymous reading: loopback and its names alone, and never to push", async () => {
  const host = (name: string): Sent => ({ headers: { host: name } });
  expect((await send("/v1/builds", host("localhost:1"))).status).toBe(200);
  expect((await send("/v1/builds", host("ci.example"))).status).toBe(200);
  expect((await send("/v1/builds", host("rebound.example"))).status).toBe(401);
  const proxied = { headers: { host: "localhost", "x-forwarded-for": "203.0.113.9" } };
  expect((await send("/v1/builds", proxied)).status).toBe(401);
  const push = await send("/git/p/info/refs?service=git-receive-pack");
  expect([push.status, push.headers["www-authenticate"]]).toEqual([401, 'Basic realm="rackyard"']);
  await send("/git/p/info/refs?service=git-upload-pack");
  const basic = `Basic ${Buffer.from("dora:ry_developer").toString("base64")}`;
  await send("/git/p/git-receive-pack", { method: "POST", headers: { authorization: basic } });
  expect(memory.called).toEqual(["git anonymous", "git dora"]);
  const json = await send("/v1/builds", { headers: { authorization: basic } });
  expect(json.status).toBe(401);
  await api.close();
  api = await openApi(optionsFor({ anonymousRead: false }));
  expect((await send("/v1/builds")).status).toBe(401);
  expect((await send("/healthz")).status).toBe(200);
});

test("issue 6 §10 a session's cookie opens reading alone, and no git", async () => {
  await api.close();
  api = await openApi(optionsFor({ anonymousRead: false, secure: true }));
  const opened = await send("/v1/session", { method: "POST", token: "ry_admin" });
  expect(opened.status).toBe(204);
  const [set] = [opened.headers["set-cookie"]].flat();
  expect(set).toBe("rackyard_session=ry_admin; Path=/; HttpOnly; SameSite=Strict; Secure");
  const cookie = { headers: { cookie: "other=1; rackyard_session=ry_admin" } };
  expect((await send("/v1/builds", cookie)).status).toBe(200);
  expect((await send("/logs/a/console.log", cookie)).status).toBe(200);
  expect((await send("/v1/tokens", cookie)).status).toBe(403); // the admin's own, but not by cookie
  expect((await send("/v1/reload", { ...cookie, method: "POST" })).status).toBe(401);
  expect((await send("/git/p/info/refs?service=git-upload-pack", cookie)).status).toBe(401);
  const without = await send("/v1/session", { method: "POST", ...cookie });
  expect([without.status, without.json.code]).toEqual([401, "no-token"]);
  const dead = { headers: { cookie: "rackyard_session=ry_dead" } };
  expect((await send("/v1/builds", dead)).status).toBe(401);
  const closed = await send("/v1/session", { method: "DELETE" });
  expect([closed.headers["set-cookie"]].flat()[0]).toContain("Max-Age=0");
});

test("surface.md §4 a listener beyond loopback is refused unless insecure is spelled out", async () => {
  const listen = ["0.0.0.0:0"];
  const other = join(directory, "other.sock");
  await expect(openApi(optionsFor({ listen, socketPath: other }))).rejects.toMatchObject({
    code: "bad-config",
  });
  await using spelled = await openApi(optionsFor({ listen, socketPath: other, insecure: true }));
  expect(spelled.urls).toHaveLength(1);
  const taken = [new URL(api.urls[0]!).host];
  await expect(openApi(optionsFor({ listen: taken, socketPath: other }))).rejects.toMatchObject({
    code: "port-taken",
    exitCode: 73,
  });
});

test("lease.md §4 a long poll answers when the lease no longer waits, or another version is there", async () => {
  const path = `/v1/leases/${ids.lease}`;
  const first = await send(path);
  const poll = send(`${path}?wait=20s`);
  await until(() => memory.open === 1, { timeoutMs: 5_000, what: "the poll" });
  memory.leaseChanged({ ...memory.lease, place: 2 });
  memory.leaseChanged({ ...memory.lease, state: "active" });
  expect((await poll).json["state"]).toBe("active");
  const etag = String(first.headers["etag"]);
  const seen = await send(`${path}?wait=20s`, { headers: { "if-none-match": etag } });
  expect(seen.json["state"]).toBe("active");
  memory.leaseChanged({ ...memory.lease, state: "waiting" });
  expect((await send(`${path}?wait=10ms`)).json["state"]).toBe("waiting");
  await until(() => memory.open === 0, { timeoutMs: 5_000, what: "the watches to end" });
});

test("lease.md L11 a lease's stream ends when its reader goes, and the view is told", async () => {
  const stop = new AbortController();
  const response = await open({ url: api.urls[0]! }, `/v1/leases/${ids.lease}`, {
    headers: { accept: "text/event-stream" },
    token: "ryl_good",
    signal: stop.signal,
  });
  const events = serverSentEvents(response);
  const next = await events.next();
  expect(next.value).toMatchObject({ event: "lease" });
  expect(memory.open).toBe(1);
  stop.abort();
  response.destroy();
  await until(() => memory.open === 0, { timeoutMs: 5_000, what: "the stream's end" });
});

test("surface.md §5 events: topics, Last-Event-ID, resync, and as a page", async () => {
  const event = {
    id: 9,
    topic: "build",
    at: "2030-01-01T00:00:00.000Z",
    subject: ids.build,
    event: "started",
    body: {},
  } as const;
  const response = await open({ url: api.urls[0]! }, "/v1/events?topic=build&topic=lease", {
    headers: { accept: "text/event-stream", "last-event-id": "2" },
  });
  const events = serverSentEvents(response);
  expect((await events.next()).value).toMatchObject({ event: "resync", id: "5" });
  await until(() => memory.open === 1, { timeoutMs: 5_000, what: "the stream" });
  memory.emit({ ...event, topic: "node" });
  memory.emit(event);
  expect((await events.next()).value).toMatchObject({ event: "build", id: "9" });
  response.destroy();
  await until(() => memory.open === 0, { timeoutMs: 5_000, what: "the stream's end" });
  const fresh = await open({ url: api.urls[0]! }, "/v1/events?topic=build&topic=testenv", {
    headers: { accept: "text/event-stream" },
  });
  const first = (await serverSentEvents(fresh).next()).value;
  expect(first).toMatchObject({ event: "state", id: "8" });
  expect(Object.keys(JSON.parse(first?.data ?? "{}") as object)).toEqual(["build", "testenv"]);
  fresh.destroy();
  await until(() => memory.open === 0, { timeoutMs: 5_000, what: "the stream's end" });
  const page = send("/v1/events?after=9&wait=10s");
  await until(() => memory.open === 1, { timeoutMs: 5_000, what: "the poll" });
  memory.emit({ ...event, id: 10 });
  expect((await page).json).toMatchObject({ items: [{ id: 10 }], next: "10" });
});

test("surface.md §5 a build's console: text as far as it goes, events when followed", async () => {
  const path = `/v1/builds/${ids.build}/console`;
  const text = await send(path);
  expect(text.text.split("\n")).toHaveLength(4);
  expect(text.headers["content-type"]).toContain("text/plain");
  expect(text.headers["content-security-policy"]).toContain("sandbox");
  const response = await open({ url: api.urls[0]! }, `${path}?follow`, {
    headers: { "last-event-id": "1" },
  });
  const events = serverSentEvents(response);
  expect((await events.next()).value).toMatchObject({ id: "2", event: "line" });
  response.destroy();
  expect((await send(`/v1/builds/${ids.nothing}/console?follow`)).status).toBe(404);
  const machine = await send("/v1/testenvs/here:1/console/te1-n0?from=6");
  expect(machine.text).toBe("ok\n");
});

test("surface.md §4 pages and files: policies stand, nothing is guessed", async () => {
  const page = await send(`/builds/${ids.build}`);
  expect(page.status).toBe(200);
  expect(page.headers["content-security-policy"]).toContain("script-src 'self'");
  const file = await send(`/v1/leases/${ids.lease}/files/a.html`);
  expect(file.headers["content-type"]).toBe("text/plain; charset=utf-8");
  expect(file.headers["x-content-type-options"]).toBe("nosniff");
  expect((await send("/assets/../server.ts")).status).toBe(404);
  expect((await send("/nothing")).json.code).toBe("not-found");
});

test("surface.md §5 stopping ends open streams and polls", async () => {
  const response = await open({ url: api.urls[0]! }, "/v1/events", {
    headers: { accept: "text/event-stream" },
  });
  await until(() => memory.open === 1, { timeoutMs: 5_000, what: "the stream" });
  await api.close();
  await readText(response, 10_000).catch(() => undefined);
  expect(memory.open).toBe(0);
});

/**
 * Shares of the API over real sockets: what one source or one token can take from the others, and
 * when a stream ends that nobody may read any more.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { once } from "node:events";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openApi } from "../../src/api/server.ts";
import type { Api } from "../../src/api/server.ts";
import { open, readText } from "../../src/base/http-client.ts";
import { limits } from "../../src/base/limits.ts";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { callers, ids, memoryViews } from "./api-views.ts";
import type { Memory } from "./api-views.ts";

let directory: string;
let memory: Memory;
let api: Api;
let known: Set<string>;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "shares-"));
  memory = memoryViews(directory);
  known = new Set(Object.keys(callers));
  const admin = {
    ...memory.views.admin,
    authenticate: (token: string) => Promise.resolve(known.has(token) ? callers[token] : undefined),
  };
  api = await openApi({
    views: { ...memory.views, admin },
    answers: { find: () => Promise.resolve(undefined), keep: () => Promise.resolve() },
    log: silentLog,
    version: "0",
    listen: ["127.0.0.1:0"],
    socketPath: join(directory, "api.sock"),
    anonymousRead: true,
    hostNames: [],
    insecure: false,
  });
});
afterEach(async () => {
  await api.close();
  await rm(directory, { recursive: true, force: true });
});

const stream = (token?: string, path = "/v1/events", url = api.urls[0]!) =>
  open({ url }, path, {
    headers: { accept: "text/event-stream" },
    ...(token === undefined ? {} : { token }),
  });

test("streams without a token have a share of their own, and give it back", async () => {
  const mine = await Promise.all(Array.from({ length: limits.callsPerSource }, () => stream()));
  expect(mine.every(({ statusCode }) => statusCode === 200)).toBe(true);
  const more = await stream();
  expect([more.statusCode, more.headers["retry-after"]]).toEqual([429, expect.anything()]);
  more.destroy();
  const other = await stream("ry_reader");
  expect(other.statusCode).toBe(200);
  const local = await stream(undefined, "/v1/events", `unix:${join(directory, "api.sock")}`);
  expect(local.statusCode).toBe(200);
  for (const one of mine) one.destroy();
  await until(() => memory.open === 2, { timeoutMs: 5_000, what: "the streams' ends" });
  const again = await stream();
  expect(again.statusCode).toBe(200);
  for (const one of [other, local, again]) one.destroy();
});

test("a lease's token has a share that its own holder never fills", async () => {
  const path = `/v1/leases/${ids.lease}`;
  const mine = await Promise.all(
    Array.from({ length: limits.callsPerLease }, () => stream("ryl_good", path)),
  );
  expect(mine.every(({ statusCode }) => statusCode === 200)).toBe(true);
  const more = await stream("ryl_good", path);
  expect(more.statusCode).toBe(429);
  for (const one of [...mine, more]) one.destroy();
});

test("section 9: a stream ends with its token; others go on", async () => {
  const revoked = await stream("ry_reader");
  const valid = await stream("ry_operator");
  await until(() => memory.open === 2, { timeoutMs: 5_000, what: "both streams" });
  known.delete("ry_reader");
  await readText(revoked, 10_000);
  await until(() => memory.open === 1, { timeoutMs: 5_000, what: "the end of one" });
  expect(valid.readableEnded).toBe(false);
  valid.destroy();
});

test("headers that do not end are cut after their time", async () => {
  const { hostname, port } = new URL(api.urls[0]!);
  const socket = connect(Number(port), hostname);
  socket.write("GET /v1/status HTTP/1.1\r\nhost: x\r\nx-slow: ");
  socket.resume();
  const began = performance.now();
  await once(socket, "close");
  expect(performance.now() - began).toBeLessThan(limits.headersMs * 2);
});

/**
 * The recipe of docs/operating.md for people on other machines: Debian's nginx with TLS before the
 * API, by the very file of examples/service. A client that knows the authority, a stream through
 * the proxy, and nothing to read without a token.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openClient } from "../../src/api/client.ts";
import { openApi } from "../../src/api/server.ts";
import type { Api } from "../../src/api/server.ts";
import { launch, run } from "../../src/base/command.ts";
import type { Child } from "../../src/base/command.ts";
import { call } from "../../src/base/http-client.ts";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { memoryViews } from "../scenarios/api-views.ts";

const recipe = new URL("../../examples/service/nginx.conf", import.meta.url);
let directory: string;
let api: Api;
let nginx: Child;
let url: string;
let ca: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "proxy-"));
  const { views } = memoryViews(directory);
  api = await openApi({
    views,
    answers: { find: () => Promise.resolve(undefined), keep: () => Promise.resolve() },
    log: silentLog,
    version: "0.1.0",
    listen: ["127.0.0.1:0"],
    socketPath: join(directory, "api.sock"),
    anonymousRead: true,
    hostNames: [],
    secure: true,
    insecure: false,
  });
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const files = ["-keyout", join(directory, "key.pem"), "-out", join(directory, "cert.pem")];
  await run("openssl", ["req", "-x509", ...made, ...subject, ...files]);
  ca = await readFile(join(directory, "cert.pem"), "utf8");
  const port = await freePort();
  const server = (await readFile(recipe, "utf8"))
    .replace("listen 443 ssl", `listen 127.0.0.1:${port} ssl`)
    .replaceAll("ci.example.org;", "localhost;")
    .replace("/etc/ssl/ci.example.org/fullchain.pem", join(directory, "cert.pem"))
    .replace("/etc/ssl/ci.example.org/privkey.pem", join(directory, "key.pem"))
    .replace("http://127.0.0.1:7225", api.urls[0]!);
  await mkdir(join(directory, "nginx"));
  const whole = `daemon off; pid ${directory}/nginx.pid; error_log stderr;
    events {}
    http { access_log off; client_body_temp_path ${directory}/nginx; proxy_temp_path ${directory}/nginx;
      fastcgi_temp_path ${directory}/nginx; uwsgi_temp_path ${directory}/nginx; scgi_temp_path ${directory}/nginx;
      ${server} }`;
  await writeFile(join(directory, "nginx.conf"), whole);
  nginx = launch("nginx", ["-c", join(directory, "nginx.conf")]);
  url = `https://localhost:${port}`;
  await until(() => call({ url, ca }, "/healthz"), { timeoutMs: 20_000, what: "nginx" });
});
afterAll(async () => {
  await nginx?.end();
  await api?.close();
  await rm(directory, { recursive: true, force: true });
});

test("issue 6 §10 a client with --ca reads through the proxy by its token, and not without", async () => {
  const builds = await openClient({ url, ca, token: "ry_reader" }).builds.list();
  expect(builds.items.length).toBeGreaterThan(0);
  await expect(openClient({ url, ca }).builds.list()).rejects.toMatchObject({ code: "no-token" });
  await expect(openClient({ url, token: "ry_reader" }).builds.list()).rejects.toMatchObject({
    code: "unavailable",
  });
});

test("issue 6 §10 a stream of events passes the proxy line by line", async () => {
  const stop = new AbortController();
  const client = openClient({ url, ca, token: "ry_reader" }, stop.signal);
  const stream = client.builds.follow((await client.builds.list()).items[0]!.id);
  const first = await stream.next();
  expect(first.done).toBe(false);
  stop.abort();
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

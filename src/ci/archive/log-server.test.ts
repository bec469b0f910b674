import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openFileStore } from "./file-store.ts";
import { serveLogs } from "./log-server.ts";

let directory: string;
let server: Server;
let base: string;
const text = "0123456789".repeat(1_000);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-logs-"));
  await mkdir(join(directory, "b/logs"), { recursive: true });
  await mkdir(join(directory, ".leases/x"), { recursive: true });
  await writeFile(join(directory, ".leases/x/console.log"), "secret");
  await writeFile(join(directory, "b/console.log"), text);
  await writeFile(join(directory, "b/page.html"), "<script>1</script>");
  await writeFile(join(directory, "b/logs/.dot"), "dot");
  await writeFile(join(directory, "b/logs/a:b"), "colon");
  await symlink("/etc", join(directory, "b/out"));
  const store = openFileStore(directory);
  const serve = serveLogs({ open: (path) => store.get(path), entries: (at) => store.entries(at) });
  server = createServer((request, response) => void serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}/logs`;
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(directory, { recursive: true });
});

const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(base + path, { headers });

test("surface.md §4 logs are served in a sandbox; no path leads out, no link is followed", async () => {
  const page = await get("/b/page.html");
  expect(page.headers.get("content-security-policy")).toContain("sandbox");
  expect(page.headers.get("x-content-type-options")).toBe("nosniff");
  for (const path of [
    "/../../etc/passwd",
    "/%2e%2e/x",
    "/b/out/passwd",
    "/%zz",
    "/none",
    "/b/out",
  ]) {
    expect([path, (await get(path)).status]).toEqual([path, 404]);
  }
  expect((await fetch(`${base}/`, { method: "POST" })).status).toBe(405);
});

test("the archive's own records are not served", async () => {
  expect((await get("/.leases/x/console.log")).status).toBe(404);
  expect(await (await get("/")).text()).not.toContain(".leases");
});

test("case small-things: a job's dot files are listed; names lead where they say", async () => {
  const page = await (await get("/b/logs/")).text();
  expect(page).toContain(".dot");
  expect(page).toContain('href="./a%3Ab"');
});

test("section 6 a console is served by ranges, from its end too", async () => {
  for (const [range, from, to] of [
    ["bytes=0-3", 0, 3],
    ["bytes=9990-", 9_990, 9_999],
    ["bytes=-5", 9_995, 9_999],
    ["bytes=9995-20000", 9_995, 9_999],
  ] as const) {
    const part = await get("/b/console.log", { range });
    expect(part.status).toBe(206);
    expect(part.headers.get("content-range")).toBe(`bytes ${from}-${to}/10000`);
    expect(await part.text()).toBe(text.slice(from, to + 1));
  }
  expect((await get("/b/console.log", { range: "bytes=10000-" })).status).toBe(416);
});

test("section 6 a console is served gzipped to whoever takes that, else as it is", async () => {
  const packed = await get("/b/console.log", { "accept-encoding": "gzip" });
  expect(packed.headers.get("content-encoding")).toBe("gzip");
  expect(packed.headers.get("vary")).toBe("accept-encoding");
  expect(await packed.text()).toBe(text);
  const plain = await get("/b/console.log", { "accept-encoding": "identity" });
  expect(plain.headers.get("content-length")).toBe("10000");
  expect(await plain.text()).toBe(text);
});

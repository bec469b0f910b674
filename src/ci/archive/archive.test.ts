import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { packTar } from "modern-tar";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import { leaseFilesDirectory, openFileArchive } from "./archive.ts";
import type { ArchivedBuild, FileArchive } from "./archive.ts";
import { serveLogs } from "./log-server.ts";

let directory: string;
let archive: FileArchive;
const signal = new AbortController().signal;
const build: ArchivedBuild = {
  id: "aaaaaaaa-1111-4222-8333-444444444444",
  project: "tool",
  changes: [{ change: 4, patchset: 1 }],
  job: { name: "unit <&>" },
  logsPath: "04/4/1/check/unit/aaaaaaa",
  logsUrl: "http://x/logs/04/4/1/check/unit/aaaaaaa/",
  buildUrl: "http://x/builds/a",
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-archive-"));
  archive = openFileArchive({ directory, clock: systemClock, log: silentLog });
  await archive.begin(build);
});
afterEach(async () => {
  archive.close(build.id);
  await rm(directory, { recursive: true });
});

const read = (path: string): Promise<string> =>
  readFile(join(directory, build.logsPath, path), "utf8");

test("L-1 the console's first line says where the logs are", async () => {
  expect(await read("console.log")).toMatch(/ \| Detailed logs: http:\/\/x\/logs\/04\/4\/1/);
});

test("X-3 a console is followed from any line while it grows, and ends with it", async () => {
  const seen: string[] = [];
  const following = (async () => {
    for await (const { seq, line } of archive.console(build, 1, signal)) {
      seen.push(`${seq} ${line.slice(26)}`);
      if (seq === 3)
        await archive.finish(build, { result: "SUCCESS", lease: null, timeline: [] }, signal);
    }
  })();
  archive.say(build.id, "two");
  archive.say(build.id, "three");
  await following;
  expect(seen).toEqual(["2 two", "3 three", "4 Result: SUCCESS"]);
});

test("L-2 logs/ keeps its folders; nothing leads out of the archive", async () => {
  const tar = await packTar([
    { header: { name: "./", type: "directory", size: 0 } },
    { header: { name: "./sub/a.txt", size: 2 }, body: "a\n" },
    { header: { name: "../../evil", size: 1 }, body: "x" },
    { header: { name: "/abs", size: 1 }, body: "x" },
    { header: { name: "link", type: "symlink", linkname: "/etc/passwd", size: 0 } },
    { header: { name: "link/under", size: 1 }, body: "x" },
  ]);
  const report = await archive.logs(build, Readable.from([Buffer.from(tar)]), signal);
  expect(report.files).toBe(2);
  expect(report.left.map((left) => left.split(":")[0])).toEqual(["../../evil", "/abs", "link"]);
  expect(await read("logs/sub/a.txt")).toBe("a\n");
  expect(await read("logs/link/under")).toBe("x");
});

test("lease.md §6, L-4 the host's files become rack/, also those that come later", async () => {
  const files = join(leaseFilesDirectory(directory), "l1");
  await mkdir(files, { recursive: true });
  await writeFile(join(files, "timeline.jsonl"), "{}\n");
  await writeFile(join(files, "console-te1-n0.log"), "boot\nKernel panic - not syncing: x\n");
  const { evidence } = await archive.finish(
    build,
    { result: "FAILURE", lease: { id: "l1" }, timeline: [] },
    signal,
  );
  expect(evidence).toMatchObject([{ file: "rack/console-te1-n0.log", line: 2 }]);
  await writeFile(join(files, "certificate.json"), "{}");
  const names = (await archive.files(build)).map((file) => file.path);
  expect(names).toContain("rack/certificate.json");
  expect(await read("index.html")).toContain("unit &lt;&amp;&gt;: FAILURE");
});

test("surface.md §4 logs are served in a sandbox; no path leads out, no other link is followed", async () => {
  const server = createServer((request, response) => {
    void serveLogs(directory)(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await writeFile(join(directory, build.logsPath, "page.html"), "<script>1</script>");
  await symlink("/etc", join(directory, build.logsPath, "out"));
  try {
    const page = await fetch(`${base}/logs/${build.logsPath}/page.html`);
    expect(page.headers.get("content-security-policy")).toContain("sandbox");
    expect(page.headers.get("x-content-type-options")).toBe("nosniff");
    const console = await fetch(`${base}/logs/${build.logsPath}/console.log`, {
      headers: { range: "bytes=0-3" },
    });
    expect([console.status, await console.text()]).toEqual([206, expect.stringMatching(/^\d{4}$/)]);
    for (const path of [
      "/logs/../../etc/passwd",
      "/logs/%2e%2e/x",
      `/logs/${build.logsPath}/out/passwd`,
      "/logs/%zz",
      "/logs/none",
    ]) {
      expect((await fetch(base + path)).status).toBe(404);
    }
    expect((await fetch(`${base}/logs/`, { method: "POST" })).status).toBe(405);
    expect(await (await fetch(`${base}/logs/${build.logsPath}/`)).text()).toContain("console.log");
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test("archive.keepDays, archive.maxGiB the oldest builds go first", async () => {
  await archive.finish(build, { result: "SUCCESS", lease: null, timeline: [] }, signal);
  expect(await archive.sweep(30, 1024 ** 3)).toBe(0);
  expect(await archive.sweep(30, 1)).toBe(1);
  expect(await archive.files(build)).toEqual([]);
});

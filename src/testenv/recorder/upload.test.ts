import { createServer } from "node:http";
import type { Server } from "node:http";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { readText } from "../../base/http-client.ts";
import { silentLog } from "../../base/log.ts";
import { until } from "../../base/wait.ts";
import { openUpload } from "./upload.ts";
import { makeRecordFolder, openRecorder } from "./recorder.ts";

const lease = "00000000-0000-4000-8000-000000000001";
const grant = { lease, testenv: 1, epoch: 7 };
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-home-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function broker(status: () => number, got: Map<string, string>): Promise<Server> {
  const server = createServer((request, response) => {
    void readText(request, 1e6).then((text) => {
      if (status() < 300) got.set(request.url!.split("/").slice(-3).join("/"), text);
      response.writeHead(status()).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(join(directory, "api.sock"), resolve));
  return server;
}

async function openBench() {
  const root = join(directory, "recorder");
  const recorder = await openRecorder(root, systemClock);
  await makeRecordFolder(recorder, grant);
  const record = recorder.open(grant);
  record.write("prepare", {});
  await writeFile(join(record.folder, "console-te1-n0.log"), "booted\n");
  await writeFile(join(record.folder, "secret.key"), "never sent");
  const open = () =>
    openUpload({
      broker: { url: `unix:${join(directory, "api.sock")}` },
      hostName: "here",
      recorder,
      recorderRoot: root,
      clock: systemClock,
      log: silentLog,
    });
  return { record, open };
}
const soon = (what: string, holds: () => boolean) =>
  until(holds, { timeoutMs: 10_000, everyMs: 5, what });

test("lease.md §6 files are uploaded, what grew comes again, nothing else is ever sent", async () => {
  const got = new Map<string, string>();
  const server = await broker(() => 204, got);
  const { record, open } = await openBench();
  await using upload = open();
  await upload.send(grant, Date.now());
  await soon("two files", () => got.size === 2);
  record.write("certificate", {});
  await writeFile(join(record.folder, "certificate.json"), "{}");
  await upload.send(grant, Date.now());
  await soon("the certificate", () =>
    got.has(`${lease}/files/certificate.json?te=here%3A1&epoch=7`),
  );
  await soon("the longer time line", () =>
    (got.get(`${lease}/files/timeline.jsonl?te=here%3A1&epoch=7`) ?? "").includes("certificate"),
  );
  expect([...got.keys()].sort()).toEqual(
    ["certificate.json", "console-te1-n0.log", "timeline.jsonl"].map(
      (n) => `${lease}/files/${n}?te=here%3A1&epoch=7`,
    ),
  );
  server.close();
});

test("lease.md §6 a broker that is away is tried again, by the next agent too; a refusal is final", async () => {
  const { open } = await openBench();
  {
    await using first = open();
    await first.send(grant, Date.now());
  }
  const got = new Map<string, string>();
  let status = 503;
  const server = await broker(() => status, got);
  {
    await using second = open();
    await second.resume();
    status = 204;
    await soon("the files", () => got.size === 2);
  }
  got.clear();
  {
    await using third = open();
    await third.resume();
    await third.send(grant, Date.now());
  }
  expect(got.size).toBe(0); // they have arrived, whatever agent asks
  server.close();
});

test("lease.md §6 ten minutes after the end nothing is sent any more", async () => {
  const got = new Map<string, string>();
  const server = await broker(() => 204, got);
  const { open } = await openBench();
  await using upload = open();
  await upload.send(grant, Date.now() - 11 * 60_000);
  await upload[Symbol.asyncDispose]();
  expect(got.size).toBe(0);
  server.close();
});

/**
 * Lists at size: makes a database of 100,000 builds, 100,000 leases and 10,000 changes through
 * the store itself, starts a server on it, and asks for every list and filter over HTTP. Prints
 * medians, 99th percentiles and the longest time that a look at /healthz beside them took (what
 * the event loop was held). Exit 1 where a promise is broken.
 * Usage: node tools/bench/lists.ts [--builds N] [--looks 30] [--state DIR] [--json]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { sampleLists } from "./list-samples.ts";

const { values } = parseArgs({
  options: {
    builds: { type: "string", default: "100000" },
    looks: { type: "string", default: "30" },
    state: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const builds = Number(values.builds);
const looks = Number(values.looks);
/** Promised: a list of 100 rows, and what any request may hold the loop. */
const promised = { medianMs: 50, p99Ms: 100, stallMs: 50, readyMs: 2_000 };

const lists = [
  "/v1/builds",
  "/v1/builds?result=FAILURE",
  "/v1/builds?result=TE_LOST",
  "/v1/builds?state=reported",
  "/v1/builds?pipeline=check",
  "/v1/builds?job=deploy-7",
  "/v1/builds?project=project-3",
  "/v1/builds?change=77",
  "/v1/builds?result=FAILURE&job=deploy-7&state=reported",
  "/v1/builds?result=TE_LOST&pipeline=gate&project=project-3",
  "/v1/leases",
  "/v1/leases?state=ended",
  "/v1/leases?holder=build-3",
  "/v1/leases?te=here:4",
  "/v1/leases?group=project-2&state=ended",
  "/v1/leases?since=2026-01-01T00:00:00Z",
  "/v1/changes",
  "/v1/changes?status=NEW",
  "/v1/changes?project=project-3&status=MERGED",
  "/v1/changes?owner=dora",
  "/v1/status",
  "/metrics",
] as const;

const folder = values.state ?? (await mkdtemp(join(tmpdir(), "rackyard-lists-")));
await mkdir(join(folder, "server"), { recursive: true });
const database = join(folder, "server/rackyard.db");
if (!(await stat(database).catch(() => undefined))) {
  const beganMs = performance.now();
  await sampleLists(database, builds);
  const { size } = await stat(database);
  const took = seconds(performance.now() - beganMs);
  console.error(`made ${builds} builds in ${took}, ${(size / 2 ** 20).toFixed(0)} MiB`);
}
const startedMs = performance.now();
const program = join(import.meta.dirname, "../../src/main/rackyard.ts");
const server = spawn(
  process.execPath,
  ["--disable-sigusr1", program, "server", "--state", folder],
  { stdio: ["ignore", "ignore", "inherit"] },
);
let ok = true;
try {
  const url = await ready(join(folder, "run/ready.json"));
  const readyMs = performance.now() - startedMs;
  const token = (await readFile(join(folder, "tokens/admin"), "utf8")).trim();
  const rows = [];
  for (const path of lists) rows.push(await measure(url, path, token));
  ok = readyMs <= promised.readyMs && rows.every((row) => row.ok);
  if (values.json) console.log(JSON.stringify({ event: "lists", ok, builds, readyMs, rows }));
  else {
    console.log(`ready after ${seconds(readyMs)}`);
    console.log("median   p99   stall  bytes  list (ms)");
    for (const { path, medianMs, p99Ms, stallMs, bytes, ok: kept } of rows) {
      const figures = [medianMs, p99Ms, stallMs].map((ms) => ms.toFixed(1).padStart(6)).join(" ");
      console.log(`${figures} ${String(bytes).padStart(7)}  ${path}${kept ? "" : "  TOO LONG"}`);
    }
  }
} finally {
  server.kill("SIGTERM");
  await once(server, "exit");
  if (values.state === undefined) await rm(folder, { recursive: true });
}
process.exitCode = ok ? 0 : 1;

async function ready(file: string): Promise<string> {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`the server ended: ${server.exitCode}`);
    const text = await readFile(file, "utf8").catch(() => undefined);
    if (text !== undefined) return (JSON.parse(text) as { api: string }).api;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function measure(url: string, path: string, token: string) {
  const headers = { authorization: `Bearer ${token}` };
  const times: number[] = [];
  let bytes = 0;
  let stallMs = 0;
  const measured = new AbortController();
  const beside = (async () => {
    while (!measured.signal.aborted) {
      const from = performance.now();
      await (await fetch(`${url}/healthz`)).text();
      stallMs = Math.max(stallMs, performance.now() - from);
    }
  })();
  for (let n = 0; n < looks; n++) {
    const from = performance.now();
    const answer = await fetch(`${url}${path}`, { headers });
    const body = await answer.text();
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${body}`);
    times.push(performance.now() - from);
    bytes = body.length;
  }
  measured.abort();
  await beside;
  times.sort((a, b) => a - b);
  const medianMs = times[times.length >> 1]!;
  const p99Ms = times[Math.min(times.length - 1, Math.floor(times.length * 0.99))]!;
  const kept =
    medianMs <= promised.medianMs && p99Ms <= promised.p99Ms && stallMs <= promised.stallMs;
  return { path, medianMs, p99Ms, stallMs, bytes, ok: kept };
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/**
 * Leases at size. First the ledger alone: 1,000 TEs, 500 of them free and fitting nobody, 2,000
 * waiters; each kind of event, its median and 99th percentile (lease.md §9). Then the broker over
 * HTTP, in a process of its own: 100 holders on 100 racks ask, take and release as fast as they
 * can; durable operations a second, and the longest time its event loop was held.
 * Usage: node tools/bench/leases.ts [--seconds 10] [--holders 100] [--json]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { call } from "../../src/base/http-client.ts";
import { decide } from "../../src/lease/ledger/decide.ts";
import type { LedgerEvent } from "../../src/lease/ledger/ledger-event.ts";
import type { Ledger } from "../../src/lease/ledger/ledger-state.ts";
import { emptyLedger } from "../../src/lease/ledger/restoring.ts";
import type { LeaseRequest } from "../../src/model/lease.ts";
import { openScriptedHost } from "../../test/scenarios/scripted-host.ts";
import { samplePolicy, sampleRequest } from "../../test/samples/leases.ts";
import { sampleFacts, sampleReport } from "../../test/samples/hosts.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "10" },
    holders: { type: "string", default: "100" },
    json: { type: "boolean", default: false },
  },
});
const policy = samplePolicy();
const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;

const decisions = measureDecisions();
const http = await measureHttp(Number(values.seconds), Number(values.holders));
if (values.json) console.log(JSON.stringify({ decisions, http }));
else {
  console.log("one event at 1,000 TEs (500 free, fitting nobody) and 2,000 waiters, in ms");
  for (const { kind, medianMs, p99Ms } of decisions) {
    console.log(`  ${kind.padEnd(10)} median ${medianMs.toFixed(2)}  p99 ${p99Ms.toFixed(2)}`);
  }
  console.log(
    `${http.operationsPerSecond} durable operations/s over HTTP (${http.cycles} leases asked, ` +
      `taken, released by ${values.holders} holders); longest stall ${http.longestStallMs} ms`,
  );
}

function measureDecisions() {
  let ledger: Ledger = emptyLedger(policy);
  let nowMs = Date.parse("2026-01-01T00:00:00Z");
  const happen = (event: LedgerEvent): void => {
    ledger = decide(ledger, [event], nowMs).ledger;
  };
  for (let host = 0; host < 100; host++) {
    const facts = sampleFacts({ hostId: uuid(host), name: `h${host}` });
    const reports = Array.from({ length: 10 }, (_, n) => ({
      report: sampleReport({
        number: n + 1,
        labels: n < 5 ? ["big"] : ["small"],
        machines: { count: n < 5 ? 5 : 2, memoryMiB: 256, cpus: 1, diskGiB: 4 },
        certificate: certificateOf(`h${host}`, n + 1),
      }),
      proof: { kind: "valid" } as const,
    }));
    happen({ kind: "hello", facts, reports, processes: [] });
    happen({ kind: "host-open", hostId: facts.hostId });
  }
  const request = (labels: string, memoryMiB: number): LeaseRequest =>
    sampleRequest({ machines: { count: 5, memoryMiB }, labels, durationSeconds: 600 });
  const ask = (id: string, labels = "big", memoryMiB = 1): void =>
    happen({
      kind: "ask",
      id,
      request: request(labels, memoryMiB),
      caller: `c${id.length}`,
      group: "g",
      tenant: "t",
      paired: false,
    });
  for (let n = 0; n < 500; n++) ask(`held-${n}`);
  for (let n = 0; n < 2_000; n++) ask(`waiter-${n}`, `big && !x${n % 50}`, 1 + (n % 100));
  const times = new Map<string, number[]>();
  const time = (kind: string, act: () => void): void => {
    const beganMs = performance.now();
    act();
    times.set(kind, [...(times.get(kind) ?? []), performance.now() - beganMs]);
  };
  for (let n = 0; n < 500; n++) {
    nowMs += 10;
    time("look", () => happen({ kind: "look", id: `waiter-${n}` }));
    time("heard", () => happen({ kind: "heard", hostId: uuid(n % 100), vitals: null }));
    time("ask", () => ask(`new-${n}`));
    time("patch", () =>
      happen({
        kind: "patch",
        id: `waiter-${n}`,
        takeable: n % 2 === 0,
        addresses: null,
        paired: false,
      }),
    );
    time("leave", () => happen({ kind: "release", id: `new-${n}` }));
    time("release", () => happen({ kind: "release", id: `held-${n}` }));
    time("tick", () => happen({ kind: "tick" }));
  }
  return [...times].map(([kind, list]) => ({ kind, ...figuresOf(list) }));
}

function certificateOf(host: string, te: number) {
  const at = "2026-01-01T00:00:00Z";
  const of = { schema: "reset/1" as const, host, te, epoch: 0, lease: null, reason: "provisioned" };
  return { ...of, began: at, ended: at, durationMs: 1, signature: `${host}:${te}` };
}

function figuresOf(list: readonly number[]): { medianMs: number; p99Ms: number } {
  const sorted = list.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(sorted.length * share)]!;
  return { medianMs: at(0.5), p99Ms: at(0.99) };
}

async function measureHttp(seconds: number, holders: number) {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-leases-"));
  const program = join(import.meta.dirname, "lease-server.ts");
  const server = spawn(process.execPath, [program, directory], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface(server.stdout)[Symbol.asyncIterator]();
  const { url, hostUrl } = JSON.parse((await lines.next()).value as string) as {
    url: string;
    hostUrl: string;
  };
  const host = openScriptedHost({ url: hostUrl, racks: holders });
  host.start();
  const endpoint = { url, token: "ry_holder" };
  const ready = async (): Promise<boolean> => {
    const { items } = await call<{ items: { state: string }[] }>(endpoint, "/v1/testenvs");
    return items.filter(({ state }) => state === "ready").length === holders;
  };
  for (let tries = 0; !(await ready()); tries++) {
    if (tries > 300) throw new Error("the racks are not ready");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const untilMs = performance.now() + seconds * 1_000;
  const body = { durationSeconds: 600, machines: { count: 1 }, holder: { name: "bench" } };
  let operations = 0;
  let cycles = 0;
  const hold = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      const lease = await call<{ id: string; token: string }>(endpoint, "/v1/leases", {
        method: "POST",
        body,
      });
      const own = { url, token: lease.token };
      const path = `/v1/leases/${lease.id}`;
      await call(own, `${path}?wait=30s`);
      await call(own, `${path}/testenv.json`);
      await call(own, path, { method: "DELETE" });
      operations += 3; // asked, taken, released
      cycles++;
    }
  };
  const beganMs = performance.now();
  await Promise.all(Array.from({ length: holders }, hold));
  const tookSeconds = (performance.now() - beganMs) / 1_000;
  server.stdin.end();
  const { longestStallMs } = JSON.parse((await lines.next()).value as string) as {
    longestStallMs: number;
  };
  await once(server, "exit");
  await host.die();
  await rm(directory, { recursive: true });
  return { operationsPerSecond: Math.round(operations / tookSeconds), cycles, longestStallMs };
}

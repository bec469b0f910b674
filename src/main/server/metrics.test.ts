import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { failing } from "../../../test/samples/failing-store.ts";
import { buildLife } from "../../ci/builds/record.ts";
import type { Build } from "../../ci/builds/record.ts";
import { sampleBuild, sampleFacts } from "../../ci/builds/samples.test.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import { openSqliteStore } from "../../store/store.ts";
import type { Store } from "../../store/store.ts";
import { openLate } from "./late.ts";
import { openMetrics } from "./metrics.ts";

let directory: string;
let store: Store;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-metrics-"));
  store = await openSqliteStore(join(directory, "test.db"));
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const nothing = () => Promise.resolve([]);
const parts = {
  broker: { fleet: { testenvs: nothing, hosts: nothing } } as unknown as Broker,
  scheduler: openLate<Scheduler>("the scheduler"),
};

function put(to: Store, build: Build, event: string, from: string): Promise<number> {
  const { state, record: body } = build;
  const step = { id: body.facts.id, from, event, to: state, body, atMs: 1 };
  return to.transaction((tx) => to.append(tx, buildLife, step));
}

test("surface.md §5 a build counts once, by pipeline, job and result, when it is durable", async () => {
  const metrics = openMetrics(failing(store, { at: 2 }));
  const { record } = sampleBuild(sampleFacts("b"));
  const over = { ...record, result: "FAILURE" as const, startedMs: 3_000, endedMs: 63_000 };
  const ended: Build = { state: "reported", record: over };
  await put(metrics.store, { state: "preparing", record: over }, "acquired", "acquiring");
  await expect(put(metrics.store, ended, "reported", "archiving")).rejects.toMatchObject({
    code: "no-space",
  });
  await put(metrics.store, ended, "reported", "archiving");
  const marks = [{ step: "voted", atMs: 90_000 }];
  const voted: Build = { state: "reported", record: { ...over, marks } };
  await put(metrics.store, voted, "noted", "reported");
  const text = await metrics.text(parts);
  const labels = 'pipeline="check",job="deploy",result="FAILURE"';
  expect(text).toContain(`rackyard_builds_total{${labels}} 1\n`);
  expect(text).toContain(`rackyard_build_duration_seconds_sum{${labels}} 60\n`);
  expect(text).toContain('rackyard_build_wait_seconds_sum{pipeline="check"} 3\n');
  expect(text).toContain('rackyard_push_to_vote_seconds_sum{pipeline="check"} 90\n');
});

test("surface.md §5 each state is there with 0, and the process says how it is", async () => {
  const text = await openMetrics(store).text(parts);
  for (const state of ["ready", "leased", "resetting", "quarantined"]) {
    expect(text).toContain(`rackyard_testenvs{state="${state}"} 0\n`);
  }
  expect(text).toContain('rackyard_hosts{state="lost"} 0\n');
  expect(text).toContain('rackyard_leases{state="waiting"} 0\n');
  expect(text).toMatch(/^process_resident_memory_bytes \d+$/m);
  expect(text).toMatch(/^nodejs_eventloop_lag_p99_seconds /m);
  expect(text).toMatch(/^rackyard_lease_wait_seconds_count 0$/m);
});

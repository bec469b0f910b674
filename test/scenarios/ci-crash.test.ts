/**
 * kill -9 at every durable step of a change's way (L6, X-4): whatever the transaction, whether
 * it was committed or not, the next server brings the change to one report and gives back every
 * node and rack. The real store, pipelines, saga and outbox; review, racks, nodes in memory.
 */
import { expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/base/limits.ts";
import { buildLife } from "../../src/ci/builds/record.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import { soon } from "./ci-ports.ts";
import { checkPipeline, layoutOf, openSmallReview, openWorld, smallMerger } from "./ci-world.ts";
import type { Kill } from "./ci-world.ts";

const layout = layoutOf(`${checkPipeline}
- job:
    name: deploy
    nodeset: one
    run: ./run.sh
    testenv: { machines: 2 }
- job: { name: unit, nodeset: one, run: make }
- project: { name: app, check: { jobs: [ deploy, unit ] } }
`);

async function open(more: { maxNodes?: number } = {}) {
  const store = await openSqliteStore(":memory:");
  const review = openSmallReview();
  const world = openWorld({ store, review: review.port, merger: smallMerger, ...more });
  onTestFinished(async () => {
    await world.stop();
    await store[Symbol.asyncDispose]();
  });
  return { store, review, world };
}

async function wayOf(kill: Kill | undefined): Promise<{ transactions: number; died: boolean }> {
  const { store, review, world } = await open();
  review.push(1);
  await world.start(layout, kill);
  const done = (): boolean => review.stages().includes("success");
  await soon("the report or the kill", () => done() || world.isDead());
  const died = world.isDead();
  if (died) {
    await world.stop();
    const before = world.transactions();
    await world.start(layout);
    await soon(`the report after a kill at ${before}`, done);
  }
  await soon("racks and nodes back", () => world.racks.open().length + world.nodes.inUse() === 0);
  const marked = async (): Promise<boolean> => {
    const rows = await store.rows(buildLife, { states: ["reported"], limit: 10 });
    const told = rows.filter((row) => row.body.marks.some((mark) => mark.step === "voted"));
    return told.length >= 2 && told.length === rows.length;
  };
  await soon("the votes in the time lines", marked);
  expect(review.stages().toSorted()).toEqual(["start", "success"]);
  expect(review.reports.at(-1)?.votes).toEqual([{ label: "Verified", value: 1 }]);
  expect(world.racks.busy()).toEqual([]);
  expect(world.crashes).toEqual([]);
  return { transactions: world.transactions(), died };
}

test("L6 X-4 killed at any transaction, before or after its commit: one report, nothing leaked", async () => {
  const { transactions } = await wayOf(undefined);
  expect(transactions).toBeGreaterThan(15);
  let deaths = 0;
  for (const when of ["before", "after"] as const) {
    for (let at = 1; at <= transactions; at++) {
      const { died } = await wayOf({ at, when }).catch((error: unknown) => {
        throw new Error(`killed ${when} transaction ${at}`, { cause: error });
      });
      if (died) deaths++;
    }
  }
  expect(deaths).toBeGreaterThan(transactions);
});

test.each(["prepare", "run", "collect"] as const)(
  "X-4 killed while %s runs: retried or gone on with, then SUCCESS",
  async (step) => {
    const { review, world } = await open();
    const go = world.executor.hold("deploy", step);
    review.push(1);
    await world.start(layout);
    await soon(`${step} runs`, () => world.executor.isAt("deploy", step));
    const first = world.racks.leases.length;
    await world.stop();
    go();
    await world.start(layout);
    await soon("the report", () => review.stages().includes("success"));
    expect(review.stages()).toEqual(["start", "success"]);
    const attempts = world.executor.calls.filter((call) => call.includes("deploy run"));
    // A restart uses no attempt: the build that takes its place is the first one still.
    expect(new Set(attempts)).toEqual(new Set(["1,1 deploy run 1"]));
    expect(world.racks.leases.length).toBe(step === "collect" ? first : first + 1);
    expect(world.racks.open()).toEqual([]);
    expect(world.crashes).toEqual([]);
  },
);

test.each(["prepare", "run"] as const)(
  "X-4 killed while %s runs, an executor that remembers: the same build goes on, on the same rack",
  async (step) => {
    const { review, world } = await open();
    world.executor.remember();
    const go = world.executor.hold("deploy", step);
    review.push(1);
    await world.start(layout);
    await soon(`${step} runs`, () => world.executor.isAt("deploy", step));
    await world.stop();
    go();
    await world.start(layout);
    await soon("the report", () => review.stages().includes("success"));
    expect(world.racks.leases).toHaveLength(1);
    expect(world.archive.finished.toSorted()).toEqual(["deploy SUCCESS", "unit SUCCESS"]);
    expect(world.crashes).toEqual([]);
  },
);

test("X-4 eleven restarts while it runs: the job ends without a vote, not with −1", async () => {
  const { review, world } = await open();
  world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  for (let restarts = 0; restarts < 11; restarts++) {
    await soon("it runs", () => world.executor.isAt("deploy", "run"));
    await world.stop();
    await world.start(layout);
  }
  await soon("the report", () => review.stages().includes("failure"));
  expect(review.reports.at(-1)).toMatchObject({ votes: [] });
  expect(review.reports.at(-1)?.message).toContain("RETRY_LIMIT");
  expect(world.crashes).toEqual([]);
}, 60_000);

test("a server that heard nothing of reset and node: both are in the time line all the same", async () => {
  const { store, review, world } = await open();
  world.keepEnds(false);
  review.push(1);
  await world.start(layout);
  await soon("the report", () => review.stages().includes("success"));
  await world.stop();
  world.keepEnds(true);
  await world.start(layout);
  await soon("whole time lines", async () => {
    const rows = await store.rows(buildLife, { states: ["reported"], limit: 10 });
    const deploy = rows.find((row) => row.body.facts.job.name === "deploy");
    const steps = deploy?.body.marks.map((mark) => mark.step) ?? [];
    return steps.includes("reset") && steps.includes("node-deleted");
  });
  expect(world.crashes).toEqual([]);
});

test("L7 X-4 killed while it waits for a rack: the same lease, its place kept, no attempt used", async () => {
  const { review, world } = await open();
  world.racks.takeAway("here:1");
  review.push(1);
  await world.start(layout);
  await soon("the lease is offered", () => world.racks.leases.some((lease) => lease.takeable));
  await world.stop();
  const before = world.racks.offers();
  await world.start(layout);
  // Held back, then offered again, with its node's address.
  await soon("it is offered anew", () => world.racks.offers() >= before + 2);
  world.racks.bringBack("here:1");
  await soon("the report", () => review.stages().includes("success"));
  expect(world.racks.leases).toHaveLength(1);
  expect(world.executor.calls).toContain("1,1 deploy run 1");
  expect(world.crashes).toEqual([]);
});

test("Q-1 superseded, then killed before the builds were cancelled: they are, after the start", async () => {
  const { review, world } = await open();
  world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  await soon("it runs", () => world.executor.isAt("deploy", "run"));
  await world.stop();
  review.push(1);
  await world.start(layout);
  await soon("patchset 2 runs", () => world.executor.calls.includes("1,2 deploy run 1"));
  expect(review.stages().filter((stage) => stage === "success")).toEqual([]);
  expect(world.crashes).toEqual([]);
});

test("N-1 after a restart a node in use counts: who waits for the next one is not told NODE_FAILURE", async () => {
  const { review, world } = await open({ maxNodes: 1 });
  world.executor.remember();
  world.executor.hold("unit", "run");
  world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  const runs = (): boolean =>
    world.executor.isAt("unit", "run") || world.executor.isAt("deploy", "run");
  await soon("one runs", runs);
  await world.stop();
  await world.start(layout);
  await soon("it goes on", runs);
  const waiting = (): boolean => world.happened.includes("build deploy asked");
  await soon("the other waits", waiting);
  world.skip(limits.nodeWaitMs + 1_000);
  await soon("a pass", () => world.nodes.looks() > 0);
  expect(world.happened.filter((one) => one.endsWith(" stop"))).toEqual([]);
  expect(review.stages()).toEqual(["start"]);
  expect(world.crashes).toEqual([]);
});

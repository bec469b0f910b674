/**
 * What fails once, or for a while, on a change's way: every transaction, and every call of every
 * port. Nothing is killed: the same server goes on by itself, to one report and with every node
 * and rack given back. The real store, pipelines, saga and outbox; ports in memory.
 */
import { expect, onTestFinished, test } from "vitest";
import { buildLife } from "../../src/ci/builds/record.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import { failing } from "../samples/failing-store.ts";
import type { Failures } from "../samples/failing-store.ts";
import { openFaults, soon } from "./ci-ports.ts";
import type { PortFault } from "./ci-ports.ts";
import { checkPipeline, layoutOf, openSmallReview, openWorld, smallMerger } from "./ci-world.ts";

const layout = layoutOf(`${checkPipeline}
- job: { name: deploy, nodeset: one, run: ./run.sh, testenv: { machines: 2 } }
- job: { name: unit, nodeset: one, run: make }
- project: { name: app, check: { jobs: [ deploy, unit ] } }
`);

const never: Failures = { at: Infinity };

async function way(broken: { readonly store?: Failures; readonly fault?: PortFault }) {
  const real = await openSqliteStore(":memory:");
  const store = failing(real, broken.store ?? never);
  const review = openSmallReview();
  const faults = openFaults();
  const world = openWorld({ store, review: review.port, merger: smallMerger, faults });
  onTestFinished(async () => {
    await world.stop();
    await real[Symbol.asyncDispose]();
  });
  faults.set(broken.fault);
  review.push(1);
  await world.start(layout);
  await soon("the report", () => review.stages().includes("success"));
  await soon("racks and nodes back", () => world.racks.open().length + world.nodes.inUse() === 0);
  await soon("whole time lines", async () => {
    const rows = await real.rows(buildLife, { states: ["reported"], limit: 20 });
    const steps = rows.map((row) => new Set(row.body.marks.map((mark) => mark.step)));
    return steps.length >= 2 && steps.every((one) => one.has("voted"));
  });
  expect(review.stages().toSorted()).toEqual(["start", "success"]);
  expect(review.reports.at(-1)?.votes).toEqual([{ label: "Verified", value: 1 }]);
  expect(world.racks.busy()).toEqual([]);
  expect(world.crashes).toEqual([]);
  await soon("no trouble left", () => world.troubles.list().length === 0);
  await world.stop();
  return { transactions: store.transactions, failed: store.failed, counts: faults.counts, faults };
}

test("P1 each transaction fails once, or a few in a row: one report, nothing stranded", async () => {
  const { transactions } = await way({});
  expect(transactions).toBeGreaterThan(15);
  for (const times of [1, 2]) {
    for (let at = 1; at <= transactions; at++) {
      const { failed } = await way({ store: { at, times } }).catch((error: unknown) => {
        throw new Error(`${times} failed from transaction ${at}`, { cause: error });
      });
      expect(failed).toBeGreaterThan(0);
    }
  }
}, 300_000);

test("P1 each call of each port fails once, or a few in a row: one report, nothing stranded", async () => {
  const { counts } = await way({});
  const calls = [...counts];
  expect(calls.length).toBeGreaterThan(12);
  for (const [key, count] of calls) {
    const [port, method] = key.split(".") as [string, string];
    for (let at = 1; at <= Math.min(count, 3); at++) {
      for (const times of [1, 2]) {
        const { faults } = await way({ fault: { port, method, at, times } }).catch(
          (error: unknown) => {
            throw new Error(`${times} of ${key} failed from call ${at}`, { cause: error });
          },
        );
        expect(faults.failed()).toBeGreaterThan(0);
      }
    }
  }
}, 300_000);

test("P1 the store is away while a build runs: status says so, and it goes on by itself", async () => {
  const real = await openSqliteStore(":memory:");
  const store = failing(real, never);
  const review = openSmallReview();
  const world = openWorld({ store, review: review.port, merger: smallMerger });
  onTestFinished(async () => {
    await world.stop();
    await real[Symbol.asyncDispose]();
  });
  const go = world.executor.hold("deploy", "run");
  review.push(1);
  await world.start(layout);
  await soon("it deploys", () => world.executor.isAt("deploy", "run"));
  store.failAgain({ at: 1, times: Infinity });
  go();
  await soon("the trouble is told", () =>
    world.troubles.list().some((trouble) => trouble.what === "recording builds"),
  );
  expect(world.racks.busy()).toEqual(["here:1"]);
  store.heal();
  await soon("the report", () => review.stages().includes("success"));
  expect(world.troubles.list()).toEqual([]);
  expect(world.crashes).toEqual([]);
});

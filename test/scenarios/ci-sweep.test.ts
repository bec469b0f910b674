/**
 * What the merger may forget (ci.md M-4): never what an item or build that lives may still fetch.
 */
import { expect, onTestFinished, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import type { Merger } from "../../src/ci/merger/merger.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import { checkPipeline, layoutOf, openSmallReview, openWorld, smallMerger } from "./ci-world.ts";

test("M-4 the sweep is told of every living buildset, also of one that came meanwhile", async () => {
  const store = await openSqliteStore(":memory:");
  const review = openSmallReview();
  let live: Parameters<Merger["sweep"]>[0] | undefined;
  const merging = Promise.withResolvers<void>();
  const asked: string[] = [];
  const merger: Pick<Merger, "prepare" | "sweep"> = {
    async prepare(request, signal) {
      asked.push(request.buildset);
      await merging.promise;
      return smallMerger.prepare(request, signal);
    },
    sweep(of) {
      live = of;
      return Promise.resolve({ forgotten: 0 });
    },
  };
  const world = openWorld({ store, review: review.port, merger });
  onTestFinished(async () => {
    await world.stop();
    await store[Symbol.asyncDispose]();
  });
  const project = "- project: { name: app, check: { jobs: [ noop ] } }";
  await world.start(layoutOf(`${checkPipeline}${project}`));
  const soon = (what: string, is: () => boolean) => until(is, { timeoutMs: 10_000, what });
  await soon("the first sweep", () => live !== undefined);
  expect([...live!()]).toEqual([]);
  review.push(1);
  await soon("a merge under way", () => asked.length === 1);
  expect([...live!()]).toEqual(asked);
  merging.resolve();
  await soon("the report", () => review.reports.length > 0);
  await soon("nothing that lives", () => live!().size === 0);
});

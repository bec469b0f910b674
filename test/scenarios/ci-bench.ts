/**
 * The CI on real git: store, review system, merger, layout, scheduler and saga are the real ones;
 * nodes, racks and what runs on them are held ports (ci-ports.ts). Changes are pushed by the real
 * git client.
 */
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { openMerger } from "../../src/ci/merger/merger.ts";
import type { Scheduler } from "../../src/ci/scheduler.ts";
import { openBench } from "../conformance/git-bench.ts";
import { soon } from "./ci-ports.ts";
import { checkPipeline, layoutOf, openWorld } from "./ci-world.ts";

export const jobs = `${checkPipeline}
- job: { name: unit, nodeset: one, run: make, required-projects: [ lib ] }
- job: { name: deploy, nodeset: one, run: ./run.sh, testenv: { machines: 2 }, attempts: 2 }
- job: { name: style, nodeset: one, run: lint, voting: false }
- project: { name: app, check: { jobs: [ unit, deploy ] } }
- project: { name: lib, check: { jobs: [ style ] } }
- project: { name: alone, check: { jobs: [ noop ] } }
- project: { name: quiet }
`;
export const projects = ["app", "lib", "alone", "quiet"];

/** Opens all of it; ends it with the test. */
export async function openCi(given: { racks?: string[]; maxNodes?: number; layout?: string } = {}) {
  const bench = await openBench(projects);
  for (const project of projects) {
    if (project !== "quiet") await bench.seed(project, { "a.txt": "a\n", "b.txt": "b\n" });
  }
  const merger = openMerger({
    directory: join(bench.directory, "server/merger"),
    git: bench.git,
    source: (project) => bench.review.source(project),
    log: silentLog,
  });
  const { racks, maxNodes } = given;
  const world = openWorld({
    store: bench.store,
    review: bench.review,
    merger,
    ...(racks ? { racks } : {}),
    ...(maxNodes === undefined ? {} : { maxNodes }),
  });
  onTestFinished(async () => {
    await world.stop();
    await bench[Symbol.asyncDispose]();
    expect(world.crashes).toEqual([]);
  });
  const layout = layoutOf(given.layout ?? jobs);
  let scheduler = (await world.start(layout))!;
  const { views } = bench.review;
  return {
    bench,
    world,
    layout,
    merger,
    views,
    get ci(): Scheduler {
      return scheduler;
    },
    async restart() {
      await world.stop();
      scheduler = (await world.start(layout))!;
    },
    /** Pushes a new change of one commit by an author of its own; gives author and number. */
    async push(file: string, text: string, project = "app") {
      const author = await bench.author("dora", project);
      await author.commit(file, text, `Change ${file}`);
      const pushed = await author.push("refs/for/master");
      const number = Number(/change (\d+) patchset/.exec(pushed.stderr)?.[1]);
      return { author, number };
    },
    /** The CI's comments on a change, oldest first. */
    async said(number: number): Promise<string[]> {
      const { comments } = await views.get(number);
      return comments.filter((one) => one.by === "Rackyard CI").map((one) => one.text);
    },
    async verified(number: number): Promise<number | undefined> {
      const { votes } = await views.get(number);
      return votes.find((vote) => vote.label === "Verified")?.value;
    },
    async isVerified(number: number, value: number) {
      await soon(`Verified ${value} on ${number}`, async () => {
        const { votes } = await views.get(number);
        return votes.some((vote) => vote.label === "Verified" && vote.value === value);
      });
    },
  };
}

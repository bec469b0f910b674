/**
 * The built-in review system under the contract that every driver keeps.
 */
import { afterEach, beforeEach, describe, expect } from "vitest";
import { caller, openBench } from "./git-bench.ts";
import type { Author, Bench } from "./git-bench.ts";
import { reviewContract } from "./review-contract.ts";
import type { ReviewFixture } from "./review-contract.ts";

let bench: Bench;
let dora: Author;
let otto: Author;
beforeEach(async () => {
  bench = await openBench(["app"]);
  await bench.seed("app");
  dora = await bench.author("dora");
  otto = await bench.author("otto");
});
afterEach(() => bench[Symbol.asyncDispose]());

async function pushed(author: Author): Promise<number> {
  const result = await author.push("refs/for/master");
  expect(result.exitCode, result.stderr).toBe(0);
  return Number([...result.stderr.matchAll(/change (\d+) patchset/g)].at(-1)?.[1]);
}

async function onto(ref: string): Promise<void> {
  await dora.ok("fetch", "-q", "origin", ref);
  await dora.ok("checkout", "-q", "--detach", "FETCH_HEAD");
}

async function current(number: number): Promise<string> {
  return (await bench.review.change(number)).patchsets.at(-1)!.ref;
}

const fixture = (): ReviewFixture => ({
  port: bench.review,
  project: "app",
  branch: "master",
  async push(file, text) {
    await onto("refs/heads/master");
    await dora.commit(file, text, `Change ${file}`);
    return pushed(dora);
  },
  async pushOnto(number, file, text) {
    await onto(await current(number));
    await dora.commit(file, text, `Change ${file}`);
    return pushed(dora);
  },
  async amend(number) {
    await onto(await current(number));
    await dora.ok("commit", "-q", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z");
    await pushed(dora);
  },
  vote: async (number, label, value) =>
    void (await bench.review.views.vote(number, { label, value }, caller("dirk"))),
  comment: async (number, text) =>
    void (await bench.review.views.comment(number, text, caller("dirk"))),
  abandon: async (number) => void (await bench.review.views.abandon(number, caller("dora"))),
  restore: async (number) => void (await bench.review.views.restore(number, caller("dora"))),
  async advance(file, text) {
    await otto.ok("fetch", "-q", "origin", "master");
    await otto.ok("checkout", "-q", "--detach", "FETCH_HEAD");
    await otto.commit(file, text, "Move on", null);
    expect((await otto.push("refs/heads/master")).exitCode).toBe(0);
  },
  async read(file) {
    const source = bench.review.source("app")!;
    return (await bench.git.run(source, ["show", `refs/heads/master:${file}`])).stdout;
  },
  async votes(number) {
    const { votes } = await bench.review.views.get(number);
    const ours = votes.filter((vote) => vote.by === "Rackyard CI");
    return new Map(ours.map((vote) => [vote.label, vote.value]));
  },
  restart: () => bench.restart(),
});

describe("the built-in review system", () => {
  reviewContract(fixture);
});

/** Suites under vitest in a planted tree: nothing that broke may look skipped or be forgotten. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runCheck, runSuite } from "./suite.ts";
import type { Surroundings } from "./suite.ts";

const tree = join(import.meta.dirname, "../../..");
let around: Surroundings;
const said: string[] = [];

beforeAll(() => {
  const root = mkdtempSync(join(tmpdir(), "rackyard-suite-"));
  for (const folder of ["src", "tools"]) mkdirSync(join(root, folder));
  symlinkSync(join(tree, "node_modules"), join(root, "node_modules"));
  for (const file of ["package.json", "vitest.config.ts", "tools/test-reporter.ts"]) {
    copyFileSync(join(tree, file), join(root, file));
  }
  const say = (text: string): void => void said.push(text);
  const signal = new AbortController().signal;
  around = { root, directory: root, deep: false, say, signal };
});
afterAll(() => rmSync(around.root, { recursive: true }));

const pure = { name: "pure", alone: false, boots: false };

function plant(file: string, ...lines: string[]): void {
  const head = 'import { beforeAll, describe, expect, test } from "vitest";';
  writeFileSync(join(around.root, "src", file), [head, ...lines].join("\n"));
}

test("counts what passed, failed, was skipped and why, and what broke around tests", async () => {
  plant(
    "a.test.ts",
    'test("good", () => {});',
    'test("bad", () => expect(1).toBe(2));',
    'test("noted", (it) => it.skip("no tape drive"));',
    'test.runIf(process.env.RACKYARD_TEST_DEEP)("deep: all seeds", () => {});',
    'test("has a place", () => expect(process.env.TMPDIR).toBe(process.env.RACKYARD_TEST_DIRECTORY));',
    'describe("broken", () => {',
    '  beforeAll(() => { throw new Error("no set-up"); });',
    '  test("never ran", () => {});',
    "});",
  );
  plant("b.test.ts", 'throw new Error("does not load");');
  const outcomes = await runSuite(pure, around);
  const short = outcomes.map(
    ({ name, state }) => `${state} ${name.replace(/^src\/|\.test\.ts/g, "")}`,
  );
  expect(short.toSorted()).toEqual([
    "failed a > bad",
    "failed a > broken (set-up)",
    "failed b (loading or set-up)",
    "passed a > good",
    "passed a > has a place",
    "skipped a > broken > never ran",
    "skipped a > deep: all seeds",
    "skipped a > noted",
  ]);
  const reasons = outcomes.filter(({ state }) => state === "skipped").map(({ text }) => text);
  expect(reasons.toSorted()).toEqual([
    "deep: runs with --deep",
    "its set-up failed",
    "no tape drive",
  ]);
  expect(said.join("\n")).toContain("expected 1 to be 2");
});

test("with --deep the deep ones run; a suite without tests is nothing", async () => {
  rmSync(join(around.root, "src/b.test.ts"));
  plant("a.test.ts", 'test.runIf(process.env.RACKYARD_TEST_DEEP)("deep: all", () => {});');
  const outcomes = await runSuite(pure, { ...around, deep: true });
  expect(outcomes.map(({ state }) => state)).toEqual(["passed"]);
  expect(await runSuite({ ...pure, name: "web" }, around)).toEqual([]);
});

test("a vitest that cannot start is a failure", async () => {
  const outcomes = await runSuite({ ...pure, name: "no-such-project" }, around);
  expect(outcomes.some(({ state }) => state === "failed")).toBe(true);
});

test("a check that fails tells what it said", async () => {
  writeFileSync(
    join(around.root, "tools/check.ts"),
    'console.log("a.ts:1: wrong");process.exit(1)',
  );
  const check = { name: "tidy", script: "tools/check.ts", args: [] };
  expect(await runCheck(check, around)).toEqual([
    { name: "tidy", state: "failed", text: "a.ts:1: wrong" },
  ]);
});

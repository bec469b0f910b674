/**
 * Vitest's reporter for `./rackyard test`: says on stderr how each test file went, as it ends, and
 * leaves the whole result as JSON in the file that RACKYARD_TEST_RESULTS names, for
 * src/main/test/suite.ts, which reads it by its schema. A file that does not load and a set-up
 * that fails count as failures of their own: nothing that broke is only skipped.
 */
import { writeFileSync } from "node:fs";
import { stripVTControlCharacters } from "node:util";
import type { Reporter, TestCase, TestModule, TestSuite } from "vitest/node";

type Entry = {
  name: string;
  state: "passed" | "failed" | "skipped";
  /** Why it was skipped, or what failed. */
  text: string;
  durationMs: number;
};

const entries: Entry[] = [];
const say = (text: string): void => void process.stderr.write(`${text}\n`);
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

type Wrong = { message: string; stack?: string | undefined; diff?: string | undefined };

function textOf(errors: readonly Wrong[]): string {
  return errors
    .map(({ message, stack, diff }) => {
      const own = stack?.split("\n").filter((line) => !line.includes("node_modules"));
      const where = own?.slice(0, 12).join("\n");
      return stripVTControlCharacters([message, diff, where].filter(Boolean).join("\n"));
    })
    .join("\n");
}

function add(entry: Entry): void {
  entries.push(entry);
  if (entry.state === "failed") say(`    ✗ ${entry.name}\n${entry.text.replace(/^/gm, "      ")}`);
}

function addBroken(name: string, errors: readonly Wrong[]): void {
  if (errors.length > 0) add({ name, state: "failed", text: textOf(errors), durationMs: 0 });
}

function reasonOf(test: TestCase, note: string | undefined): string {
  if (note) return note;
  const broken = test.parent.type === "suite" ? test.parent.errors() : test.module.errors();
  if (broken.length > 0) return "its set-up failed";
  if (/\bdeep\b/i.test(test.fullName)) return "deep: runs with --deep";
  return test.options.mode === "todo" ? "not written" : "its condition does not hold here";
}

export default class RackyardReporter implements Reporter {
  onTestCaseResult(test: TestCase): void {
    const result = test.result();
    const name = `${test.module.relativeModuleId} > ${test.fullName}`;
    const durationMs = test.diagnostic()?.duration ?? 0;
    if (result.state === "failed") {
      add({ name, state: "failed", text: textOf(result.errors), durationMs });
    } else if (result.state === "skipped") {
      add({ name, state: "skipped", text: reasonOf(test, result.note), durationMs });
    } else add({ name, state: "passed", text: "", durationMs });
  }

  onTestSuiteResult(suite: TestSuite): void {
    addBroken(`${suite.module.relativeModuleId} > ${suite.fullName} (set-up)`, suite.errors());
  }

  onTestModuleEnd(module: TestModule): void {
    addBroken(`${module.relativeModuleId} (loading or set-up)`, module.errors());
    const count = [...module.children.allTests()].length;
    const mark = module.ok() ? "✓" : "✗";
    say(`  ${mark} ${module.relativeModuleId}: ${count}, ${seconds(module.diagnostic().duration)}`);
  }

  onTestRunEnd(_modules: unknown, unhandled: readonly Wrong[]): void {
    addBroken("an error outside of any test", unhandled);
    const file = process.env.RACKYARD_TEST_RESULTS;
    if (file) writeFileSync(file, JSON.stringify({ entries }));
  }
}

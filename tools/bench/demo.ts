/**
 * Repeats the figures of the demo: runs `./rackyard demo --json` several times on one state
 * directory and prints medians and ranges. What each run says goes to a file of its own; nothing
 * is stopped or removed. Exit 1 if a run was not as expected.
 * Usage: node tools/bench/demo.ts [--state DIR] [--runs 3] [--break] [--json]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { figuresOf, figuresText, readRun } from "./figures.ts";
import type { Run } from "./figures.ts";

const { values } = parseArgs({
  options: {
    state: { type: "string", default: process.env["RACKYARD_STATE"] ?? "/var/lib/rackyard" },
    runs: { type: "string", default: "3" },
    break: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const count = Number(values.runs);
if (!Number.isInteger(count) || count < 1) {
  console.error(`error: --runs ${values.runs} is no number of runs (usage)`);
  process.exit(64);
}
const rackyard = join(import.meta.dirname, "../../rackyard");
const folder = await mkdtemp(join(tmpdir(), "rackyard-bench-"));
const runs: Run[] = [];
for (let n = 1; n <= count; n++) {
  const run = await runDemo(n);
  runs.push(run);
  console.error(`run ${n} of ${count}: ${run.ok ? "ok" : `not ok: ${run.failure}`}`);
}
const figures = figuresOf(runs);
const ok = runs.every((run) => run.ok);
if (values.json) {
  console.log(JSON.stringify({ event: "bench", ok, runs: count, state: values.state, figures }));
} else {
  console.log(figuresText(figures));
}
console.error(`what the runs said: ${folder}`);
process.exitCode = ok ? 0 : 1;

async function runDemo(n: number): Promise<Run> {
  const words = ["demo", "--json", "--state", values.state, ...(values.break ? ["--break"] : [])];
  const child = spawn(rackyard, words, { stdio: ["ignore", "pipe", "inherit"] });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  await writeFile(join(folder, `run-${n}.jsonl`), output);
  const run = readRun(output);
  return code === 0 || !run.ok ? run : { ...run, ok: false, failure: `exit ${String(code)}` };
}

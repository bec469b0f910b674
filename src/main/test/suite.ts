/**
 * Runs one check, or one suite of tests under vitest, as a child process, and says what came of
 * it. Talk of the children goes to stderr as it comes. Knows nothing of order and counts.
 */
import { readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { forEachLine, launch, run } from "../../base/command.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Check, Outcome, Suite } from "./steps.ts";

export type Surroundings = {
  /** The tree. */
  readonly root: string;
  /** The run's own directory, removed at its end. */
  readonly directory: string;
  readonly deep: boolean;
  /** What a machine takes to boot here; tests scale their limits by it. */
  readonly bootMs?: number | undefined;
  readonly say: (text: string) => void;
  readonly signal: AbortSignal;
};

/** Where a calibration boot lives, if the live tests bring one: prints milliseconds. */
export const calibration = "test/live/calibrate.ts";

export async function runCheck(check: Check, around: Surroundings): Promise<Outcome[]> {
  const result = await run(process.execPath, [join(around.root, check.script), ...check.args], {
    cwd: around.root,
    env: environment(around),
    timeoutMs: limits.testCheckMs,
    signal: around.signal,
    accept: "any",
  });
  if (result.exitCode === 0) return [{ name: check.name, state: "passed", text: "" }];
  const text = `${result.stdout}${result.stderr}`.trim() || `exit ${result.exitCode}`;
  around.say(text.replace(/^/gm, "    "));
  return [{ name: check.name, state: "failed", text: text.split("\n")[0] ?? "" }];
}

/** Runs a vitest project. A suite that does not end well without a failed test has failed too. */
export async function runSuite(suite: Suite, around: Surroundings): Promise<Outcome[]> {
  const results = join(around.directory, `${suite.name}.json`);
  await rm(results, { force: true });
  const args = [
    "node_modules/vitest/vitest.mjs",
    "run",
    `--project=${suite.name}`,
    "--passWithNoTests",
    "--reporter=./tools/test-reporter.ts",
  ];
  await using child = launch(process.execPath, args, {
    cwd: around.root,
    env: { ...environment(around), RACKYARD_TEST_RESULTS: results },
  });
  const stop = (): void => void child.end("abort");
  around.signal.addEventListener("abort", stop, { once: true });
  const timer = setTimeout(() => void child.end("timeout"), limits.testSuiteMs);
  try {
    const [exit] = await Promise.all([
      child.exited,
      forEachLine(child.stdout!, around.say),
      forEachLine(child.stderr!, around.say),
    ]);
    around.signal.throwIfAborted();
    const outcomes = await readOutcomes(results);
    if (exit.code === 0 || outcomes.some(({ state }) => state === "failed")) return outcomes;
    const text = exit.ended === "timeout" ? "did not end in time" : `vitest: exit ${exit.code}`;
    return [...outcomes, { name: `${suite.name} (the whole suite)`, state: "failed", text }];
  } finally {
    clearTimeout(timer);
    around.signal.removeEventListener("abort", stop);
  }
}

/** Boots one machine, so that the tests know what this machine can do; milliseconds. */
export async function calibrate(around: Surroundings): Promise<number> {
  const { stdout } = await run(process.execPath, [join(around.root, calibration)], {
    cwd: around.root,
    env: environment(around),
    timeoutMs: limits.testCalibrationMs,
    signal: around.signal,
  });
  const bootMs = Number(stdout.trim().split("\n").at(-1));
  if (!(bootMs > 0)) throw new Error(`${calibration} printed no milliseconds: ${stdout.trim()}`);
  return bootMs;
}

async function readOutcomes(file: string): Promise<Outcome[]> {
  try {
    const { entries } = JSON.parse(await readFile(file, "utf8")) as { entries: Outcome[] };
    return entries;
  } catch (error) {
    const text = `no result: ${describeError(error)}`;
    return [{ name: "the suite's result", state: "failed", text }];
  }
}

/** The user's environment, with this Node first, a place of its own, and nothing of ours beside. */
function environment(around: Surroundings): Record<string, string> {
  const own: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !name.startsWith("RACKYARD_")) own[name] = value;
  }
  const path = [dirname(process.execPath), join(around.root, "node_modules/.bin"), own.PATH ?? ""];
  return {
    ...own,
    PATH: path.join(":"),
    TMPDIR: around.directory,
    NO_COLOR: "1",
    RACKYARD_TEST_DIRECTORY: around.directory,
    ...(around.deep ? { RACKYARD_TEST_DEEP: "1" } : {}),
    ...(around.bootMs === undefined ? {} : { RACKYARD_TEST_BOOT_MS: String(around.bootMs) }),
  };
}

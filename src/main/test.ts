/**
 * `rackyard test`: checks of the tree, then its tests, in the order of test/steps.ts, each with its
 * time on stderr; last line `N passed, N failed, N skipped`, exit code 0 iff none failed. It has a
 * directory of its own, removed at the end, and leaves a running `up` alone; suites that boot
 * machines wait for those of another run, so that neither slows the other down.
 */
import { existsSync } from "node:fs";
import { chmod, rm } from "node:fs/promises";
import { join } from "node:path";
import { describeError, fail, isRackyardError } from "../base/errors.ts";
import { temporaryFolder } from "../base/files.ts";
import { lockFile } from "../base/lock.ts";
import { limits } from "../base/limits.ts";
import { pause } from "../base/wait.ts";
import { endEverything, findLeftovers } from "./test/leftovers.ts";
import { checks, suites } from "./test/steps.ts";
import type { Outcome, Suite } from "./test/steps.ts";
import { calibrate, calibration, runCheck, runSuite } from "./test/suite.ts";
import type { Surroundings } from "./test/suite.ts";

type TestArguments = {
  /** One suite alone: pure, sim, scenarios, conformance, live or web. */
  readonly only?: string | undefined;
  readonly deep: boolean;
  readonly json: boolean;
};

type Step = { readonly name: string; readonly run: () => Promise<Outcome[]> };
type Told = { readonly step: string; readonly ms: number; readonly outcomes: readonly Outcome[] };

/** One run on the whole machine at a time, where machines are booted. */
const aloneLock = process.getuid?.() === 0 ? "/run/rackyard-test.lock" : undefined;

/** Runs it all and returns the exit code: 0 or 1, or 130 and 143 when interrupted. */
export async function runTests(args: TestArguments): Promise<number> {
  if (args.only !== undefined && !suites.some(({ name }) => name === args.only)) {
    const known = suites.map(({ name }) => name).join(", ");
    fail("usage", `--only ${args.only}: no such suite`, { remedy: `one of ${known}` });
  }
  const stop = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => stop.abort(signal);
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  const directory = await temporaryFolder("rackyard-test-");
  await chmod(directory, 0o711); // tests run programs of other users in it, as in /tmp itself
  const began = performance.now();
  try {
    const told = await runSteps(args, directory, stop.signal);
    return report(args, told, performance.now() - began);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    say(`interrupted (${String(stop.signal.reason)}): ending what the tests had started`);
    await endEverything(directory);
    return stop.signal.reason === "SIGINT" ? 130 : 143;
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
    await rm(directory, { recursive: true, force: true });
  }
}

async function runSteps(
  args: TestArguments,
  directory: string,
  signal: AbortSignal,
): Promise<Told[]> {
  const root = join(import.meta.dirname, "../..");
  const around: Surroundings = { root, directory, deep: args.deep, say, signal };
  const chosen = suites.filter(({ name }) => args.only === undefined || name === args.only);
  const steps: Step[] = [
    ...(args.only === undefined
      ? checks.map((check) => ({ name: check.name, run: () => runCheck(check, around) }))
      : []),
    ...chosen.map((suite) => ({ name: suite.name, run: () => runAlone(suite, around) })),
    { name: "nothing left", run: () => nothingLeft(directory) },
  ];
  const told: Told[] = [];
  for (const [index, step] of steps.entries()) {
    say(`[${index + 1}/${steps.length}] ${step.name}`);
    const began = performance.now();
    const outcomes = await step.run();
    const ms = Math.round(performance.now() - began);
    told.push({ step: step.name, ms, outcomes });
    say(`    ${counted(outcomes)} (${(ms / 1000).toFixed(1)} s)`);
  }
  return told;
}

/** Runs a suite; one that boots machines only when no other run of tests does. */
async function runAlone(suite: Suite, around: Surroundings): Promise<Outcome[]> {
  if (!suite.alone || aloneLock === undefined) return runSuite(suite, around);
  await using _ = await waitForLock(aloneLock, around.signal);
  if (!suite.boots || !existsSync(join(around.root, calibration))) return runSuite(suite, around);
  let bootMs: number;
  try {
    bootMs = await calibrate(around);
  } catch (error) {
    around.signal.throwIfAborted();
    const text = describeError(error);
    say(`    ✗ the calibration boot: ${text}`);
    return [
      { name: "calibration boot", state: "failed", text },
      ...(await runSuite(suite, around)),
    ];
  }
  say(`    a machine boots in ${(bootMs / 1000).toFixed(1)} s here`);
  return runSuite(suite, { ...around, bootMs });
}

/** What the tests started has ended with them, what they mounted is undone. */
async function nothingLeft(directory: string): Promise<Outcome[]> {
  const found = await findLeftovers(directory);
  for (const leftover of found) await leftover.end();
  if (found.length === 0) return [{ name: "nothing left", state: "passed", text: "" }];
  return found.map(({ name }) => {
    const text = "a test did not end what it started";
    return { name: `left behind: ${name.slice(0, 200)}`, state: "failed", text };
  });
}

async function waitForLock(path: string, signal: AbortSignal): Promise<AsyncDisposable> {
  const until = performance.now() + limits.testLockMs;
  for (let told = false; ; told = true) {
    try {
      return await lockFile(path, "the test machine");
    } catch (error) {
      if (!isRackyardError(error, "state-in-use") || performance.now() > until) throw error;
      if (!told) say(`    waiting: ${error.message}, for its own tests`);
    }
    await pause(limits.backoffFirstMs, signal);
  }
}

/** Tells skipped ones with their reasons, failed ones again, and the last line. */
function report(args: TestArguments, told: readonly Told[], ms: number): number {
  const outcomes = told.flatMap((step) => step.outcomes);
  const failed = outcomes.filter(({ state }) => state === "failed");
  for (const { name, text } of outcomes.filter(({ state }) => state === "skipped")) {
    say(`skipped: ${name}: ${text}`);
  }
  for (const { name } of failed) say(`failed: ${name}`);
  say(`${(ms / 1000).toFixed(0)} s`);
  if (args.json) {
    const steps = told.map(({ step, ms: stepMs, outcomes: own }) => {
      return { name: step, durationMs: stepMs, ...counts(own) };
    });
    const durationMs = Math.round(ms);
    const failures = failed.map(({ name, text }) => ({ name, text }));
    print(JSON.stringify({ event: "test", ...counts(outcomes), durationMs, steps, failures }));
  }
  print(counted(outcomes));
  return failed.length === 0 ? 0 : 1;
}

function counts(outcomes: readonly Outcome[]): { passed: number; failed: number; skipped: number } {
  const count = (state: Outcome["state"]): number =>
    outcomes.filter((outcome) => outcome.state === state).length;
  return { passed: count("passed"), failed: count("failed"), skipped: count("skipped") };
}

function counted(outcomes: readonly Outcome[]): string {
  const { passed, failed, skipped } = counts(outcomes);
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const print = (text: string): void => void process.stdout.write(`${text}\n`);

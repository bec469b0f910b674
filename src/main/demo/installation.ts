/**
 * The installation that the demo uses: the running one of its state directory, else one started
 * by the same command that a person would type. Only a client: it runs `rackyard up`.
 */
import { run } from "../../base/command.ts";
import { fail, isRackyardError, RackyardError } from "../../base/errors.ts";
import type { ErrorCode } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { CliContext } from "../../cli/context.ts";

/** Started by us, or found running. */
export async function ensureRunning(context: CliContext): Promise<{ started: boolean }> {
  if (await isRunning(context)) return { started: false };
  if (context.globals.url !== undefined) {
    fail("not-running", `${context.globals.url} does not answer`);
  }
  await ownCommand(context, ["up", "--detach"], limits.upReadyMs + limits.requestMs);
  return { started: true };
}

export async function stopRunning(context: CliContext): Promise<void> {
  await ownCommand(context, ["down"], limits.upReadyMs);
}

async function isRunning(context: CliContext): Promise<boolean> {
  try {
    const status = await (await context.client()).status();
    return Array.isArray(status["hosts"]) && status["hosts"].length > 0;
  } catch (error) {
    if (!isRackyardError(error)) throw error;
    if (error.code === "not-running" || error.code === "unavailable") return false;
    throw error;
  }
}

/** Runs a command of this very program; what it refuses with is thrown here as it was there. */
async function ownCommand(
  { globals, signal }: CliContext,
  words: readonly string[],
  timeoutMs: number,
): Promise<void> {
  const entry = process.argv[1] ?? fail("internal", "the program does not know itself");
  const result = await run(
    process.execPath,
    [
      ...process.execArgv,
      entry,
      ...words,
      "--json",
      "--state",
      globals.state,
      ...(globals.config === undefined ? [] : ["--config", globals.config]),
      ...globals.set.flatMap((assignment) => ["--set", assignment]),
    ],
    {
      env: process.env as Record<string, string>,
      timeoutMs,
      signal: words[0] === "down" ? undefined : signal,
      accept: "any",
    },
  );
  if (result.exitCode === 0) return;
  const said = result.stdout.trim().split("\n").at(-1) ?? "";
  let error: { event?: string; code?: string; detail?: string; remedy?: string | null };
  try {
    error = JSON.parse(said) as typeof error;
  } catch {
    error = {};
  }
  throw new RackyardError(
    (error.event === "error" ? error.code : "unavailable") as ErrorCode,
    error.detail ?? `rackyard ${words.join(" ")} ended with exit code ${result.exitCode}`,
    error.remedy ? { remedy: error.remedy } : {},
  );
}

/**
 * Where every program and command begins: gathers the commands, runs the one that was asked for,
 * and prints an error once, here, with what to do about it (surface.md §2). What a program needs
 * is loaded when it is asked for, so that clients start fast.
 */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeError, isRackyardError } from "../base/errors.ts";
import { addAdminCommands } from "../cli/admin.ts";
import { addBuildCommands } from "../cli/build.ts";
import { asCalled } from "../cli/called.ts";
import { addChangeCommands } from "../cli/change.ts";
import { addFleetCommands } from "../cli/fleet.ts";
import { addLeaseCommands } from "../cli/lease.ts";
import { addCompletionCommand } from "../cli/completion.ts";
import { openProgram } from "../cli/program.ts";
import { terminalText } from "../cli/terminal-text.ts";
import { addTestenvCommands } from "../cli/te.ts";
import { addMachineCommands } from "./commands.ts";
import { addTeHostCommands } from "./te-host-commands.ts";
import { version } from "./version.ts";

process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const interrupted = new AbortController();
  const stop = (signal: NodeJS.Signals): void => {
    interrupted.abort(signal);
    process.once(signal, () => process.exit(exitOf(signal))); // a second one stops at once
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(exitOf("SIGPIPE")); // `… | head` has seen enough
    throw error;
  });
  const program = openProgram(version);
  addMachineCommands(program);
  addTeHostCommands(program);
  addChangeCommands(program);
  addBuildCommands(program);
  addLeaseCommands(program);
  addTestenvCommands(program);
  addFleetCommands(program);
  addAdminCommands(program);
  addCompletionCommand(program);
  try {
    return await program.run(argv, {
      env: process.env,
      signal: interrupted.signal,
      streams: process,
    });
  } catch (error) {
    if (interrupted.signal.aborted && !isRackyardError(error)) {
      return exitOf(interrupted.signal.reason as NodeJS.Signals);
    }
    return tell(error, argv.includes("--json"));
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}

function exitOf(signal: NodeJS.Signals): number {
  return 128 + ({ SIGINT: 2, SIGPIPE: 13, SIGTERM: 15 }[signal as string] ?? 15);
}

/** The one place where an error is printed; gives its exit code. */
function tell(error: unknown, json: boolean): number {
  const known = isRackyardError(error) ? error : undefined;
  const code = known?.code ?? "internal";
  const detail = known?.message ?? describeError(error);
  const report = code === "internal" ? writeReport(error) : undefined;
  const remedy = known?.remedy ?? (report && `please file it with the report ${report}`);
  if (json) {
    const faults = known?.faults ?? [];
    const told = { event: "error", code, detail, remedy: remedy ?? null, errors: faults };
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
  const lines = [`error: ${detail} (${code})`];
  for (const fault of known?.faults ?? []) {
    lines.push(`  ${fault.pointer}: ${fault.detail} (${fault.code})`);
    if (fault.remedy) lines.push(`    ${fault.remedy}`);
  }
  if (known?.cause !== undefined) lines.push(`  because: ${describeError(known.cause)}`);
  if (remedy) lines.push(`  ${remedy}`);
  const text = asCalled(lines.join("\n"), process.env["RACKYARD_CALLED"]);
  process.stderr.write(`${process.stderr.isTTY ? terminalText(text) : text}\n`);
  return known?.exitCode ?? 70;
}

/** What we need to mend a mistake of ours: the stack, the versions; no arguments, no secrets. */
function writeReport(error: unknown): string | undefined {
  try {
    const path = join(mkdtempSync(join(tmpdir(), "rackyard-report-")), "report.txt");
    const stack = error instanceof Error ? (error.stack ?? String(error)) : String(error);
    const about = `rackyard ${version}, Node ${process.version}, ${process.platform}`;
    writeFileSync(path, `${about}\n${new Date().toISOString()}\n\n${stack}\n`, { mode: 0o600 });
    return path;
  } catch {
    return undefined; // a full disk must not hide the error itself
  }
}

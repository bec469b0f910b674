/**
 * `rackyard lease … -- CMD` (lease.md §4, surface.md §2): takes a rack, runs CMD with it in a
 * process group of its own (on a terminal: in ours, the foreground), passes signals on, gives the
 * rack back in every case. Exits with CMD's own status, unless the rack never came or was lost;
 * the status file says which, since CMD may itself exit 69 or 75.
 */
import { access, constants } from "node:fs/promises";
import { hostname, userInfo } from "node:os";
import { basename, dirname, resolve } from "node:path";
import { launch } from "../base/command.ts";
import type { Exit } from "../base/command.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import { writeFileAtomic } from "../base/files.ts";
import { openHolder } from "../lease/holder/holder.ts";
import type { HeldLease } from "../lease/holder/holder.ts";
import type { LeaseRequestInput, LeaseView } from "../model/lease.ts";
import { secondsOf, textOption } from "./arguments.ts";
import { exitOfSignal, takeSignals } from "./command-signals.ts";
import type { Signals } from "./command-signals.ts";
import type { CliContext } from "./context.ts";
import { waitingText } from "./lease-text.ts";
import { timeText } from "./output.ts";
import type { Input } from "./program.ts";
import { findProgram, writeRackFiles } from "./rack-files.ts";

type Outcome = "exited" | "lost" | "refused" | "waited-too-long" | "unsatisfiable";
type Status = { outcome: Outcome; exitCode: number; lease: string | null };

export async function runWithLease(context: CliContext, input: Input): Promise<number> {
  const [program, ...args] = input.rest;
  if (program === undefined) {
    fail("usage", "lease wants a command after --", {
      remedy: "for example: rackyard lease -- ./run.sh; or see rackyard lease list",
    });
  }
  const request = requestOf(input);
  const statusFile = await statusFileOf(input);
  const status: Status = { outcome: "exited", exitCode: 70, lease: null };
  const signals = takeSignals();
  try {
    const found = await findProgram(program, context.env);
    if (found.kind === "found") {
      await lend(context, { path: found.path, program, args }, request, signals, status);
    } else {
      const missing = found.kind === "missing";
      context.out.talk(`error: ${program}: ${missing ? "not found" : "not executable"}`);
      status.exitCode = missing ? 127 : 126;
    }
    return status.exitCode;
  } catch (error) {
    const code = isRackyardError(error) ? error.exitCode : 70;
    status.outcome = outcomeOf(error);
    status.exitCode = signals.first === undefined ? code : exitOfSignal(signals.first);
    if (signals.first !== undefined) return status.exitCode;
    throw error;
  } finally {
    signals.giveBack();
    if (statusFile !== undefined) {
      await writeFileAtomic(statusFile, `${JSON.stringify(status)}\n`);
    }
  }
}

type Command = { readonly path: string; readonly program: string; readonly args: string[] };

async function lend(
  context: CliContext,
  command: Command,
  request: LeaseRequestInput,
  signals: Signals,
  status: Status,
): Promise<void> {
  const holder = openHolder(await context.endpoint());
  const tell = openProgress(context);
  const held = await holder.acquire(request, {
    signal: signals.stop,
    onUpdate(view) {
      status.lease = view.id;
      tell(view);
    },
  });
  status.lease = held.id;
  try {
    const until = `until ${timeText(held.expiresAt)} at the latest`;
    context.out.talk(`lease ${held.id.slice(0, 8)}: ${held.te} (epoch ${held.epoch}) ${until}`);
    status.exitCode = await runOn(context, command, held, signals);
    if (!held.lost.aborted) return;
    status.outcome = "lost";
    status.exitCode = 75;
    context.out.talk(`error: the rack was lost: ${(held.lost.reason as Error).message}`);
  } finally {
    const over = await held.release();
    const reason = over?.reason ?? "given back when its time is over";
    context.out.talk(`lease ${held.id.slice(0, 8)}: ${reason}`);
  }
}

/** Runs the command to its end, or until the rack is lost; gives its exit code. */
async function runOn(
  context: CliContext,
  { path, program, args }: Command,
  held: HeldLease,
  signals: Signals,
): Promise<number> {
  await using files = await writeRackFiles(held.data, context.env);
  const env = Object.fromEntries(
    Object.entries({ ...context.env, ...files.env, RACKYARD_LEASE: held.id }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
  );
  if (signals.first !== undefined) return exitOfSignal(signals.first);
  // A group of its own would be in the background: stopped when it reads from the terminal.
  const foreground = process.stdin.isTTY;
  const child = launch(path, args, { env, stdio: "inherit", foreground });
  signals.passTo(child, foreground);
  const stop = (): void => void child.end("abort");
  held.lost.addEventListener("abort", stop, { once: true });
  if (held.lost.aborted) stop();
  try {
    return statusOf(await child.exited);
  } catch (error) {
    // there and executable, but not for this machine: no interpreter, no known format
    const why = error instanceof Error && error.cause instanceof Error ? error.cause.message : "";
    context.out.talk(`error: ${program} does not start: ${why || String(error)}`);
    return 126;
  } finally {
    held.lost.removeEventListener("abort", stop);
    if (held.lost.aborted) await child.end("abort");
  }
}

function statusOf(exit: Exit): number {
  return exit.code ?? 128 + (exit.signalNumber ?? 0);
}

function outcomeOf(error: unknown): Outcome {
  if (isRackyardError(error, "unsatisfiable")) return "unsatisfiable";
  if (isRackyardError(error, "wait-timeout")) return "waited-too-long";
  if (isRackyardError(error, "lease-lost") || isRackyardError(error, "lease-over")) return "lost";
  return "refused";
}

/** Place, reason and predicted start, a line whenever they change. */
function openProgress(context: CliContext): (view: LeaseView) => void {
  let last = "";
  return (view) => {
    const text = waitingText(view);
    if (text === last) return;
    last = text;
    context.out.talk(`lease ${view.id.slice(0, 8)}: ${text}`);
  };
}

function requestOf({ options, rest }: Input): LeaseRequestInput {
  const count = wholeNumber(textOption(options, "machines") ?? "1", "--machines", 15);
  const memory = textOption(options, "memoryMib");
  const wait = textOption(options, "wait");
  const labels = textOption(options, "label");
  const group = textOption(options, "group");
  const addresses = textOption(options, "address")?.split(",") ?? [];
  return {
    machines: {
      count,
      ...(memory === undefined ? {} : { memoryMiB: wholeNumber(memory, "--memory-mib", 1e6) }),
    },
    durationSeconds: positive(secondsOf(textOption(options, "for") ?? "1h", "--for"), "--for"),
    ...(wait === undefined ? {} : { waitSeconds: secondsOf(wait, "--wait") }),
    ...(labels === undefined ? {} : { labels }),
    ...(group === undefined ? {} : { group }),
    requeue: true,
    holder: { name: holderName(textOption(options, "name"), rest[0] ?? ""), addresses },
  };
}

function holderName(given: string | undefined, command: string): string {
  return (given ?? `${userName()}@${hostname()}: ${basename(command)}`).slice(0, 200);
}

/** A container's user may have no name at all. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.() ?? "somebody");
  }
}

function wholeNumber(text: string, what: string, most: number): number {
  const number = Number(text);
  if (/^[0-9]+$/.test(text) && number >= 1 && number <= most) return number;
  return fail("usage", `${what}: ${text} is no number from 1 to ${most}`);
}

function positive(seconds: number, what: string): number {
  return seconds >= 1 ? seconds : fail("usage", `${what}: at least one second`);
}

async function statusFileOf({ options }: Input): Promise<string | undefined> {
  const given = textOption(options, "statusFile");
  if (given === undefined) return undefined;
  const path = resolve(given);
  await access(dirname(path), constants.W_OK).catch((cause: unknown) =>
    fail("usage", `--status-file: ${given} cannot be written`, { cause }),
  );
  return path;
}

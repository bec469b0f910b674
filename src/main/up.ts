/**
 * `rackyard up`: the supervisor of one machine (surface.md §1). Starts `server` and one
 * `te-host`, keeps them running, says when both are ready, and stops them in reverse order.
 * A second `up` of the same state prints the first one's line.
 */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { launch } from "../base/command.ts";
import { isoTime } from "../base/clock.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { lockFile } from "../base/lock.ts";
import { limits } from "../base/limits.ts";
import { openFileLog } from "../base/log.ts";
import { openScope } from "../base/scope.ts";
import { until } from "../base/wait.ts";
import type { CliContext, Globals } from "../cli/context.ts";
import type { Output } from "../cli/output.ts";
import { endCell } from "../hypervisor/cell-end.ts";
import { recordChanges } from "./changes.ts";
import { readPidFile, writePidFile } from "./pid-file.ts";
import { makeState } from "./places.ts";
import type { Places } from "./places.ts";
import { programArguments } from "./program-arguments.ts";
import { keepProgram, refusalOf } from "./supervisor.ts";
import type { Kept } from "./supervisor.ts";
import { isReady, readStatus, readyText } from "./status.ts";
import type { StatusLine } from "./status.ts";
import { version } from "./version.ts";

export async function runUp(context: CliContext, options: { detach: boolean }): Promise<number> {
  const { globals, out } = context;
  if (process.getuid?.() !== 0) {
    fail("not-root", "up needs root: it makes network namespaces, bridges and machines", {
      remedy: "sudo rackyard up",
    });
  }
  const places = await makeState(globals.state);
  await mkdir(places.run, { recursive: true });
  const line = await readyLineOf(places, context, options.detach);
  if (line) {
    out.result(line, () => readyText(out, line));
    return 0;
  }
  return supervise(places, context);
}

/** The line of a supervisor that runs already, or of one started now in the background. */
async function readyLineOf(
  places: Places,
  context: CliContext,
  detach: boolean,
): Promise<StatusLine | undefined> {
  const there = await readPidFile(places.pidFile("up"));
  if (there) return readyOf(places, there.pid, context);
  if (!detach) return undefined;
  mkdirSync(places.log, { recursive: true });
  const file = openSync(places.outFile("up"), "w", 0o640);
  const args = programArguments("up", context.globals);
  const child = launch(process.execPath, args, {
    env: { ...(process.env as Record<string, string>) },
    stdio: ["ignore", file, file],
    daemon: true,
  });
  closeSync(file);
  const dead = new AbortController();
  void child.exited.then((exit) => dead.abort(exit.code));
  try {
    return await readyOf(places, child.pid, context, dead.signal);
  } catch (error) {
    if (!dead.signal.aborted) throw error;
    throw refusalOf(places.outFile("up"), "up", Number(dead.signal.reason));
  }
}

async function readyOf(
  places: Places,
  pid: number,
  context: CliContext,
  dead?: AbortSignal,
): Promise<StatusLine> {
  const signal = dead ? AbortSignal.any([dead, context.signal]) : context.signal;
  context.out.talk("waiting until it is ready");
  return until(
    async () => {
      const text = await readTextIfAny(places.ready);
      if (text === undefined) return undefined;
      const line = JSON.parse(text) as StatusLine;
      return line.pid === pid ? line : undefined;
    },
    { timeoutMs: limits.upReadyMs, signal, what: "up to be ready" },
  );
}

async function supervise(places: Places, context: CliContext): Promise<number> {
  const { globals, out } = context;
  await using _lock = await lockFile(places.lock("up"), `the state directory ${places.state}`);
  const startedAt = isoTime(Date.now());
  const began = performance.now();
  await rm(places.ready, { force: true });
  mkdirSync(places.log, { recursive: true });
  const log = openFileLog(places.logFile("up"));
  await writePidFile(places.pidFile("up"), process.pid, version);

  const letGo = new AbortController();
  const stop = AbortSignal.any([context.signal, letGo.signal]);
  const facts = { startedAt, readyMs: null as number | null };
  const kept: Kept[] = [];
  const changed = (): void => void writeSupervisor(places, facts, kept, globals).catch(() => {});
  for (const name of ["server", "te-host"] as const) {
    const args = programArguments(name, globals);
    kept.push(keepProgram({ name, args, places, version, log, onChange: changed }));
  }
  const signals = installSignals(kept, letGo);
  const crashed = new AbortController();
  const scope = openScope((_name, error) => crashed.abort(error), stop);
  try {
    for (const one of kept) scope.spawn(one.name, (signal) => one.run(signal));
    const going = AbortSignal.any([stop, crashed.signal]);
    out.talk("starting: server and te-host");
    let line = await waitReady(places, kept, going);
    facts.readyMs = Math.round(performance.now() - began);
    for (const one of kept) one.served();
    await writeSupervisor(places, facts, kept, globals);
    line = { ...line, ...(await readStatus(places)) };
    await recordChanges(places, line);
    await writeFileAtomic(places.ready, `${JSON.stringify(line)}\n`);
    log.info({ readyMs: facts.readyMs }, "ready");
    out.result(line, () => readyText(out, line));
    await keepReadyFile(places, kept, going);
  } catch (error) {
    if (!stop.aborted) throw crashed.signal.aborted ? crashed.signal.reason : error;
  } finally {
    signals.remove();
    await scope.close().catch(() => undefined);
    if (!letGo.signal.aborted) await stopAll(places, kept, out);
    await rm(places.pidFile("up"), { force: true });
  }
  return 0;
}

async function waitReady(
  places: Places,
  kept: readonly Kept[],
  signal: AbortSignal,
): Promise<StatusLine> {
  return until(
    async () => {
      if (kept.some((one) => one.pid === undefined)) return undefined;
      const line = await readStatus(places);
      return isReady(line) ? line : undefined;
    },
    { timeoutMs: limits.upReadyMs, signal, what: "server and te-host to be ready" },
  );
}

/** ready.json follows: a program that was started again has another pid. */
async function keepReadyFile(
  places: Places,
  kept: readonly Kept[],
  signal: AbortSignal,
): Promise<never> {
  const pids = (): string => kept.map((one) => one.pid).join();
  let written = pids();
  for (;;) {
    await until(() => pids() !== written, {
      timeoutMs: Number.MAX_SAFE_INTEGER,
      everyMs: limits.pollMs * 5,
      signal,
      what: "a program to be started again",
    });
    const line = await waitReady(places, kept, signal);
    written = pids();
    await writeFileAtomic(places.ready, `${JSON.stringify(line)}\n`);
  }
}

function installSignals(kept: readonly Kept[], letGo: AbortController): { remove(): void } {
  const again = (): void => kept.forEach((one) => one.signal("SIGHUP"));
  // `down` stops the programs itself, and counts them.
  const go = (): void => letGo.abort(new DOMException("down takes over", "AbortError"));
  const atOnce = (): void => {
    if (!letGo.signal.aborted) kept.forEach((one) => one.kill());
  };
  process.on("SIGHUP", again).once("SIGUSR2", go).once("exit", atOnce);
  return {
    remove: () => process.off("SIGHUP", again).off("SIGUSR2", go).off("exit", atOnce),
  };
}

async function stopAll(places: Places, kept: readonly Kept[], out: Output): Promise<void> {
  out.talk("stopping");
  for (const one of kept.toReversed()) await one.end();
  const ended = await endCell(places.state);
  for (const one of kept) await rm(places.pidFile(one.name), { force: true });
  await rm(places.ready, { force: true });
  await rm(places.supervisor, { force: true });
  for (const { kind, name, why } of ended.left) out.talk(`left: ${kind} ${name}: ${why}`);
}

/** What the server tells of its supervisor in `/v1/status`. */
async function writeSupervisor(
  places: Places,
  facts: { startedAt: string; readyMs: number | null },
  kept: readonly Kept[],
  globals: Globals,
): Promise<void> {
  const processes = kept.flatMap(({ name, pid }) => (pid === undefined ? [] : [{ name, pid }]));
  const config = globals.config ?? null;
  const record = { pid: process.pid, ...facts, config, processes };
  await writeFileAtomic(places.supervisor, `${JSON.stringify(record)}\n`).catch(
    (error: unknown) => {
      if (!isRackyardError(error, "no-space")) throw error;
    },
  );
}

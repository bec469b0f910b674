/**
 * The program `te-host` (surface.md §1, te-host.md §1): outside it makes the cell, then becomes
 * itself inside of it, same pid, and serves there until it is told to stop; leases and machines
 * stay as they are. `plan`, `check` and `destroy` are its other commands.
 */
import { mkdir } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { fail, isRackyardError } from "../base/errors.ts";
import { lockFile } from "../base/lock.ts";
import { openFileLog } from "../base/log.ts";
import type { Log } from "../base/log.ts";
import { openScope } from "../base/scope.ts";
import type { CliContext } from "../cli/context.ts";
import { enterCell, insideCell, prepareCell, readCell } from "../hypervisor/cell.ts";
import type { Cell } from "../hypervisor/cell.ts";
import { removePidFile, writePidFile } from "./pid-file.ts";
import { makeState } from "./places.ts";
import type { Places } from "./places.ts";
import { programArguments } from "./program-arguments.ts";
import { readSettings } from "./server/settings.ts";
import type { Settings } from "./server/settings.ts";
import { openAgent } from "./te-host/agent.ts";
import { noteOutside, wayOutside } from "./te-host/outside.ts";
import { version } from "./version.ts";

export async function runTeHost(context: CliContext): Promise<number> {
  needRoot();
  const { globals, env } = context;
  const places = await makeState(globals.state);
  await mkdir(places.log, { recursive: true });
  const settings = await readSettings(globals, places);
  const log = openFileLog(places.logFile("te-host"));
  const cell = await cellWeAreIn(places);
  if (cell) return serve(context, { places, settings, log, cell });
  const made = await makeCell(places, settings, log);
  const inside = { ...env, ...noteOutside() };
  return enterCell(made, process.execPath, programArguments("te-host", globals), inside);
}

async function serve(
  context: CliContext,
  of: { places: Places; settings: Settings; log: Log; cell: Cell },
): Promise<number> {
  const { places, settings, log, cell } = of;
  await using _lock = await lockFile(places.lock("te-host"), `the TE host of ${places.state}`);
  await writePidFile(places.pidFile("te-host"), process.pid, version);
  const crash = new AbortController();
  const onCrash = (error: unknown): void => {
    log.error({ err: error }, "the agent ends by an error");
    crash.abort(error);
  };
  process.on("uncaughtException", onCrash).on("unhandledRejection", onCrash);
  const hangUp = (): void => void rereadQuietly(context, places, log);
  process.on("SIGHUP", hangUp);
  const scope = openScope((task, error) => onCrash({ task, error }));
  try {
    log.info({ version, pid: process.pid, cell: cell.netns }, "te-host starts");
    await openAgent({
      cell,
      config: settings.config,
      broker: { url: brokerUrl(settings, places) },
      binFolder: join(places.bin, "gate"),
      imageCache: imageCache(settings, places),
      outside: wayOutside(context.env),
      scope,
      log,
      onCrash,
    });
    await stopAsked(AbortSignal.any([context.signal, crash.signal]));
    log.info({}, "te-host stops; leases and machines stay");
  } finally {
    process.off("SIGHUP", hangUp);
    await scope.close().catch((error: unknown) => log.error({ err: error }, "not all was closed"));
    process.off("uncaughtException", onCrash).off("unhandledRejection", onCrash);
    await removePidFile(places.pidFile("te-host"));
  }
  if (crash.signal.aborted) throw reasonOf(crash.signal.reason);
  return 0;
}

/** SIGHUP: what is wrong is told. What racks are made of is taken up at the next start. */
async function rereadQuietly({ globals }: CliContext, places: Places, log: Log): Promise<void> {
  try {
    await readSettings(globals, places);
    log.info({}, "the configuration is right; a TE host takes it up when it starts");
  } catch (error) {
    log.error({ err: error }, "the configuration is wrong: the old one stays");
  }
}

function needRoot(): void {
  if (process.getuid?.() === 0) return;
  fail("not-root", "a TE host makes namespaces, bridges and machines", {
    remedy: "run it as root",
  });
}

/** The cell, where this process has entered it already. */
export async function cellWeAreIn(places: Places): Promise<Cell | undefined> {
  const cell = await readCell(places.state);
  return cell && insideCell(cell) ? cell : undefined;
}

/** Under the lock, so that two starting at once do not make two halves. */
async function makeCell(places: Places, settings: Settings, log: Log): Promise<Cell> {
  await using _lock = await lockFile(places.lock("te-host"), `the TE host of ${places.state}`);
  const { cidr, mtu } = settings.config.teHost.testNetwork;
  return await prepareCell({ state: places.state, cidr, mtu, log });
}

/** `unix:run/api.sock` is where this installation's server listens, wherever that had to move. */
function brokerUrl(settings: Settings, places: Places): string {
  const { broker } = settings.config.teHost;
  if (!broker.startsWith("unix:")) return broker;
  const path = broker.slice("unix:".length);
  if (path === "run/api.sock") return `unix:${places.apiSocket}`;
  return `unix:${isAbsolute(path) ? path : join(places.state, path)}`;
}

function imageCache(settings: Settings, places: Places): string | undefined {
  const { cache } = settings.config.teHost.images;
  return cache === undefined || isAbsolute(cache) ? cache : join(places.state, cache);
}

function stopAsked(stop: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (stop.aborted) resolve();
    else stop.addEventListener("abort", () => resolve(), { once: true });
  });
}

function reasonOf(reason: unknown): Error {
  const error = (reason as { error?: unknown }).error ?? reason;
  if (error instanceof Error || isRackyardError(error)) return error;
  return new Error(String(error));
}

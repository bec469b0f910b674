/**
 * The program `server` (surface.md §1): locks its state directory, opens its parts in order,
 * serves, and stops in reverse. One process: store, broker, review system, merger, node pool,
 * executor, archive, scheduler, API. What each part does is the part's.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { AssertionError } from "../base/assert.ts";
import { systemClock } from "../base/clock.ts";
import { describeError, isRackyardError } from "../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { lockFile } from "../base/lock.ts";
import { openFileLog } from "../base/log.ts";
import type { Log } from "../base/log.ts";
import { openScope } from "../base/scope.ts";
import type { Scope } from "../base/scope.ts";
import { publicAddressFile } from "../cli/context.ts";
import type { CliContext } from "../cli/context.ts";
import { openSqliteStore } from "../store/store.ts";
import { readPidFile, removePidFile, writePidFile } from "./pid-file.ts";
import { makeState } from "./places.ts";
import type { Places } from "./places.ts";
import { openServerParts } from "./server/parts.ts";
import type { OpenServer } from "./server/parts.ts";
import { version } from "./version.ts";

export async function runServer(context: CliContext): Promise<number> {
  const { globals, out } = context;
  const places = await makeState(globals.state);
  await makePlaces(places);
  await using _lock = await lockFile(places.lock("server"), `the state directory ${places.state}`);
  const log = openFileLog(places.logFile("server"));
  await writePidFile(places.pidFile("server"), process.pid, version);
  const crash = new AbortController();
  const scope = openScope((task, error) => {
    log.error({ err: error, task }, "a task failed");
    // The world's refusals are told; our own mistakes end the program, which starts again.
    if (!isRackyardError(error)) crash.abort(error);
  });
  const unexpected = (error: unknown): void => crash.abort(error);
  process.on("uncaughtException", unexpected).on("unhandledRejection", unexpected);
  try {
    log.info({ version, pid: process.pid, state: places.state }, "server starts");
    await using store = await openSqliteStore(places.database);
    await using server = await openServerParts({
      places,
      globals,
      store,
      log,
      scope,
      clock: systemClock,
      leaseKey: await keptKey(`${places.keys}/lease-token`),
    });
    const hangUp = (): void => void reloadQuietly(server, log);
    process.on("SIGHUP", hangUp);
    log.info({ urls: server.urls }, "server is ready");
    out.talk(`server: ${server.urls.join(", ")}`);
    await using _ready = await tellReady(places, server);
    await stopAsked(context.signal, crash.signal);
    log.info({}, "server stops");
    endInTime(log);
    process.off("SIGHUP", hangUp);
    server.beginStop();
    await closeScope(scope, log);
  } catch (error) {
    log.error({ err: error }, "server ends by an error");
    await closeScope(scope, log);
    throw error;
  } finally {
    process.off("uncaughtException", unexpected).off("unhandledRejection", unexpected);
    await removePidFile(places.pidFile("server"));
  }
  if (!crash.signal.aborted) return 0;
  log.error({ err: crash.signal.reason }, "server ends by its own mistake");
  throw asMistake(crash.signal.reason);
}

/**
 * Where no supervisor tells clients where the server is, the server does. The state directory is
 * closed: who may read without a token finds the address in a file that all may read.
 */
async function tellReady(places: Places, server: OpenServer): Promise<AsyncDisposable> {
  const supervised = (await readPidFile(places.pidFile("up"))) !== undefined;
  if (!supervised) {
    const line = `${JSON.stringify(await server.status())}\n`;
    await writeFileAtomic(places.ready, line, 0o600);
  }
  const address = publicAddressFile(places.state);
  const [api] = server.urls;
  if (server.openToReaders) {
    await writeFileAtomic(address, `${JSON.stringify({ api })}\n`);
    for (const folder of [dirname(address), dirname(dirname(address))]) await chmod(folder, 0o755);
  } else await rm(address, { force: true });
  return {
    async [Symbol.asyncDispose]() {
      await rm(address, { force: true });
      if (!supervised) await rm(places.ready, { force: true });
    },
  };
}

/**
 * Every part ends within its own limits. Should one not, the program ends all the same, as by a
 * kill: whoever started it must not wait, and the record says what is to be done.
 */
function endInTime(log: Log): void {
  setTimeout(() => {
    log.error(
      { limitMs: limits.serverStopMs },
      "a part does not close: the server ends without it",
    );
    process.exit(1);
  }, limits.serverStopMs).unref();
}

/** Builds under way are kept as they stand; their next server takes them up. */
async function closeScope(scope: Scope, log: Log): Promise<void> {
  await scope.close().catch((error: unknown) => {
    log.error({ error: describeError(error) }, "a part did not close");
  });
}

async function reloadQuietly(server: OpenServer, log: Log): Promise<void> {
  try {
    const now = await server.reload();
    log.info(now, "configuration and layout read again");
  } catch (error) {
    log.error({ error: describeError(error) }, "not read again: the old ones stay");
  }
}

function stopAsked(stop: AbortSignal, crash: AbortSignal): Promise<void> {
  const either = AbortSignal.any([stop, crash]);
  return new Promise((resolve) => {
    if (either.aborted) resolve();
    else either.addEventListener("abort", () => resolve(), { once: true });
  });
}

function asMistake(reason: unknown): Error {
  return reason instanceof Error ? reason : new AssertionError(String(reason));
}

async function makePlaces(places: Places): Promise<void> {
  for (const path of [places.run, places.server, places.log, places.bin, places.archive]) {
    await mkdir(path, { recursive: true });
  }
  await mkdir(places.keys, { recursive: true, mode: 0o700 });
  await mkdir(places.sockets, { recursive: true });
  // Where they had to move out of the state directory, they are as closed as that one.
  await chmod(places.sockets, 0o700);
}

/** 32 random bytes of our own, made at the first start. */
async function keptKey(path: string): Promise<Buffer> {
  const kept = await readTextIfAny(path);
  if (kept !== undefined) return Buffer.from(kept.trim(), "hex");
  const key = randomBytes(32);
  await writeFileAtomic(path, `${key.toString("hex")}\n`, 0o600);
  return key;
}

/**
 * The cell's daemons (H-1.12): started in the foreground of sessions of their own, they outlive
 * the agent, and the next one adopts them by pid file (pid, start time, executable). Each is
 * looked at four times a second: a dead one is started again at once, with those that cannot
 * live without it. Which daemons there are is written in daemon-specs.ts.
 */
import { closeSync, openSync, readFileSync } from "node:fs";
import { copyFile, mkdir, rename, rm, stat, truncate } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { present } from "../base/assert.ts";
import { launch, plainEnv, signalGroup } from "../base/command.ts";
import { describeError, fail } from "../base/errors.ts";
import { processStart, readTextIfAny, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/retry.ts";
import { pause, until } from "../base/wait.ts";
import type { Daemons, DaemonSpec } from "./hypervisor-port.ts";
import { executableOf, groupLives } from "./process-scan.ts";

/** How often the size of their logs is looked at: every minute. */
const LOOKS_PER_LOG_CHECK = 300;

export type Supervision = Daemons &
  AsyncDisposable & {
    /** Calls back when one was found dead and has been started again. */
    onRestart(callback: (daemon: string) => void): void;
    /** Does it run, adopted or not? */
    running(spec: DaemonSpec): Promise<boolean>;
  };

type Kept = {
  readonly spec: DaemonSpec;
  pid: number;
  start: string;
  worker: number | undefined;
  failures: number;
  /** Not before (monotonic): the last start failed. */
  notBeforeMs: number;
};

export function openDaemons(
  places: { readonly pids: string; readonly logs: string },
  log: Log,
  options: { readonly watch: boolean } = { watch: true },
): Supervision {
  const kept = new Map<string, Kept>();
  const callbacks: ((daemon: string) => void)[] = [];
  const stop = new AbortController();
  // One change at a time: the watcher never starts what another call is just starting.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(act: () => Promise<T>): Promise<T> => {
    const done = last.then(act);
    last = done.catch(() => undefined);
    return done;
  };
  const pidFile = (name: string): string => join(places.pids, `${name}.pid`);
  const logFile = (spec: Pick<DaemonSpec, "name" | "logFile">): string =>
    spec.logFile ?? join(places.logs, `${spec.name}.log`);

  async function begin(spec: DaemonSpec): Promise<Kept> {
    await endOld(pidFile(spec.name), spec);
    await spec.prepare?.();
    await mkdir(dirname(logFile(spec)), { recursive: true });
    await keepLogSmall(logFile(spec));
    const output = openSync(logFile(spec), "a", 0o640);
    let pid: number;
    try {
      const child = launch(spec.program, spec.args, {
        cwd: "/",
        env: plainEnv(spec.env),
        stdio: ["ignore", output, output],
        daemon: true,
      });
      pid = child.pid;
      if (pid < 0) await child.exited; // throws why it did not start
    } finally {
      closeSync(output);
    }
    const start = await processStart(pid);
    if (start === undefined) {
      fail("unavailable", `${spec.name} ended as it began: ${logFile(spec)}`);
    }
    await writeFileAtomic(pidFile(spec.name), `${pid} ${start}\n`);
    const state = await until(
      async () => {
        if ((await processStart(pid)) !== start) return "ended";
        return (await serves(spec)) && "ready";
      },
      { timeoutMs: limits.daemonStartMs, everyMs: 25, signal: stop.signal, what: spec.name },
    );
    if (state === "ended") fail("unavailable", `${spec.name} ended as it began: ${logFile(spec)}`);
    log.info({ daemon: spec.name, pid }, "daemon started");
    return { spec, pid, start, worker: workerOf(spec), failures: 0, notBeforeMs: 0 };
  }

  async function adopt(spec: DaemonSpec): Promise<Kept | undefined> {
    const found = await readPid(pidFile(spec.name));
    if (!found || !(await lives(found, spec))) return undefined;
    if (!(await serves(spec).catch(() => false))) {
      // Perhaps it has just been started by an agent that died since.
      const ready = await until(() => serves(spec), {
        timeoutMs: limits.daemonStartMs,
        signal: stop.signal,
        what: spec.name,
      }).catch(() => false);
      if (!ready) return undefined;
    }
    log.info({ daemon: spec.name, pid: found.pid }, "daemon adopted");
    return { spec, ...found, worker: workerOf(spec), failures: 0, notBeforeMs: 0 };
  }

  async function renew(name: string): Promise<void> {
    const { spec } = present(kept.get(name), `daemon ${name}`);
    kept.set(name, await begin(spec));
    for (const each of kept.values()) {
      if (each.spec.with?.includes(name)) await renew(each.spec.name);
    }
  }

  async function look(): Promise<void> {
    for (const each of Array.from(kept.values())) {
      if (stop.signal.aborted) return;
      if (kept.get(each.spec.name) !== each) continue; // renewed meanwhile, with another
      if (await lives(each, each.spec)) {
        noticeWorker(each);
        continue;
      }
      if (performance.now() < each.notBeforeMs) continue;
      const { name } = each.spec;
      log.warn({ daemon: name, pid: each.pid }, "daemon found dead");
      try {
        await renew(name);
        for (const callback of callbacks) callback(name);
      } catch (error) {
        each.failures++;
        each.notBeforeMs = performance.now() + backoffMs(each.failures);
        log.error({ daemon: name, why: describeError(error) }, "daemon does not start");
      }
    }
  }

  /** A worker that its keeper started again. */
  function noticeWorker(each: Kept): void {
    const worker = workerOf(each.spec);
    if (worker === undefined || worker === each.worker) return;
    const known = each.worker !== undefined;
    each.worker = worker;
    if (!known) return;
    log.warn({ daemon: each.spec.name, pid: worker }, "daemon was started again");
    for (const callback of callbacks) callback(each.spec.name);
  }

  const watching = options.watch ? keepWatch() : undefined;
  async function keepWatch(): Promise<void> {
    for (let looks = 1; !stop.signal.aborted; looks++) {
      await inTurn(look);
      if (looks % LOOKS_PER_LOG_CHECK === 0) {
        for (const { spec } of kept.values()) await keepLogSmall(logFile(spec));
      }
      await pause(limits.daemonLookMs, stop.signal).catch(() => undefined);
    }
  }

  return {
    ensure: (spec) =>
      inTurn(async () => {
        const known = kept.get(spec.name);
        if (known && (await lives(known, spec))) {
          kept.set(spec.name, { ...known, spec });
          return "adopted";
        }
        const adopted = await adopt(spec);
        kept.set(spec.name, adopted ?? (await begin(spec)));
        return adopted ? "adopted" : "started";
      }),
    restart: (name) => inTurn(() => renew(name)),
    signal(name, signal) {
      const { pid, worker } = present(kept.get(name), `daemon ${name}`);
      process.kill(worker ?? pid, signal);
    },
    stop: (name) =>
      inTurn(async () => {
        const each = kept.get(name);
        kept.delete(name);
        if (each) await endOld(pidFile(name), each.spec);
      }),
    async list() {
      // A worker that is just being started again by its keeper has no pid to show.
      return [...kept.values()].flatMap(({ spec, pid }) => {
        const shown = spec.worker ? workerOf(spec) : pid;
        return shown === undefined ? [] : [{ name: spec.name, pid: shown }];
      });
    },
    logOf: logFile,
    async missing() {
      const all = [...kept.values()];
      const alive = await Promise.all(all.map((each) => lives(each, each.spec)));
      return all
        .filter(({ spec }, n) => !alive[n] || (spec.worker && workerOf(spec) === undefined))
        .map(({ spec }) => spec.name);
    },
    async running(spec) {
      const found = kept.get(spec.name) ?? (await readPid(pidFile(spec.name)));
      return found !== undefined && lives(found, spec);
    },
    onRestart: (callback) => void callbacks.push(callback),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching;
      await last.catch(() => undefined);
    },
  };
}

type Pid = { readonly pid: number; readonly start: string };

async function readPid(path: string): Promise<Pid | undefined> {
  const [pid, start] = ((await readTextIfAny(path)) ?? "").trim().split(" ");
  return pid && start ? { pid: Number(pid), start } : undefined;
}

/** The very process: pid, start time and executable; a zombie does not live. */
async function lives(found: Pid, spec: DaemonSpec): Promise<boolean> {
  if ((await processStart(found.pid)) !== found.start) return false;
  const executable = executableOf(found.pid);
  return executable === undefined || executable === (spec.executable ?? basename(spec.program));
}

/** Ready, and its worker known: the next one is told as another, however soon it comes. */
async function serves(spec: DaemonSpec): Promise<boolean> {
  return (await spec.ready()) && (spec.worker === undefined || workerOf(spec) !== undefined);
}

/** Pid of the process that does the work, if its file names a living one. */
function workerOf(spec: DaemonSpec): number | undefined {
  if (!spec.worker) return undefined;
  try {
    const pid = Number(readFileSync(spec.worker.pidFile, "utf8").trim());
    return executableOf(pid) === spec.worker.executable ? pid : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Ends what is left of a former one: its whole process group, as a keeper's worker survives it.
 * A group cannot be a stranger's while its leader's pid is ours or free.
 */
async function endOld(path: string, spec: DaemonSpec): Promise<void> {
  const old = await readPid(path);
  if (!old) return;
  const now = await processStart(old.pid);
  if (now === undefined || now === old.start) {
    signalGroup(old.pid, "SIGTERM");
    const gone = (): boolean => !groupLives(old.pid);
    await until(gone, { timeoutMs: limits.childGraceMs, everyMs: 20, what: spec.name }).catch(() =>
      signalGroup(old.pid, "SIGKILL"),
    );
    await until(gone, { timeoutMs: limits.childGraceMs, everyMs: 20, what: spec.name });
  }
  await rm(path, { force: true });
}

/** A log that its writer holds open: copied and cut, as it cannot be renamed away. */
async function keepLogSmall(path: string): Promise<void> {
  const size = await stat(path).then(
    (facts) => facts.size,
    () => 0,
  );
  if (size <= limits.logFileBytes) return;
  for (let n = limits.logFiles - 1; n > 1; n--) {
    await rename(`${path}.${n - 1}`, `${path}.${n}`).catch(() => undefined);
  }
  await copyFile(path, `${path}.1`);
  await truncate(path, 0);
}

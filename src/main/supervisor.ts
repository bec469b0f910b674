/**
 * Keeps one program of an installation running: starts it, or takes over one that lives on after
 * an earlier supervisor; starts it again when it dies, after 1 s to 30 s. A program that refuses
 * to start, because something is wrong that another try does not mend, ends the supervisor.
 */
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { launch } from "../base/command.ts";
import { errorCodes, RackyardError } from "../base/errors.ts";
import type { ErrorCode, FieldFault } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/retry.ts";
import { pause } from "../base/wait.ts";
import { endProcess, lives, readPidFile, writePidFile } from "./pid-file.ts";
import type { Owner } from "./pid-file.ts";
import type { Places, ProgramName } from "./places.ts";

export type Kept = {
  readonly name: ProgramName;
  readonly pid: number | undefined;
  /** Until the signal aborts; throws what the program refused with. */
  run(signal: AbortSignal): Promise<void>;
  /** It has served: from now on every death is answered by a new start. */
  served(): void;
  /** SIGHUP and the like. */
  signal(name: NodeJS.Signals): void;
  end(): Promise<void>;
  /** At once, when the supervisor itself is made to stop at once. */
  kill(): void;
};

/** Resolves with the exit code, null where it cannot be known. */
type Running = { readonly ended: Promise<number | null> };

/** Exit codes that another start will not mend (surface.md §2). */
const lasting = [64, 65, 73, 77, 78];

export function keepProgram(options: {
  name: ProgramName;
  args: readonly string[];
  places: Places;
  version: string;
  log: Log;
  onChange: () => void;
}): Kept {
  const { name, places, log } = options;
  const pidFile = places.pidFile(name);
  let owner: Owner | undefined;
  let hasServed = false;

  const start = async (): Promise<Running> => {
    mkdirSync(dirname(places.outFile(name)), { recursive: true });
    const out = openSync(places.outFile(name), "w", 0o640);
    const child = launch(process.execPath, options.args, {
      env: childEnv(),
      stdio: ["ignore", out, out],
      daemon: true,
    });
    closeSync(out);
    owner = await writePidFile(pidFile, child.pid, options.version);
    log.info({ program: name, pid: child.pid }, "started");
    return { ended: child.exited.then((exit) => exit.code) };
  };

  const startOrAdopt = async (): Promise<Running> => {
    const there = await readPidFile(pidFile);
    if (there && there.version === options.version) {
      owner = there;
      log.info({ program: name, pid: there.pid }, "taken over");
      return { ended: watchOther(there) };
    }
    if (there) await endProcess(there, limits.programGraceMs);
    return start();
  };

  return {
    name,
    get pid() {
      return owner?.pid;
    },
    served: () => {
      hasServed = true;
    },
    async run(signal) {
      for (let failures = 0; !signal.aborted;) {
        const began = performance.now();
        const { ended } = await startOrAdopt();
        options.onChange();
        const code = await Promise.race([ended, aborted(signal)]);
        if (signal.aborted) return;
        owner = undefined;
        options.onChange();
        if (!hasServed && code !== null && lasting.includes(code)) {
          throw refusalOf(places.outFile(name), name, code);
        }
        failures = performance.now() - began > limits.restartServedMs ? 1 : failures + 1;
        const pauseMs = backoffMs(failures, limits.restartFirstMs, limits.restartLastMs);
        log.warn({ program: name, code, pauseMs }, "died; started again after a pause");
        await pause(pauseMs, signal).catch(() => undefined);
      }
    },
    signal(what) {
      if (owner) trySignal(owner.pid, what);
    },
    async end() {
      const there = owner ?? (await readPidFile(pidFile));
      if (there) await endProcess(there, limits.programGraceMs);
      owner = undefined;
    },
    kill() {
      if (owner) trySignal(owner.pid, "SIGKILL");
    },
  };
}

function trySignal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // gone
  }
}

/** A process that is not our child: its end is seen by looking. */
async function watchOther(owner: Owner): Promise<null> {
  while (await lives(owner)) await pause(limits.pollMs * 5);
  return null;
}

function aborted(signal: AbortSignal): Promise<null> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    else signal.addEventListener("abort", () => resolve(null), { once: true });
  });
}

/** What it needs of our environment, proxies and the like; no token of a person. */
function childEnv(): Record<string, string> {
  const entries = Object.entries(process.env).filter(
    ([key, value]) => value !== undefined && key !== "RACKYARD_TOKEN",
  );
  return Object.fromEntries(entries) as Record<string, string>;
}

/** What a program said when it ended: its last words are `error: sentence (code)`. */
export function refusalOf(outFile: string, name: string, exitCode: number): RackyardError {
  let said = "";
  try {
    said = readFileSync(outFile, "utf8");
  } catch {
    // it said nothing
  }
  const lines = said.trimEnd().split("\n");
  const at = lines.findLastIndex((line) => line.startsWith("error: "));
  const found = /^error: (.*) \(([a-z-]+)\)$/.exec(lines[at] ?? "");
  const code = found?.[2];
  if (found && code && code in errorCodes) {
    return new RackyardError(code as ErrorCode, `${name}: ${found[1]}`, below(lines.slice(at + 1)));
  }
  const same = Object.entries(errorCodes).find(([, { exit }]) => exit === exitCode);
  return new RackyardError(
    (same?.[0] ?? "internal") as ErrorCode,
    `${name} does not start: ${lines.at(-1) || "it said nothing"}`,
  );
}

/** The lines below an error, as `tell` in rackyard.ts prints them: wrong places, what to do. */
function below(lines: readonly string[]): { faults: FieldFault[]; remedy?: string } {
  const faults: FieldFault[] = [];
  const rest: string[] = [];
  for (const line of lines) {
    const place = /^ {2}(\S+): (.*) \(([a-z-]+)\)$/.exec(line);
    const last = faults.at(-1);
    if (place) faults.push({ pointer: place[1]!, detail: place[2]!, code: place[3]! });
    else if (last && line.startsWith("    "))
      faults.splice(-1, 1, { ...last, remedy: line.trim() });
    else rest.push(line.trim());
  }
  return { faults, ...(rest.length === 0 ? {} : { remedy: rest.join("\n  ") }) };
}

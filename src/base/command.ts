/**
 * The one place where child processes are started: in a process group of their own, with limits
 * on time and output, an AbortSignal, and an end that is always waited for. Groups are ended by
 * the system call. No shell: arguments are an array, and secrets come by stdin or files.
 */
import { spawn } from "node:child_process";
import type { ChildProcess, StdioOptions } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { fail, RackyardError } from "./errors.ts";
import { limits } from "./limits.ts";
import { openLineSplitter } from "./lines.ts";
import { pause } from "./wait.ts";

export type CommandOptions = {
  readonly cwd?: string | undefined;
  /** The whole environment of the child; by default PATH, HOME, LANG=C.UTF-8 and TZ alone. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs?: number;
  readonly outputBytes?: number;
  readonly signal?: AbortSignal | undefined;
  /** What an error calls the command; by default program and first argument. */
  readonly name?: string;
  /** Exit codes that are no failure; others throw `command-failed`. Default [0]; "any" for all. */
  readonly accept?: readonly number[] | "any";
};

export type CommandResult = {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
};

/** A minimal environment: what helper programs need, and nothing of ours leaks. */
export function plainEnv(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const keep = (name: string, otherwise: string): string => process.env[name] ?? otherwise;
  return {
    PATH: keep("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    HOME: keep("HOME", "/root"),
    LANG: "C.UTF-8",
    ...extra,
  };
}

/**
 * Runs a program to its end. Throws `command-failed` with its last line of stderr, `timed-out`,
 * `missing-package` where the program does not exist, or the signal's reason.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  options.signal?.throwIfAborted();
  const child = launch(program, args, { ...options, stdio: ["pipe", "pipe", "pipe"] });
  const room = options.outputBytes ?? limits.commandOutputBytes;
  const stdout = gather(child.process.stdout!, room, () => child.end("output"));
  const stderr = gather(child.process.stderr!, room, () => child.end("output"));
  child.process.stdin!.on("error", () => undefined); // a child that does not read its stdin
  child.process.stdin!.end(options.stdin ?? "");
  const timeoutMs = options.timeoutMs ?? limits.commandMs;
  const timer = setTimeout(() => void child.end("timeout"), timeoutMs);
  const abort = (): void => void child.end("abort");
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    const exit = await child.exited;
    options.signal?.throwIfAborted();
    const name = options.name ?? `${program} ${args[0] ?? ""}`.trim();
    if (exit.ended === "timeout") fail("timed-out", `${name}: no end within ${timeoutMs} ms`);
    if (exit.ended === "output") fail("too-large", `${name}: printed more than ${room} bytes`);
    const result = {
      exitCode: exit.code ?? 128 + (exit.signalNumber ?? 0),
      stdout: stdout(),
      stderr: stderr(),
    };
    if (options.accept !== "any" && !(options.accept ?? [0]).includes(result.exitCode)) {
      const said = lastLine(result.stderr) || lastLine(result.stdout) || "no output";
      fail("command-failed", `${name}: exit ${result.exitCode}: ${said}`);
    }
    return result;
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", abort);
  }
}

export type Exit = {
  readonly code: number | null;
  readonly signalNumber: number | null;
  readonly ended?: EndReason | undefined;
};
type EndReason = "timeout" | "abort" | "output" | "end";

export type Child = AsyncDisposable & {
  readonly pid: number;
  readonly process: ChildProcess;
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** Resolves when the child is reaped; rejects with `missing-package` when it never started. */
  readonly exited: Promise<Exit>;
  /** SIGTERM to the group, SIGKILL after the grace; resolves when the child is reaped. */
  end(reason?: EndReason, graceMs?: number): Promise<void>;
  /** One signal to the whole group. */
  kill(signal: NodeJS.Signals): void;
};

/** Starts a long-lived child whose streams the caller reads. `detached` ones outlive us. */
export function launch(
  program: string,
  args: readonly string[],
  options: {
    cwd?: string | undefined;
    env?: Readonly<Record<string, string>>;
    stdio?: StdioOptions;
    /** A daemon: a session of its own that our exit does not wait for. */
    daemon?: boolean;
    /**
     * In our own session and process group, the terminal's foreground: it may read from the
     * terminal and make groups of its own. Signals then reach the child alone.
     */
    foreground?: boolean;
  } = {},
): Child {
  const child = spawn(program, [...args], {
    cwd: options.cwd,
    env: options.env ?? plainEnv(),
    stdio: options.stdio ?? ["ignore", "pipe", "pipe"],
    detached: !options.foreground,
  });
  if (options.daemon) child.unref();
  let ended: EndReason | undefined;
  let over = false;
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) => {
      over = true;
      reject(startFailure(program, error));
    });
    const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
      over = true;
      resolve({ code, signalNumber: signal ? (signalNumbers[signal] ?? 0) : null, ended });
    };
    child.once(options.daemon ? "exit" : "close", finish);
  });
  exited.catch(() => undefined); // whoever waits sees it
  const kill = (signal: NodeJS.Signals): void => {
    if (options.foreground) child.kill(signal);
    else signalGroup(child.pid, signal);
  };
  const handle: Child = {
    pid: child.pid ?? -1,
    process: child,
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    exited,
    kill,
    async end(reason = "end", graceMs = limits.childGraceMs) {
      if (over) return;
      ended ??= reason;
      // Others may hold its streams (an ssh master those of its clients): its exit is the end.
      const release = (): void => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      };
      if (child.exitCode !== null || child.signalCode !== null) release();
      else child.once("exit", release);
      kill("SIGTERM");
      const stop = new AbortController();
      const grace = pause(graceMs, stop.signal).then(
        () => kill("SIGKILL"),
        () => undefined,
      );
      await exited.catch(() => undefined);
      stop.abort();
      await grace;
      // what the child itself had started in its group is ours to end as well
      kill("SIGKILL");
    },
    [Symbol.asyncDispose]: () => handle.end(),
  };
  return handle;
}

/** Reads a stream line by line; over-long lines are cut (limits.lineBytes). */
export async function forEachLine(stream: Readable, onLine: (line: string) => void): Promise<void> {
  const splitter = openLineSplitter(limits.lineBytes, onLine);
  stream.on("data", (chunk: Buffer) => splitter.push(chunk));
  if (!stream.readableEnded) await once(stream, "close");
  splitter.end();
}

/** Sends a signal to a process group; content when it is gone already. */
export function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined || pid <= 1) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function startFailure(program: string, error: NodeJS.ErrnoException): RackyardError {
  if (error.code === "ENOENT") {
    return new RackyardError("missing-package", `${program} is not installed`, {
      cause: error,
      remedy: "run ./rackyard doctor: it names the package",
    });
  }
  return new RackyardError("command-failed", `${program} does not start`, { cause: error });
}

function gather(stream: Readable, room: number, onFull: () => unknown): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size <= room) chunks.push(chunk);
    else onFull();
  });
  return () => Buffer.concat(chunks).toString("utf8");
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1)?.slice(0, 500) ?? "";
}

const signalNumbers: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
};

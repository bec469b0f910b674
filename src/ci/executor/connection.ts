/**
 * One build's connection to its node: an OpenSSH master that stays up, and commands through it
 * (an emulated node's login takes a second, a command over a master 0.1 s). A command's status
 * comes behind a nonce (X-3a); an ssh that ends without it is *unreachable*.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { launch, run } from "../../base/command.ts";
import type { Child } from "../../base/command.ts";
import { describeError, isRackyardError } from "../../base/errors.ts";
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";
import { until } from "../../base/wait.ts";
import { knownHostsLine, sharedOptions } from "../../ssh/client.ts";
import type { SshTarget } from "../../ssh/client.ts";
import { parseStatusLine } from "./scripts.ts";

export type Ended =
  | { readonly kind: "status"; readonly status: number }
  | { readonly kind: "unreachable"; readonly detail: string }
  | { readonly kind: "timed-out" }
  | { readonly kind: "aborted" };

export type NodeConnection = AsyncDisposable & {
  /** Connects, again where the master has died; `unreachable` after `timeoutMs`. */
  connect(timeoutMs: number, signal: AbortSignal): Promise<Ended>;
  /** Runs a script (made for this nonce) and gives its lines as they come. */
  script(
    make: (nonce: string) => string,
    options: { onLine: (line: string) => void; timeoutMs: number; signal: AbortSignal },
  ): Promise<Ended>;
  /** Runs a command whose stdout is bytes; the caller reads the stream to its end. */
  stream(command: string, stdin: string): StreamedCommand;
  pids(): number[];
};

export type StreamedCommand = {
  readonly stdout: Readable;
  /** Exit status of ssh, and what it said on stderr. */
  readonly exited: Promise<{ status: number; stderr: string }>;
  end(): Promise<void>;
};

export type ConnectionOptions = {
  readonly node: {
    readonly id: string;
    readonly address: string;
    readonly port?: number | undefined;
    readonly hostKey: string;
  };
  readonly identityFile: string;
  /** A short path: the control socket's is limited by the kernel. */
  readonly runDirectory: string;
  readonly random: Random;
};

export async function openConnection(options: ConnectionOptions): Promise<NodeConnection> {
  const { node, random } = options;
  const directory = join(options.runDirectory, node.id.slice(0, 8));
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const knownHostsFile = join(directory, "hosts");
  await writeFile(
    knownHostsFile,
    knownHostsLine({ host: node.address, port: node.port }, node.hostKey),
    {
      mode: 0o600,
    },
  );
  const control = join(directory, "s");
  const target: SshTarget = {
    host: node.address,
    port: node.port,
    user: "ci",
    identityFile: options.identityFile,
    knownHostsFile,
  };
  const plain = [
    "-T",
    ...(target.port === undefined ? [] : ["-p", String(target.port)]),
    ...sharedOptions(target),
  ];
  const login = `${target.user}@${target.host}`;
  let master: Child | undefined;
  const running = new Set<Child>();

  const through = [...plain, "-o", "ControlMaster=no", "-S", control];

  async function masterAnswers(): Promise<boolean> {
    const check = await run("ssh", [...through, "-O", "check", login], {
      accept: "any",
      timeoutMs: limits.virshQueryMs,
    });
    return check.exitCode === 0;
  }

  /** Starts the master and waits until it is up; its last words where it ends before. */
  async function startMaster(): Promise<boolean> {
    await rm(control, { force: true });
    const child = launch("ssh", [...plain, "-M", "-N", "-S", control, login], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    master = child;
    let over = false;
    let said = "";
    child.stderr!.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-1_000)));
    child.exited.then(
      () => (over = true),
      () => (over = true),
    );
    const state = await until(
      async () => (over ? "over" : (await masterAnswers()) ? "up" : false),
      { timeoutMs: limits.nodeSetupMs, what: `ssh to ${node.address}` },
    );
    if (state === "up") return true;
    throw new Error(said.trim() || "ssh ended");
  }

  async function connect(timeoutMs: number, signal: AbortSignal): Promise<Ended> {
    if (master && (await masterAnswers())) return { kind: "status", status: 0 };
    try {
      await until(startMaster, { timeoutMs, signal, what: `ssh to ${node.address}` });
      return { kind: "status", status: 0 };
    } catch (error) {
      if (signal.aborted) return { kind: "aborted" };
      await master?.end();
      return { kind: "unreachable", detail: describeError(error) };
    }
  }

  async function script(
    make: (nonce: string) => string,
    how: { onLine: (line: string) => void; timeoutMs: number; signal: AbortSignal },
  ): Promise<Ended> {
    if (how.signal.aborted) return { kind: "aborted" };
    const nonce = `@${random.bytes(16).toString("hex")}`;
    const child = launch("ssh", [...through, login, "exec bash -s"], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    running.add(child);
    let status: number | undefined;
    let said = "";
    let cause: "timed-out" | "aborted" | undefined;
    const splitter = openLineSplitter(limits.lineBytes, (line) => {
      const found = status === undefined ? parseStatusLine(line, nonce) : undefined;
      if (!found) return how.onLine(line);
      if (found.before !== "") how.onLine(found.before);
      status = found.status;
      void child.end(); // what the command left running may hold the stream open
    });
    child.stdout!.on("data", (chunk: Buffer) => splitter.push(chunk));
    child.stderr!.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-1_000)));
    child.stdin!.on("error", () => undefined);
    child.stdin!.end(make(nonce));
    const stop = (why: "timed-out" | "aborted"): void => {
      cause ??= why;
      void child.end();
    };
    const timer = setTimeout(() => stop("timed-out"), how.timeoutMs);
    const abort = (): void => stop("aborted");
    how.signal.addEventListener("abort", abort, { once: true });
    try {
      await child.exited;
      splitter.end();
    } finally {
      clearTimeout(timer);
      how.signal.removeEventListener("abort", abort);
      running.delete(child);
    }
    if (status !== undefined) return { kind: "status", status };
    if (cause !== undefined) return { kind: cause };
    return { kind: "unreachable", detail: said.trim() || "ssh ended without the command's status" };
  }

  function stream(command: string, stdin: string): StreamedCommand {
    const child = launch("ssh", [...through, login, command], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    running.add(child);
    let stderr = "";
    child.stderr!.on(
      "data",
      (chunk: Buffer) => (stderr = (stderr + chunk.toString()).slice(-1_000)),
    );
    child.stdin!.on("error", () => undefined);
    child.stdin!.end(stdin);
    const exited = child.exited.then(
      (exit) => ({ status: exit.code ?? 255, stderr: stderr.trim() }),
      (error: unknown) => ({ status: 255, stderr: describeError(error) }),
    );
    void exited.finally(() => running.delete(child));
    return { stdout: child.stdout!, exited, end: () => child.end() };
  }

  return {
    connect,
    script,
    stream,
    pids: () =>
      [master, ...running].flatMap((child) => (child && child.pid > 0 ? [child.pid] : [])),
    async [Symbol.asyncDispose]() {
      await Promise.all([...running].map((child) => child.end()));
      await master?.end().catch((error: unknown) => {
        if (!isRackyardError(error)) throw error;
      });
      await rm(directory, { recursive: true, force: true });
    },
  };
}

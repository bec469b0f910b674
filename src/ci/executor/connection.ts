/**
 * One build's connection to its node: commands through an OpenSSH master. A command's status
 * comes behind a nonce (X-3a); an ssh that ends without it is *unreachable*.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { launch } from "../../base/command.ts";
import type { Child } from "../../base/command.ts";
import { describeError } from "../../base/errors.ts";
import { openLineSplitter } from "../../base/lines.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";
import { knownHostsLine, sharedOptions } from "../../ssh/client.ts";
import { parseStatusLine } from "./scripts.ts";
import { openSshMaster } from "./ssh-master.ts";

export type Ended =
  | { readonly kind: "status"; readonly status: number }
  | { readonly kind: "unreachable"; readonly detail: string }
  | { readonly kind: "timed-out" }
  | { readonly kind: "aborted" };

export type ScriptOptions = {
  readonly onLine: (line: string) => void;
  /** Resolves when more lines may come; undefined: at once. The command waits for it. */
  readonly room?: (() => Promise<void> | undefined) | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
};

export type StreamedCommand = {
  readonly stdout: Readable;
  /** Exit status of ssh, and what it said on stderr. */
  readonly exited: Promise<{ status: number; stderr: string }>;
  end(): Promise<void>;
};

export type NodeConnection = AsyncDisposable & {
  /** Connects, again where the master has died; `unreachable` after `timeoutMs`. */
  connect(timeoutMs: number, signal: AbortSignal): Promise<Ended>;
  /** Runs a script (made for this nonce) and gives its lines as they come. */
  script(make: (nonce: string) => string, options: ScriptOptions): Promise<Ended>;
  /** Runs a command whose stdout is bytes; it ends with the signal, and its stream with it. */
  stream(command: string, stdin: string, signal: AbortSignal): StreamedCommand;
  pids(): number[];
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
  const known = knownHostsLine({ host: node.address, port: node.port }, node.hostKey);
  await writeFile(knownHostsFile, known, { mode: 0o600 });
  const { identityFile } = options;
  const plain = [
    "-T",
    ...(node.port === undefined ? [] : ["-p", String(node.port)]),
    ...sharedOptions({ host: node.address, user: "ci", identityFile, knownHostsFile }),
  ];
  const control = join(directory, "s");
  const login = `ci@${node.address}`;
  const master = openSshMaster(plain, control, login);
  const running = new Set<Child>();

  /** An ssh through the master, counted until it has ended. */
  const start = (command: string): Child => {
    const through = [...plain, "-o", "ControlMaster=no", "-S", control, login, command];
    const child = launch("ssh", through, { stdio: ["pipe", "pipe", "pipe"] });
    running.add(child);
    const forget = (): unknown => running.delete(child);
    child.exited.then(forget, forget);
    return child;
  };

  return {
    async connect(timeoutMs, signal) {
      try {
        await master.connect(timeoutMs, signal);
        return { kind: "status", status: 0 };
      } catch (error) {
        if (signal.aborted) return { kind: "aborted" };
        await master.end();
        return { kind: "unreachable", detail: describeError(error) };
      }
    },
    async script(make, how) {
      if (how.signal.aborted) return { kind: "aborted" };
      const nonce = `@${random.bytes(16).toString("hex")}`;
      return runScript(start("exec bash --norc -s"), make(nonce), nonce, how);
    },
    stream: (command, stdin, signal) => streamOf(start(command), stdin, signal),
    pids: () =>
      [master.pid(), ...[...running].map((child) => child.pid)].filter(
        (pid): pid is number => pid !== undefined && pid > 0,
      ),
    async [Symbol.asyncDispose]() {
      await Promise.all([...running].map((child) => child.end("end", limits.sshGraceMs)));
      await master.end();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Feeds the script, hands out lines, waits for the status behind the nonce. */
async function runScript(
  child: Child,
  script: string,
  nonce: string,
  how: ScriptOptions,
): Promise<Ended> {
  let status: number | undefined;
  let cause: "timed-out" | "aborted" | undefined;
  const splitter = openLineSplitter(limits.lineBytes, (line) => {
    const found = status === undefined ? parseStatusLine(line, nonce) : undefined;
    if (!found) return how.onLine(line);
    if (found.before !== "") how.onLine(found.before);
    status = found.status;
    // what the command left running may hold the stream open
    void child.end("end", limits.sshGraceMs);
  });
  const stdout = child.stdout!;
  stdout.on("error", () => undefined); // destroyed at its end
  stdout.on("data", (chunk: Buffer) => {
    splitter.push(chunk);
    const room = status === undefined ? how.room?.() : undefined;
    if (!room) return;
    stdout.pause();
    void room.then(() => stdout.resume());
  });
  const said = lastWords(child);
  child.stdin!.on("error", () => undefined);
  child.stdin!.end(script);
  const stop = (why: "timed-out" | "aborted"): void => {
    cause ??= why;
    void child.end("abort", limits.sshGraceMs);
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
  }
  if (status !== undefined) return { kind: "status", status };
  if (cause !== undefined) return { kind: cause };
  return { kind: "unreachable", detail: said() || "ssh ended without the command's status" };
}

function streamOf(child: Child, stdin: string, signal: AbortSignal): StreamedCommand {
  const said = lastWords(child, limits.collectSaidChars);
  const stdout = child.stdout!;
  stdout.on("error", () => undefined); // destroyed at its end; who reads it hears of it
  child.stdin!.on("error", () => undefined);
  child.stdin!.end(stdin);
  const end = async (): Promise<void> => {
    stdout.destroy(); // at once: a peer that goes on talking is not waited for
    await child.end("abort", limits.sshGraceMs);
  };
  const abort = (): void => void end();
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  const exited = child.exited
    .then(
      (exit) => ({ status: exit.code ?? 255, stderr: said() }),
      (error: unknown) => ({ status: 255, stderr: describeError(error) }),
    )
    .finally(() => signal.removeEventListener("abort", abort));
  return { stdout, exited, end };
}

/** The end of what a child says on stderr. */
function lastWords(child: Child, chars = 1_000): () => string {
  let said = "";
  child.stderr!.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-chars)));
  return () => said.trim();
}

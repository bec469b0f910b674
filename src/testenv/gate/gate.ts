/**
 * The ssh gate's plumbing (te-host.md §6): our sshd on host-ip, an account and a socket for each
 * TE, the key of the present lease alone, and its end within a second. What a command means and
 * whether it is allowed is gate-verbs.ts'; the program at sshd's other end is gate-program.ts.
 */
import { chmod, chown, copyFile, link, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { Readable } from "node:stream";
import { z } from "zod";
import type { Clock } from "../../base/clock.ts";
import { run } from "../../base/command.ts";
import { describeError } from "../../base/errors.ts";
import { writeFileAtomic } from "../../base/files.ts";
import { epochSchema } from "../../model/testenv.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { pause, until } from "../../base/wait.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import { sshdConfig } from "../../ssh/sshd.ts";
import { openKeyLines } from "./key-lines.ts";
import type { GateOpening } from "./key-lines.ts";
import { killProcessesOfUid, processesOfUid } from "./account-processes.ts";
import { accountName, gateAccount, gateGroup } from "../parts.ts";
import { refused } from "./verb-codec.ts";
import type { GateAnswer } from "./verb-codec.ts";

/** In the cell's own /run: gate-program.ts knows it too. */
export const gateFolder = "/run/rackyard-gate";
const bin = join(gateFolder, "bin");
const keys = join(gateFolder, "keys");
const sockets = join(gateFolder, "sockets");
const home = join(gateFolder, "home");
const shell = join(bin, "te-shell.mts");

export type GateRequest = {
  readonly number: number;
  readonly lease: string;
  readonly epoch: number;
  readonly command: string;
  /** Address of the ssh client, for the record. */
  readonly from: string;
  /** The gate asks for the second time: its first agent died over it. */
  readonly again: boolean;
  /** The client's stdin, from now on. */
  stdin(): Readable;
  /** So much came from the client, its words included. */
  bytesRead(): number;
  /** Aborted at the lease's end, and when the client goes away. */
  readonly signal: AbortSignal;
};

export type Gate = AsyncDisposable & {
  /** Exactly these TEs have accounts and sockets. */
  setTestenvs(numbers: readonly number[]): Promise<void>;
  /** Installs the one key of a lease. May be called twice (extension). */
  open(opening: GateOpening): Promise<void>;
  /** No key, no connection, no process when it returns, ≤ 1 s (H-6.8). */
  close(number: number): Promise<void>;
  /** Resolves when no command of this TE is being carried out. */
  settled(number: number): Promise<void>;
  facts(number: number): Promise<{ sshKeys: number; openConnections: number; processes: number }>;
};

const headerSchema = z.strictObject({
  lease: z.string().max(64),
  epoch: epochSchema,
  command: z.string(),
  from: z.string().max(64),
  again: z.boolean(),
});

type Call = { readonly socket: Socket; readonly stop: AbortController; done: Promise<void> };

export async function openGate(options: {
  readonly hypervisor: Pick<Hypervisor, "daemons" | "setAccounts">;
  readonly address: string;
  readonly port: number;
  /** The gate's own private key, OpenSSH's form. */
  readonly hostKey: string;
  /** `<state>/bin`: program and Node are copied there. */
  readonly binFolder: string;
  readonly clock: Clock;
  readonly answer: (request: GateRequest) => Promise<GateAnswer>;
  readonly log: Log;
}): Promise<Gate> {
  const servers = new Map<number, Server>();
  const calls = new Map<number, Set<Call>>();
  const keyLines = openKeyLines(keys, options.clock);
  const stop = new AbortController();
  await installProgram(options.binFolder);
  await startSshd(options);

  function accept(number: number, socket: Socket): void {
    const stop = new AbortController();
    const call: Call = { socket, stop, done: Promise.resolve() };
    const own = calls.get(number) ?? new Set();
    socket.on("error", () => undefined);
    if (own.size >= limits.gateCalls) return turnAway(socket);
    calls.set(number, own.add(call));
    socket.once("close", () => stop.abort(new DOMException("the client is gone", "AbortError")));
    call.done = serve(number, socket, stop.signal).finally(() => own.delete(call));
  }

  /** One pot for each rack: a job that floods its gate waits for itself. */
  function turnAway(socket: Socket): void {
    const line = `error: ${limits.gateCalls} commands of this rack are being carried out already`;
    socket.end(`${JSON.stringify(refused(line))}\n`);
    socket.resume().setTimeout(limits.commandMs, () => socket.destroy());
  }

  async function serve(number: number, socket: Socket, signal: AbortSignal): Promise<void> {
    try {
      const { header, rest } = await readHeader(socket, signal);
      const request: GateRequest = {
        ...header,
        number,
        epoch: Number(header.epoch),
        signal,
        bytesRead: () => socket.bytesRead,
        stdin() {
          socket.write(`${JSON.stringify({ want: "stdin" })}\n`);
          if (rest.length > 0) socket.unshift(rest);
          return bytesOf(socket);
        },
      };
      const answer = await options.answer(request).catch((error: unknown) => {
        options.log.warn({ testenv: number, why: describeError(error) }, "a verb failed");
        return refused("error: the agent cannot do it now");
      });
      if (!signal.aborted) socket.end(`${JSON.stringify(answer)}\n`);
    } catch (error) {
      options.log.debug({ testenv: number, why: describeError(error) }, "a gate call ended");
    } finally {
      if (!socket.writableEnded) socket.destroy();
    }
  }

  async function listen(number: number): Promise<Server> {
    const path = join(sockets, `${accountName(number)}.sock`);
    await rm(path, { force: true });
    const server = createServer({ allowHalfOpen: true }, (socket) => accept(number, socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    const { uid } = gateAccount(number, { home, shell });
    await chmod(path, 0o600);
    await chown(path, uid, gateGroup.gid);
    return server;
  }

  async function shut(number: number): Promise<void> {
    const server = servers.get(number);
    servers.delete(number);
    for (const call of calls.get(number) ?? []) call.socket.destroy();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
  }

  const gate: Gate = {
    async setTestenvs(numbers) {
      await options.hypervisor.setAccounts(
        gateGroup,
        numbers.map((number) => gateAccount(number, { home, shell })),
      );
      for (const number of numbers) {
        if (!servers.has(number)) servers.set(number, await listen(number));
      }
      for (const number of servers.keys()) {
        if (!numbers.includes(number)) await shut(number);
      }
    },
    async open(opening) {
      await keyLines.install(opening);
    },
    async close(number) {
      await keyLines.remove(number);
      const { uid } = gateAccount(number, { home, shell });
      // The connections first: a gate program that only loses its agent would still answer its
      // client, with an exit status of its own, over a connection that should be gone.
      killProcessesOfUid(uid);
      for (const call of calls.get(number) ?? []) {
        call.stop.abort(new DOMException("the lease is over", "AbortError"));
        call.socket.destroy();
      }
      await until(() => killProcessesOfUid(uid) === 0, {
        timeoutMs: limits.fenceMs,
        everyMs: 10,
        what: `the processes of ${accountName(number)} to end`,
      });
    },
    async settled(number) {
      await Promise.all([...(calls.get(number) ?? [])].map((call) => call.done));
    },
    async facts(number) {
      const { uid } = gateAccount(number, { home, shell });
      const names = await readdir(keys);
      return {
        sshKeys: names.filter((name) => name === accountName(number)).length,
        openConnections: calls.get(number)?.size ?? 0,
        processes: processesOfUid(uid).length,
      };
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching;
      await Promise.all([...servers.keys()].map(shut));
    },
  };
  /** A wall clock that was set would make sshd refuse live keys. */
  async function watchClock(): Promise<void> {
    while (!stop.signal.aborted) {
      await pause(limits.clockLookMs, stop.signal).catch(() => undefined);
      try {
        if ((await keyLines.look()) === "stepped") options.log.warn({}, "the wall clock was set");
      } catch (error) {
        options.log.error(
          { why: describeError(error) },
          "key lines not written after a clock step",
        );
      }
    }
  }
  const watching = watchClock();
  return gate;
}

/** What the client sends; a socket read to its end by an iterator could not answer any more. */
function bytesOf(socket: Socket): Readable {
  const bytes = new PassThrough();
  socket.once("close", () => {
    if (!socket.readableEnded) bytes.destroy(new Error("the client went away"));
  });
  return socket.pipe(bytes);
}

/** First line of a call: bounded in length and time; `rest` are the bytes behind it. */
async function readHeader(
  socket: Socket,
  signal: AbortSignal,
): Promise<{ header: z.output<typeof headerSchema>; rest: Buffer }> {
  const bound = AbortSignal.any([signal, AbortSignal.timeout(limits.commandMs)]);
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    const finish = (act: () => void): void => {
      socket.off("data", onData);
      bound.removeEventListener("abort", onAbort);
      socket.pause();
      act();
    };
    const onAbort = (): void => finish(() => reject(bound.reason as Error));
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf(10);
      if (end < 0 && received.length <= 4 * limits.gateCommandBytes) return;
      finish(() => {
        try {
          const header = headerSchema.parse(JSON.parse(received.toString("utf8", 0, end)));
          resolve({ header, rest: received.subarray(end + 1) });
        } catch (error) {
          reject(error instanceof Error ? error : new Error("not a header"));
        }
      });
    };
    bound.addEventListener("abort", onAbort);
    socket.on("data", onData);
  });
}

/** Program and Node into `<state>/bin`, and that folder to where the accounts may reach it. */
async function installProgram(binFolder: string): Promise<void> {
  await mkdir(binFolder, { recursive: true, mode: 0o755 });
  await chmod(binFolder, 0o755);
  const node = join(binFolder, "node");
  await rm(node, { force: true });
  await link(process.execPath, node).catch(() => copyFile(process.execPath, node));
  await chmod(node, 0o755);
  const program = await readFile(new URL("../gate-program.ts", import.meta.url));
  await writeFileAtomic(join(binFolder, "te-shell.mts"), program, 0o755);
  for (const path of [gateFolder, bin, keys, sockets, home]) {
    await mkdir(path, { recursive: true });
    await chmod(path, 0o755); // the umask does not decide
  }
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  if (!mounts.includes(` ${bin} `)) await run("mount", ["-n", "--bind", binFolder, bin]);
}

async function startSshd(options: Parameters<typeof openGate>[0]): Promise<void> {
  const { address, port } = options;
  const hostKeyFile = join(gateFolder, "host_key");
  const configFile = join(gateFolder, "sshd_config");
  const prepare = async (): Promise<void> => {
    await writeFileAtomic(hostKeyFile, options.hostKey, 0o600);
    const keysFile = join(keys, "%u");
    const group = gateGroup.name;
    const config = sshdConfig({ address, port, hostKeyFile, keysFile, group });
    await writeFileAtomic(configFile, config, 0o600);
    await mkdir("/run/sshd", { recursive: true, mode: 0o755 });
  };
  await options.hypervisor.daemons.ensure({
    name: "sshd",
    program: "/usr/bin/prlimit",
    args: [`--nproc=${limits.gateThreads}`, "/usr/sbin/sshd", "-D", "-e", "-f", configFile],
    executable: "sshd",
    prepare,
    ready: () => greets(address, port),
  });
}

/** Whether an ssh server answers with its banner. */
function greets(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: limits.localConnectMs });
    const finish = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("data", (bytes: Buffer) => finish(bytes.toString("latin1").startsWith("SSH-")));
    socket.once("error", () => finish(false));
    socket.once("timeout", () => finish(false));
    socket.once("close", () => finish(false));
  });
}

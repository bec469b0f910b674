/**
 * The ssh gate's plumbing (te-host.md §6): our sshd on host-ip, an account and a socket for each
 * TE, the key of the present lease alone, and its end within a second. What a command means and
 * whether it is allowed is gate-verbs.ts'; the program at sshd's other end is gate-program.ts.
 */
import { chmod, copyFile, link, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { run } from "../../base/command.ts";
import { describeError } from "../../base/errors.ts";
import { writeFileAtomic } from "../../base/files.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { pause, until } from "../../base/wait.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import type { SshKeyPair } from "../../ssh/keys.ts";
import { sshdConfig } from "../../ssh/sshd.ts";
import { openGateProbe } from "./gate-probe.ts";
import { openKeyLines } from "./key-lines.ts";
import type { GateOpening } from "./key-lines.ts";
import { openRackSockets } from "./rack-sockets.ts";
import type { GateRequest } from "./rack-sockets.ts";
import { killProcessesOfUid, processesOfUid } from "./account-processes.ts";
import { accountName, gateAccount, gateGroup } from "../parts.ts";
import type { GateAnswer } from "./verb-codec.ts";

/** In the cell's own /run: gate-program.ts knows it too. */
export const gateFolder = "/run/rackyard-gate";
const bin = join(gateFolder, "bin");
const keys = join(gateFolder, "keys");
const sockets = join(gateFolder, "sockets");
const home = join(gateFolder, "home");
const shell = join(bin, "te-shell.mts");

/** Beside the TEs' accounts, with the same shell, home and group: it meets what they meet. */
const probeAccount = { name: "te-probe", uid: gateGroup.gid + 999, home, shell };

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
  /** A real login at our sshd, as an account that can do nothing but answer; throws why not. */
  probe(signal: AbortSignal): Promise<void>;
};

export async function openGate(options: {
  readonly hypervisor: Pick<Hypervisor, "daemons" | "setAccounts">;
  readonly address: string;
  readonly port: number;
  /** The gate's own private key, OpenSSH's form. */
  readonly hostKey: SshKeyPair;
  /** `<state>/bin`: program and Node are copied there. */
  readonly binFolder: string;
  readonly clock: Clock;
  readonly answer: (request: GateRequest) => Promise<GateAnswer>;
  readonly log: Log;
}): Promise<Gate> {
  const commands = openRackSockets(options);
  const keyLines = openKeyLines(keys, options.clock);
  const stop = new AbortController();
  await installProgram(options.binFolder);
  await startSshd(options);
  const probe = await openGateProbe({
    ...options,
    folder: gateFolder,
    keyFile: join(keys, probeAccount.name),
    account: probeAccount.name,
    wallMs: () => options.clock.wallMs(),
  });

  const gate: Gate = {
    async setTestenvs(numbers) {
      await options.hypervisor.setAccounts(gateGroup, [
        ...numbers.map((number) => gateAccount(number, { home, shell })),
        probeAccount,
      ]);
      const there = commands.listening();
      for (const number of numbers.filter((one) => !there.includes(one))) {
        const path = join(sockets, `${accountName(number)}.sock`);
        const { uid } = gateAccount(number, { home, shell });
        await commands.listen(number, path, { uid, gid: gateGroup.gid });
      }
      for (const number of there) if (!numbers.includes(number)) await commands.shut(number);
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
      commands.abort(number);
      await until(() => killProcessesOfUid(uid) === 0, {
        timeoutMs: limits.fenceMs,
        everyMs: 10,
        what: `the processes of ${accountName(number)} to end`,
      });
    },
    settled: (number) => commands.settled(number),
    async facts(number) {
      const { uid } = gateAccount(number, { home, shell });
      const names = await readdir(keys);
      return {
        sshKeys: names.filter((name) => name === accountName(number)).length,
        openConnections: commands.open(number),
        processes: processesOfUid(uid).length,
      };
    },
    probe,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watching;
      await Promise.all(commands.listening().map((number) => commands.shut(number)));
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
    await writeFileAtomic(hostKeyFile, options.hostKey.privateKey, 0o600);
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

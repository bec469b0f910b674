/**
 * An sshd of the machine's own on the wildcard address and port 22, as every Debian server has
 * one: what Rackyard does shall neither disturb it nor be disturbed. Where one listens already,
 * that one serves.
 */
import { mkdir, mkdtemp, rm, rmdir } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch, run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";

export type MachineSshd = AsyncDisposable & {
  /** Its Ed25519 host key, as it shows it now. */
  hostKey(): Promise<string>;
};

export async function startMachineSshd(): Promise<MachineSshd> {
  const hostKey = (): Promise<string> => hostKeyAt("127.0.0.1");
  if (await listens()) return { hostKey, [Symbol.asyncDispose]: () => Promise.resolve() };
  const folder = await mkdtemp(join(tmpdir(), "machine-sshd-"));
  const key = join(folder, "key");
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  const made = await mkdir("/run/sshd", { recursive: true }); // its chroot, which a service makes
  const words = ["-D", "-e", "-f", "/dev/null", "-h", key, "-o", "PidFile=none"];
  const child = launch("/usr/sbin/sshd", [...words, "-o", "ListenAddress=0.0.0.0:22"], {
    stdio: "ignore",
  });
  await until(listens, { timeoutMs: 10_000, what: "the machine's sshd to listen" });
  return {
    hostKey,
    async [Symbol.asyncDispose]() {
      await child.end();
      if (made !== undefined) await rmdir("/run/sshd");
      await rm(folder, { recursive: true });
    },
  };
}

/** The host key of whoever listens on port 22 there. */
export async function hostKeyAt(address: string): Promise<string> {
  const { stdout } = await run("ssh-keyscan", ["-T", "20", "-t", "ed25519", address]);
  const found = /^\S+ (ssh-ed25519 \S+)$/m.exec(stdout);
  if (!found?.[1]) throw new Error(`no host key at ${address}: ${stdout}`);
  return found[1];
}

function listens(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(22, "127.0.0.1");
    const tell = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", () => tell(true)).once("error", () => tell(false));
  });
}

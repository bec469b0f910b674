/**
 * A CI node without a machine: the system's sshd in a mount namespace of its own, with a user
 * `ci`, its home, /etc and /opt on tmpfs, listening on loopback. Real OpenSSH, git, tar; no
 * boot. Its `sudo -n COMMAND` is a shell with the effective user root: enough to read and to set.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch, run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";

export type NodeSandbox = AsyncDisposable & {
  readonly directory: string;
  readonly port: number;
  readonly hostKey: string;
  readonly identityFile: string;
  /** The sandbox's first process: its mount namespace is entered through it. */
  readonly pid: number;
};

const inside = `set -eu
d=$1 port=$2
mount --make-rprivate /
mount -t tmpfs -o size=256m none /home
mount -t tmpfs -o size=256m none /opt
mkdir /opt/etc
cp -a /etc/. /opt/etc
mount --bind /opt/etc /etc
cat "$d/passwd" >/etc/passwd
cat "$d/group" >/etc/group
rm -f /etc/gitconfig
mount -t tmpfs -o size=16m none /usr/local/bin
cp /bin/bash /opt/root-bash
chmod 4755 /opt/root-bash
printf '%s\\n' '#!/opt/root-bash -p' 'shift' 'exec "$@"' >/usr/local/bin/sudo
chmod 755 /usr/local/bin/sudo
mkdir -p /run/sshd /home/ci/.ssh /opt/stack/new
cp "$d/key.pub" /home/ci/.ssh/authorized_keys
chown -R 1000:1000 /home/ci /opt/stack
chmod 700 /home/ci/.ssh
exec /usr/sbin/sshd -D -e -f "$d/sshd_config" -p "$port"
`;

export async function openNodeSandbox(): Promise<NodeSandbox> {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-node-"));
  const port = await freePort();
  for (const key of ["host", "key"]) {
    await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(directory, key)]);
  }
  const passwd = await readFile("/etc/passwd", "utf8");
  const group = await readFile("/etc/group", "utf8");
  await writeFile(join(directory, "passwd"), `${passwd}ci:*:1000:1000::/home/ci:/bin/bash\n`);
  await writeFile(join(directory, "group"), `${group}ci:x:1000:\n`);
  await writeFile(
    join(directory, "sshd_config"),
    [
      "ListenAddress 127.0.0.1",
      `HostKey ${join(directory, "host")}`,
      "UsePAM no",
      "PasswordAuthentication no",
      "StrictModes no",
      "MaxSessions 20",
      `PidFile ${join(directory, "pid")}`,
      "",
    ].join("\n"),
  );
  await writeFile(join(directory, "inside"), inside);
  const child = launch(
    "unshare",
    ["-m", "-p", "-f", "--kill-child", "sh", join(directory, "inside"), directory, String(port)],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let said = "";
  child.stderr!.on("data", (chunk: Buffer) => (said += chunk.toString()));
  await until(() => said.includes("Server listening"), {
    timeoutMs: 20_000,
    what: `sshd of the sandbox: ${said}`,
  });
  const [type, key] = (await readFile(join(directory, "host.pub"), "utf8")).split(" ");
  return {
    directory,
    port,
    hostKey: `${type} ${key?.trim()}`,
    identityFile: join(directory, "key"),
    pid: child.pid,
    async [Symbol.asyncDispose]() {
      await child.end();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * What a command finds of its rack (surface.md §10): a private folder with the TE data, the
 * lease's key, the gate's host key, and an `ssh` (`scp`, `sftp`) in front of PATH that knows
 * them, so that `ssh te1@host virsh start seed_1` simply works and the user's own ssh
 * configuration still holds for all other hosts. The folder goes with the lease.
 */
import { access, chmod, constants, mkdir, rm, stat, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { runnableFolder } from "../base/runnable-folder.ts";
import type { TestenvData } from "../model/testenv.ts";

export type RackFiles = AsyncDisposable & {
  readonly directory: string;
  /** To be added to the command's environment. */
  readonly env: Readonly<Record<string, string>>;
};

type Env = Readonly<Record<string, string | undefined>>;

export async function writeRackFiles(data: TestenvData, env: Env): Promise<RackFiles> {
  const directory = await runnableFolder("rackyard-rack-"); // mode 0700
  const dispose = (): Promise<void> => rm(directory, { recursive: true, force: true });
  try {
    const file = async (name: string, text: string): Promise<string> => {
      const path = join(directory, name);
      await writeFile(path, text, { mode: 0o600 });
      return path;
    };
    const dataFile = await file("te.json", `${JSON.stringify(data)}\n`);
    const key = await file("identity", withNewline(data["ssh-key"]));
    const known = await file("known_hosts", knownHosts(data));
    const config = await file("ssh_config", sshConfig(data, key, known));
    const bin = await writeWrappers(directory, config, env);
    const ca = typeof data["ca"] === "string" ? await file("ca.pem", data["ca"]) : undefined;
    return {
      directory,
      env: {
        TE_DATAFILE: dataFile,
        RACKYARD_SSH_CONFIG: config,
        PATH: [bin, env["PATH"] ?? ""].join(delimiter),
        ...(ca === undefined ? {} : { TE_CA_FILE: ca }),
      },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** The host's address and port, checked: they come from outside and go into a configuration. */
function gateOf(data: TestenvData): { host: string; port: string; user: string } {
  const plain = (value: unknown, form: RegExp, otherwise: string): string =>
    typeof value === "string" && form.test(value) ? value : otherwise;
  return {
    host: plain(data["host-ip"], /^[A-Za-z0-9.:-]{1,255}$/, "invalid"),
    port: plain(data["ssh-port"], /^[0-9]{1,5}$/, "22"),
    user: plain(data["ssh-user"], /^[A-Za-z0-9_-]{1,32}$/, "invalid"),
  };
}

function knownHosts(data: TestenvData): string {
  const { host, port } = gateOf(data);
  const key = data["ssh-host-key"];
  if (typeof key !== "string" || !/^[a-z0-9-]+ [A-Za-z0-9+/=]+$/.test(key)) return "";
  return `${port === "22" ? host : `[${host}]:${port}`} ${key}\n`;
}

/** ssh_config(5): the first value found holds, so ours stand before the user's. */
function sshConfig(data: TestenvData, key: string, known: string): string {
  const { host, port, user } = gateOf(data);
  return `# written by rackyard lease; gone with the lease
Host ${host}
  User ${user}
  Port ${port}
  IdentityFile "${key}"
  IdentitiesOnly yes
  UserKnownHostsFile "${known}"
  StrictHostKeyChecking yes
  ControlMaster no
  ControlPath none
Match all
Include "${join(homedir(), ".ssh", "config")}"
Include /etc/ssh/ssh_config
`;
}

async function writeWrappers(directory: string, config: string, env: Env): Promise<string> {
  const bin = join(directory, "bin");
  await mkdir(bin);
  for (const name of ["ssh", "scp", "sftp"]) {
    const real = await findProgram(name, env);
    if (real.kind !== "found") continue; // not installed here: nothing to stand before
    const path = join(bin, name);
    await writeFile(path, `#!/bin/sh\nexec ${quoted(real.path)} -F ${quoted(config)} "$@"\n`);
    await chmod(path, 0o700);
  }
  return bin;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const withNewline = (text: string): string => (text.endsWith("\n") ? text : `${text}\n`);

export type Found =
  | { readonly kind: "found"; readonly path: string }
  | { readonly kind: "missing" | "not-executable" };

/** As execvp(3) finds a program, so that it is known before a rack is taken for it. */
export async function findProgram(name: string, env: Env): Promise<Found> {
  const places = name.includes("/")
    ? [resolve(name)]
    : (env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin")
        .split(delimiter)
        .map((folder) => resolve(folder, name));
  let there = false;
  for (const path of places) {
    const found = await stat(path).catch(() => undefined);
    if (!found) continue;
    there = true;
    const runs = await access(path, constants.X_OK).then(
      () => found.isFile(),
      () => false,
    );
    if (runs) return { kind: "found", path };
  }
  return { kind: there ? "not-executable" : "missing" };
}

/**
 * Arguments for the system's OpenSSH client: one identity, one known host key, nothing of the
 * user's own configuration or agent, no questions, bounded waits. Programs are started by the
 * caller; a key travels as a file's path, never as an argument.
 */
import { isAbsolute } from "node:path/posix";
import { assert } from "../base/assert.ts";
import { writeFileAtomic } from "../base/files.ts";

export type SshTarget = {
  readonly host: string;
  readonly port?: number | undefined;
  readonly user: string;
  /** File of mode 0600 with the private key. */
  readonly identityFile: string;
  /** File that writeKnownHosts made for this host. */
  readonly knownHostsFile: string;
  /**
   * One connection shared by many calls: the socket's path (≤ 90 bytes, as ssh appends to it),
   * and how long it lingers after the last.
   */
  readonly control?: { readonly socket: string; readonly persistSeconds: number } | undefined;
  readonly connectTimeoutSeconds?: number | undefined;
  /** A dead peer is noticed after three of these. */
  readonly aliveSeconds?: number | undefined;
};

/** For `ssh`: options, then `user@host`, then the command as one word for the far shell. */
export function sshArgs(target: SshTarget, command?: string): string[] {
  return [
    "-T",
    ...(target.port === undefined ? [] : ["-p", String(target.port)]),
    ...sharedOptions(target),
    `${target.user}@${target.host}`,
    ...(command === undefined ? [] : [command]),
  ];
}

/** For `scp` (SFTP): options only; sources and the target (`remotePath`) follow. */
export function scpArgs(target: SshTarget): string[] {
  return [
    "-q",
    "-r",
    ...(target.port === undefined ? [] : ["-P", String(target.port)]),
    ...sharedOptions(target),
  ];
}

/** `user@host:path` for scp. */
export function remotePath(target: SshTarget, path: string): string {
  assert(isAbsolute(path), `not an absolute path: ${path}`);
  return `${target.user}@${target.host}:${path}`;
}

/** For `ssh`: asks the shared connection to end (`exit`) or whether it lives (`check`). */
export function controlArgs(target: SshTarget, order: "exit" | "check"): string[] {
  assert(target.control, "no shared connection");
  return ["-O", order, ...sharedOptions(target), `${target.user}@${target.host}`];
}

/** What `git` takes as GIT_SSH_COMMAND: a shell's words, so all must be plain. */
export function gitSshCommand(target: SshTarget): string {
  const words = ["ssh", ...sshArgs(target).slice(0, -1)];
  for (const word of words) {
    assert(/^[A-Za-z0-9_./:=@%,+-]+$/.test(word), `not a plain word: ${word}`);
  }
  return words.join(" ");
}

/** Writes the one line that says which key this host must show. `hostKey`: `type base64`. */
export async function writeKnownHosts(
  path: string,
  target: { host: string; port?: number | undefined },
  hostKey: string,
): Promise<void> {
  await writeFileAtomic(path, knownHostsLine(target, hostKey), 0o600);
}

/** `host key` or `[host]:port key` (sshd(8), known_hosts), with its newline. */
export function knownHostsLine(
  target: { host: string; port?: number | undefined },
  hostKey: string,
): string {
  assert(/^[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}$/.test(hostKey), "not a public key line");
  const { host, port } = target;
  const name = port === undefined || port === 22 ? host : `[${host}]:${port}`;
  return `${name} ${hostKey}\n`;
}

/** Options for every ssh to this target: without the destination and `-p`. */
export function sharedOptions(target: SshTarget): string[] {
  assert(!target.user.startsWith("-") && !target.host.startsWith("-"), "not a login");
  const options: Record<string, string> = {
    BatchMode: "yes",
    IdentitiesOnly: "yes",
    IdentityAgent: "none",
    IdentityFile: target.identityFile,
    UserKnownHostsFile: target.knownHostsFile,
    GlobalKnownHostsFile: "/dev/null",
    StrictHostKeyChecking: "yes",
    UpdateHostKeys: "no",
    CheckHostIP: "no",
    PreferredAuthentications: "publickey",
    ForwardAgent: "no",
    ClearAllForwardings: "yes",
    EscapeChar: "none",
    LogLevel: "ERROR",
    ConnectTimeout: String(target.connectTimeoutSeconds ?? 30),
    ServerAliveInterval: String(target.aliveSeconds ?? 10),
    ServerAliveCountMax: "3",
    ...(target.control
      ? {
          ControlMaster: "auto",
          ControlPath: target.control.socket,
          ControlPersist: String(target.control.persistSeconds),
        }
      : {}),
  };
  const words = Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  return ["-F", "/dev/null", ...words];
}

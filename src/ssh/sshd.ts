/**
 * What sshd reads: its configuration and the one line of an account's keys (H-6.2–H-6.4). Text
 * only, checked so that nothing from outside can end a line or a quoted word. Running sshd and
 * replacing the files is the gate's.
 */
import { assert } from "../base/assert.ts";
import { limits } from "../base/limits.ts";

export type SshdOptions = {
  readonly address: string;
  readonly port: number;
  readonly hostKeyFile: string;
  /** With `%u` for the account. */
  readonly keysFile: string;
  readonly group: string;
};

/** OpenSSH ≥ 9.2. Publickey alone, one group, no shell comforts at all (H-6.3). */
export function sshdConfig(options: SshdOptions): string {
  for (const value of [options.hostKeyFile, options.keysFile, options.group]) {
    assert(/^[A-Za-z0-9_./%@:+-]+$/.test(value), `not a word for sshd_config: ${value}`);
  }
  const lines = [
    `ListenAddress ${options.address}:${options.port}`,
    `HostKey ${options.hostKeyFile}`,
    "PidFile none",
    `AllowGroups ${options.group}`,
    `AuthorizedKeysFile ${options.keysFile}`,
    "AuthenticationMethods publickey",
    "PubkeyAuthentication yes",
    "PasswordAuthentication no",
    "KbdInteractiveAuthentication no",
    "PermitRootLogin no",
    "UsePAM no",
    "StrictModes yes",
    "DisableForwarding yes",
    "PermitTTY no",
    "PermitUserRC no",
    "PermitUserEnvironment no",
    "PrintMotd no",
    "PrintLastLog no",
    "UseDNS no",
    // OpenSSH's first choice costs an emulated client a whole second for each connection
    "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,diffie-hellman-group16-sha512",
    "Compression no",
    "MaxSessions 10",
    // A source has a share of the logins under way, so that its silent connections shut nobody out.
    `PerSourceMaxStartups ${limits.gateLoginsPerSource}`,
    "PerSourceNetBlockSize 32:64",
    `MaxStartups ${limits.gateLogins / 2}:30:${limits.gateLogins}`,
    "LoginGraceTime 20",
    "ClientAliveInterval 15",
    "ClientAliveCountMax 3",
    "UnusedConnectionTimeout 30",
    "LogLevel VERBOSE",
    "VersionAddendum none",
  ];
  return `${lines.join("\n")}\n`;
}

export type KeyLine = {
  /** `type base64`, without comment. */
  readonly publicKey: string;
  /** The key is refused from this instant on; whole seconds, rounded up. */
  readonly expiresAtMs: number;
  /** Addresses the login may come from; none: from anywhere. */
  readonly from: readonly string[];
  /** What runs, whatever was asked; words that need no quoting. */
  readonly command: readonly string[];
};

/** One line of authorized_keys, with its newline. */
export function authorizedKeyLine(key: KeyLine): string {
  assert(/^[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,3}$/.test(key.publicKey), "not a public key line");
  for (const word of key.command) {
    assert(/^[A-Za-z0-9_./:-]+$/.test(word), `not a plain word: ${word}`);
  }
  for (const address of key.from) assert(/^[0-9a-f.:]+$/.test(address), `not an address`);
  const options = [
    "restrict",
    `expiry-time="${expiryTime(key.expiresAtMs)}"`,
    ...(key.from.length > 0 ? [`from="${key.from.join(",")}"`] : []),
    `command="${key.command.join(" ")}"`,
  ];
  return `${options.join(",")} ${key.publicKey}\n`;
}

/** `YYYYMMDDHHMMSSZ` (sshd(8), expiry-time), UTC. */
function expiryTime(atMs: number): string {
  const whole = new Date(Math.ceil(atMs / 1000) * 1000).toISOString();
  return `${whole.slice(0, 19).replaceAll(/[-:T]/g, "")}Z`;
}

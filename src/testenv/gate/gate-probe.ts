/**
 * A login at the gate as a holder makes one (H-6.2), with a key and an account of the agent's own:
 * sshd, the cell's accounts, the keys' folder, the shell and its Node are seen to work. The key
 * line is written anew each time, forces `te-shell --probe`, and is good from this host alone.
 */
import { join } from "node:path";
import { run } from "../../base/command.ts";
import { fail } from "../../base/errors.ts";
import { writeFileAtomic } from "../../base/files.ts";
import { limits } from "../../base/limits.ts";
import { sshArgs, writeKnownHosts } from "../../ssh/client.ts";
import { makeEd25519Key } from "../../ssh/keys.ts";
import type { SshKeyPair } from "../../ssh/keys.ts";
import { authorizedKeyLine } from "../../ssh/sshd.ts";

export async function openGateProbe(gate: {
  readonly address: string;
  readonly port: number;
  readonly hostKey: SshKeyPair;
  readonly account: string;
  /** The account's authorized keys. */
  readonly keyFile: string;
  /** Where its private key lies, readable by root alone; made anew with each agent. */
  readonly folder: string;
  readonly wallMs: () => number;
}): Promise<(signal: AbortSignal) => Promise<void>> {
  const { address: host, port } = gate;
  const key = await makeEd25519Key("probe");
  const identityFile = join(gate.folder, "probe_key");
  const knownHostsFile = join(gate.folder, "probe_known_hosts");
  await writeFileAtomic(identityFile, key.privateKey, 0o600);
  await writeKnownHosts(knownHostsFile, { host, port }, gate.hostKey.publicKey);
  const target = { host, port, user: gate.account, identityFile, knownHostsFile };

  return async (signal) => {
    const line = authorizedKeyLine({
      publicKey: key.publicKey,
      expiresAtMs: gate.wallMs() + 3_600_000,
      from: [host],
      command: ["te-shell", "--probe"],
    });
    await writeFileAtomic(gate.keyFile, line, 0o644);
    const timeoutMs = limits.probeAnswerMs;
    const answer = await run("ssh", sshArgs(target, "probe"), { signal, timeoutMs });
    if (answer.stdout !== "well\n") fail("unavailable", `the gate says ${answer.stdout.trim()}`);
  };
}

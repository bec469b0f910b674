/**
 * Whether a machine's sshd answers with the host key that we gave it: ssh-keyscan, which needs
 * no login (H-17.1). Logging in is others'.
 */
import { run } from "../base/command.ts";

/** True once `host` shows exactly this key (`ssh-ed25519 AAAA…`); false while it does not. */
export async function showsHostKey(
  target: { host: string; port: number },
  hostKey: string,
  options: { timeoutSeconds: number; signal?: AbortSignal | undefined },
): Promise<boolean> {
  const type = hostKey.split(" ")[0]!.replace(/^ssh-/, "");
  const args = ["-T", String(options.timeoutSeconds), "-p", String(target.port), "-t", type];
  const { stdout } = await run("ssh-keyscan", [...args, target.host], {
    accept: "any",
    timeoutMs: options.timeoutSeconds * 1_000 + 5_000,
    signal: options.signal,
  });
  return stdout.split("\n").some((line) => line.split(" ").slice(1).join(" ") === hostKey);
}

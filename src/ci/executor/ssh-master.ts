/**
 * An OpenSSH master to one node, kept up and started again where it has died: an emulated node's
 * login takes a second, a command through the master 0.1 s.
 */
import { rm } from "node:fs/promises";
import { launch, run } from "../../base/command.ts";
import type { Child } from "../../base/command.ts";
import { limits } from "../../base/limits.ts";
import { until } from "../../base/wait.ts";

export type SshMaster = {
  /** Content when it answers; else throws what kept it from that within `timeoutMs`. */
  connect(timeoutMs: number, signal: AbortSignal): Promise<void>;
  pid(): number | undefined;
  end(): Promise<void>;
};

/** `options`: those of every ssh to the node; `control`: the socket's path. */
export function openSshMaster(
  options: readonly string[],
  control: string,
  login: string,
): SshMaster {
  let master: Child | undefined;

  async function answers(signal: AbortSignal): Promise<boolean> {
    const check = await run("ssh", [...options, "-S", control, "-O", "check", login], {
      accept: "any",
      timeoutMs: limits.virshQueryMs,
      signal,
    });
    return check.exitCode === 0;
  }

  /** Starts it and waits until it is up; its last words where it ends before. */
  async function start(signal: AbortSignal): Promise<boolean> {
    // one that was begun before and did not come up
    await master?.end("end", limits.sshGraceMs);
    await rm(control, { force: true });
    const child = launch("ssh", [...options, "-M", "-N", "-S", control, login], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    master = child;
    let over = false;
    let said = "";
    child.stderr!.on("data", (chunk: Buffer) => (said = (said + chunk.toString()).slice(-1_000)));
    child.exited.then(
      () => (over = true),
      () => (over = true),
    );
    const look = async () => (over ? "over" : (await answers(signal)) ? "up" : false);
    const what = `ssh to ${login}`;
    const state = await until(look, { timeoutMs: limits.nodeSetupMs, signal, what });
    if (state === "up") return true;
    throw new Error(said.trim() || "ssh ended");
  }

  return {
    async connect(timeoutMs, signal) {
      // A peer that takes the connection and says nothing would hold an inner wait.
      const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
      if (master && (await answers(limit))) return;
      const wait = { timeoutMs, signal, what: `ssh to ${login}` };
      await until(() => start(limit), wait);
    },
    pid: () => master?.pid,
    async end() {
      await master?.end("end", limits.sshGraceMs);
    },
  };
}

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

  async function answers(): Promise<boolean> {
    const check = await run("ssh", [...options, "-S", control, "-O", "check", login], {
      accept: "any",
      timeoutMs: limits.virshQueryMs,
    });
    return check.exitCode === 0;
  }

  /** Starts it and waits until it is up; its last words where it ends before. */
  async function start(): Promise<boolean> {
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
    const state = await until(async () => (over ? "over" : (await answers()) ? "up" : false), {
      timeoutMs: limits.nodeSetupMs,
      what: `ssh to ${login}`,
    });
    if (state === "up") return true;
    throw new Error(said.trim() || "ssh ended");
  }

  return {
    async connect(timeoutMs, signal) {
      if (master && (await answers())) return;
      await until(start, { timeoutMs, signal, what: `ssh to ${login}` });
    },
    pid: () => master?.pid,
    async end() {
      await master?.end();
    },
  };
}

/**
 * `ovs-ofctl`: a bridge's flows as a whole, replaced atomically in a bundle (OpenFlow 1.4) that
 * changes only what differs; and read back without counters.
 */
import { run } from "../base/command.ts";

const VERSION = ["-O", "OpenFlow14"] as const;

/** Makes exactly these flows hold. `target`: `unix:/run/openvswitch/<bridge>.mgmt`. */
export async function replaceFlows(target: string, flows: readonly string[]): Promise<void> {
  const stdin = `${flows.join("\n")}\n`;
  await run("ovs-ofctl", [...VERSION, "--bundle", "replace-flows", target, "-"], { stdin });
}

/** Puts a frame on the bridge as if a machine had sent it to the host itself. */
export async function sendToHost(
  target: string,
  frame: Buffer,
  signal: AbortSignal,
): Promise<void> {
  const order = `in_port=CONTROLLER packet=${frame.toString("hex")} actions=LOCAL`;
  await run("ovs-ofctl", [...VERSION, "packet-out", target, order], { signal });
}

/** Flows as they stand, a line each, in the switch's own spelling. */
export async function dumpFlows(target: string): Promise<string[]> {
  const args = [...VERSION, "--no-stats", "--no-names", "dump-flows", target];
  const { stdout } = await run("ovs-ofctl", args);
  return stdout
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.includes("actions="));
}

/** The flow that every bridge has before anyone set one: a plain learning switch. */
export function isDefault(flows: readonly string[]): boolean {
  return flows.length === 1 && /^\s*(?:cookie=0x0, )?priority=0 actions=NORMAL$/.test(flows[0]!);
}

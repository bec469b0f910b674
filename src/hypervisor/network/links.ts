/**
 * Network devices as the kernel has them, in whichever network namespace this process is.
 */
import { run } from "../../base/command.ts";

type Link = { readonly flags?: readonly string[]; readonly mtu?: number };
export type Address = {
  readonly family: string;
  readonly local: string;
  readonly prefixlen: number;
};

/** A network device of our namespace as `ip -j addr show` tells it; undefined: there is none. */
export async function linkFacts(
  name: string,
): Promise<{ up: boolean; mtu: number; addresses: readonly Address[] } | undefined> {
  const shown = await run("ip", ["-j", "addr", "show", "dev", name], { accept: "any" });
  if (shown.exitCode !== 0) return undefined;
  const [link] = JSON.parse(shown.stdout || "[]") as (Link & { addr_info?: Address[] })[];
  return {
    up: link?.flags?.includes("UP") ?? false,
    mtu: link?.mtu ?? 0,
    addresses: link?.addr_info ?? [],
  };
}

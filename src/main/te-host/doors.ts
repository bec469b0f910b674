/**
 * The ports that racks and nodes may reach on the test network, as the configuration has them.
 */
import type { Config } from "../../model/config.ts";

export function doorsOf(config: Config): { readonly gate: number; readonly nodes: number } {
  return { gate: config.teHost.ssh.port, nodes: config.server.nodesDoorPort };
}

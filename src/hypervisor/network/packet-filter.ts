/**
 * H-2.7: in userspace mode the switch only listens on a tap, and the machine's IP stack gets each
 * frame too and would answer. Packets and ARP that arrive on a guest's tap are dropped; the switch
 * reads a packet socket, which sees them before. In the cell's own network namespace.
 */
import { writeFile } from "node:fs/promises";
import { run } from "../../base/command.ts";

/** Taps of machines and of CI nodes, and the veth's inner end: all are ports of the switch. */
const PORTS = ["te*", "nd*", "out"] as const;

/** Both tables replaced in one transaction. */
const ruleset = `table inet rackyard
table arp rackyard
delete table inet rackyard
delete table arp rackyard
table inet rackyard {
  chain ports {
    type filter hook prerouting priority raw
${PORTS.map((port) => `    iifname "${port}" drop`).join("\n")}
  }
}
table arp rackyard {
  chain ports {
    type filter hook input priority 0
${PORTS.map((port) => `    iifname "${port}" drop`).join("\n")}
  }
}
`;

export async function applyPacketFilter(): Promise<void> {
  await run("nft", ["-f", "-"], { stdin: ruleset });
  for (const [path, value] of sysctls) await writeFile(`/proc/sys/net/${path}`, value);
}

/**
 * New devices get no IPv6, so that none ever sends or takes an address from a rack; and the cell
 * forwards nothing from one port to another.
 */
const sysctls = [
  ["ipv6/conf/all/disable_ipv6", "1"],
  ["ipv6/conf/default/disable_ipv6", "1"],
  ["ipv4/ip_forward", "0"],
] as const;

export async function packetFilterHolds(): Promise<boolean> {
  const tables = await Promise.all(
    ["inet", "arp"].map((family) =>
      run("nft", ["list", "table", family, "rackyard"], { accept: "any" }),
    ),
  );
  return tables.every(
    ({ exitCode, stdout }) =>
      exitCode === 0 && PORTS.every((port) => stdout.includes(`iifname "${port}" drop`)),
  );
}

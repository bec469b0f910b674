/**
 * H-2.7: in userspace mode the switch only listens on a tap, and the machine's IP stack gets each
 * frame too and would answer. Packets and ARP that arrive on a guest's tap are dropped; the switch
 * reads a packet socket, which sees them before. In the cell's own network namespace.
 */
import { writeFile } from "node:fs/promises";
import { assert } from "../../base/assert.ts";
import { run } from "../../base/command.ts";
import { limits } from "../../base/limits.ts";

/** Taps of machines and of CI nodes, and the veth's inner end: all are ports of the switch. */
const PORTS = ["te*", "nd*", "out"] as const;

/** The gate's port, and the machine's address, whose many users are one source. */
export type FilterFacts = { readonly gatePort: number; readonly machineIp: string };

/** Both tables replaced in one transaction. */
const ruleset = ({ gatePort, machineIp }: FilterFacts): string => {
  const fresh = `iifname "br-ctlplane" tcp dport ${gatePort} ip saddr != ${machineIp} ct state new`;
  const share = `ip saddr ct count over ${limits.gateConnectionsPerSource}`;
  return `table inet rackyard
table arp rackyard
delete table inet rackyard
delete table arp rackyard
table inet rackyard {
  chain dhcp {
    type filter hook input priority 0
    iifname "br-ctlplane" udp dport 67 jump dhcp_clients
  }
  chain dhcp_clients {
    drop
  }
  set gate_sources {
    type ipv4_addr
    size 1024
    flags dynamic
  }
  chain gate {
    type filter hook input priority 0
    ${fresh} add @gate_sources { ${share} } reject with tcp reset
  }
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
};

export async function applyPacketFilter(facts: FilterFacts): Promise<void> {
  await run("nft", ["-f", "-"], { stdin: ruleset(facts) });
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

/**
 * Which DHCP packets reach dnsmasq (H-2.6a): a request over Ethernet, relayed by nobody, whose
 * `chaddr` is the frame's MAC, that one a reservation's, and whose message type stands first among
 * the options, where every client writes it and dnsmasq reads it: DISCOVER, REQUEST, RELEASE or
 * INFORM. A DECLINE is none of them: one would take an address away for ten minutes. Offsets are
 * in bits behind the beginning of the UDP header (RFC 2131 §2). Replaces the former clients.
 */
export function dhcpRuleset(macs: readonly string[]): string {
  const rules = clientsOf(macs).flatMap((mac) =>
    clientTypes.map(
      (type) =>
        `    ether saddr ${mac} @th,64,24 0x010106 @th,256,32 0x0 ` +
        `@th,288,48 0x${mac.replaceAll(":", "")} @th,1952,32 0x63825363 @th,1984,24 ${type} accept`,
    ),
  );
  return `table inet rackyard {
  chain dhcp_clients {
  }
}
flush chain inet rackyard dhcp_clients
table inet rackyard {
  chain dhcp_clients {
${[...rules, "    drop"].join("\n")}
  }
}
`;
}

/** Option 53, one byte: DISCOVER, REQUEST, RELEASE, INFORM. */
const clientTypes = ["0x350101", "0x350103", "0x350107", "0x350108"] as const;

function clientsOf(macs: readonly string[]): string[] {
  for (const mac of macs) assert(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac), `no MAC: ${mac}`);
  return [...new Set(macs)].sort();
}

export async function setDhcpClients(macs: readonly string[]): Promise<void> {
  await run("nft", ["-f", "-"], { stdin: dhcpRuleset(macs) });
}

/** Are exactly these let through, and nothing else? */
export async function dhcpClientsHold(macs: readonly string[]): Promise<boolean> {
  const args = ["list", "chain", "inet", "rackyard", "dhcp_clients"];
  const { exitCode, stdout } = await run("nft", args, { accept: "any" });
  const rules = stdout.split("\n").filter((line) => /\b(accept|drop)$/.test(line));
  const found = rules.map((line) => /ether saddr ([0-9a-f:]{17})/.exec(line)?.[1] ?? "");
  const wanted = [...clientsOf(macs).flatMap((mac) => clientTypes.map(() => mac)), ""];
  return exitCode === 0 && found.join() === wanted.join();
}

export async function packetFilterHolds(): Promise<boolean> {
  const tables = await Promise.all(
    ["inet", "arp"].map((family) =>
      run("nft", ["list", "table", family, "rackyard"], { accept: "any" }),
    ),
  );
  const [inet] = tables;
  if (!inet?.stdout.includes("@gate_sources") || !inet.stdout.includes("jump dhcp_clients")) {
    return false;
  }
  return tables.every(
    ({ exitCode, stdout }) =>
      exitCode === 0 && PORTS.every((port) => stdout.includes(`iifname "${port}" drop`)),
  );
}

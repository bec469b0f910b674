/**
 * Port rules of the shared bridge as OpenFlow flows (H-2.6): nobody hurts another. Seed and node
 * ports reach the host (.1) and the machine (.2), and one another only where a pair is opened.
 * Three tables; what no flow takes is dropped (the bridge's fail mode is `secure`):
 *
 *   0   where a frame comes from: a tap passes with its own MAC and addresses alone
 *   10  from host or machine: to whom it is addressed
 *   20  from a tap: to host and machine at the ports that are meant, to opened peers
 *
 * Flows name port numbers, which exist only while a machine runs: they are planned anew whenever
 * one starts. A frame is never flooded to where it is not meant. Pure.
 */

/** A seed's or a node's port, and the addresses of the peers opened to it. */
export type PortEntry = {
  readonly tap: string;
  readonly mac: string;
  readonly ip: string;
  readonly open: readonly string[];
};

/** An end that taps reach, and the TCP ports at which they may begin to talk to it. */
type End = { readonly mac: string; readonly ip: string; readonly doors: readonly number[] };

export type SwitchFacts = {
  readonly cidr: string;
  readonly host: End;
  readonly machine: End & { readonly port: string };
  /** Port name → OpenFlow number, of those that are there. */
  readonly numbers: ReadonlyMap<string, number>;
};

type Live = PortEntry & { readonly number: number };

const MULTICAST = "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00";

/** Flows in the form of ovs-ofctl, a line each, in a fixed order. */
export function planFlows(entries: readonly PortEntry[], facts: SwitchFacts): string[] {
  const live = entries.flatMap((entry): Live[] => {
    const number = facts.numbers.get(entry.tap);
    return number === undefined ? [] : [{ ...entry, number }];
  });
  const out = facts.numbers.get(facts.machine.port);
  return [
    ...(out === undefined ? [] : [`table=0,priority=400,in_port=${out},actions=goto_table:10`]),
    "table=0,priority=400,in_port=LOCAL,actions=goto_table:10",
    ...live.flatMap((port) => entrance(port, facts)),
    ...fromOutside(live, facts, out),
    ...live.flatMap((port) => fromTap(port, live, facts, out)),
  ];
}

/** Table 0: against foreign MACs, addresses, DHCP answers, router advertisements, VLAN tags. */
function entrance({ number, mac, ip }: Live, facts: SwitchFacts): string[] {
  const flow = (priority: number, match: string, actions = "goto_table:20"): string =>
    `table=0,priority=${priority},in_port=${number},${match},actions=${actions}`;
  const own = `dl_src=${mac}`;
  return [
    flow(350, "vlan_tci=0x1000/0x1000", "drop"),
    flow(340, `arp,${own},arp_sha=${mac},arp_spa=${ip}`),
    flow(340, `arp,${own},arp_sha=${mac},arp_spa=0.0.0.0`), // a probe (RFC 5227 §1.1)
    flow(330, "arp", "drop"),
    flow(320, "udp,tp_src=67", "drop"),
    flow(320, "udp6,tp_src=547", "drop"),
    flow(320, "icmp6,icmp_type=134", "drop"),
    flow(310, `ip,${own},nw_src=${ip}`),
    flow(310, `udp,${own},nw_src=0.0.0.0,tp_src=68,tp_dst=67`),
    flow(300, `ip,nw_src=${facts.cidr}`, "drop"),
    flow(290, own), // what it routes: its own private network behind it
  ];
}

/** Table 10: host and machine reach each other, every seed and every node at any time. */
function fromOutside(live: readonly Live[], facts: SwitchFacts, out: number | undefined): string[] {
  const to = (mac: string, port: string | number): string =>
    `table=10,priority=200,dl_dst=${mac},actions=output:${port}`;
  const everyone = ["LOCAL", ...(out === undefined ? [] : [out]), ...live.map((it) => it.number)];
  return [
    to(facts.host.mac, "LOCAL"),
    ...(out === undefined ? [] : [to(facts.machine.mac, out)]),
    ...live.map((port) => to(port.mac, port.number)),
    `table=10,priority=100,${MULTICAST},actions=${outputs(everyone)}`,
  ];
}

/**
 * Table 20. To the host only what is addressed to it, and DHCP; to the machine likewise, so that
 * neither routes a tap's packets on to another tap or into the machine's own networks. Of TCP a
 * first segment goes to a door alone; one with ACK (no listener takes it for a beginning) answers
 * what host or machine began. No UDP but DHCP, no source but the tap's own address.
 */
function fromTap(
  port: Live,
  live: readonly Live[],
  facts: SwitchFacts,
  out: number | undefined,
): string[] {
  const flow = (priority: number, match: string, actions: string): string =>
    `table=20,priority=${priority},in_port=${port.number},${match},actions=${actions}`;
  const peers = live.filter((other) => areOpen(port, other));
  const ends = [
    { ...facts.host, at: "LOCAL" as string | number },
    ...(out === undefined ? [] : [{ ...facts.machine, at: out }]),
  ];
  const asked = outputs([...ends.map((end) => end.at), ...peers.map((peer) => peer.number)]);
  return [
    ...ends.flatMap(({ mac, ip, doors, at }) => {
      const own = `dl_dst=${mac},nw_src=${port.ip},nw_dst=${ip}`;
      return [
        flow(300, `arp,dl_dst=${mac}`, `output:${at}`),
        flow(300, `icmp,${own}`, `output:${at}`),
        flow(300, `tcp,${own},tcp_flags=+ack`, `output:${at}`),
        ...doors.map((door) => flow(300, `tcp,${own},tp_dst=${door}`, `output:${at}`)),
      ];
    }),
    flow(
      300,
      `udp,dl_dst=${facts.host.mac},nw_src=${port.ip},nw_dst=${facts.host.ip},tp_src=68,tp_dst=67`,
      "output:LOCAL",
    ),
    ...peers.map((peer) => flow(300, `dl_dst=${peer.mac}`, `output:${peer.number}`)),
    flow(200, "arp,dl_dst=ff:ff:ff:ff:ff:ff", asked),
    flow(200, `udp,${MULTICAST},tp_src=68,tp_dst=67`, "output:LOCAL"),
    ...(peers.length === 0
      ? []
      : [flow(100, MULTICAST, outputs(peers.map((peer) => peer.number)))]),
  ];
}

/** A pair is open when either names the other's address; two nodes never are (they name none). */
export function areOpen(one: PortEntry, other: PortEntry): boolean {
  return one !== other && (one.open.includes(other.ip) || other.open.includes(one.ip));
}

const outputs = (ports: readonly (string | number)[]): string =>
  ports.map((port) => `output:${port}`).join(",");

export type FlowFacts = {
  /** in_port → MAC and address that may enter there. */
  readonly entrances: ReadonlyMap<number, { readonly mac: string; readonly ip: string }>;
  /** Pairs of port numbers, each once in each direction. */
  readonly pairs: readonly (readonly [number, number])[];
};

/** Reads back from `ovs-ofctl dump-flows` (table 0 is not named) what planFlows put there. */
export function parseFlows(dump: readonly string[]): FlowFacts {
  const entrances = new Map<number, { mac: string; ip: string }>();
  const pairs: (readonly [number, number])[] = [];
  for (const line of dump) {
    const fields = fieldsOf(line);
    const from = Number(fields.get("in_port"));
    const ip = fields.get("arp_spa");
    const mac = fields.get("dl_src");
    if (!fields.has("table") && ip && ip !== "0.0.0.0" && mac) entrances.set(from, { mac, ip });
    const to = /^actions=output:(\d+)$/.exec(line.slice(line.lastIndexOf("actions=")))?.[1];
    const isPair = fields.get("table") === "20" && fields.has("dl_dst") && !fields.has("nw_dst");
    if (isPair && to && !/\b(?:arp|udp)\b/.test(line) && !fields.get("dl_dst")?.includes("/")) {
      pairs.push([from, Number(to)]);
    }
  }
  return { entrances, pairs };
}

function fieldsOf(line: string): Map<string, string> {
  const match = line.slice(0, line.lastIndexOf("actions="));
  return new Map(
    match
      .split(/[,\s]+/)
      .map((part) => part.split("=") as [string, string | undefined])
      .map(([name, value]) => [name, (value ?? "").replace(/^"|"$/g, "")]),
  );
}

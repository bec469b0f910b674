/** H-2.6: rules become flows; what an installer may not do is dropped, by table. */
import { describe, expect, test } from "vitest";
import { areOpen, parseFlows, planFlows } from "./port-rules-plan.ts";
import type { PortEntry, SwitchFacts } from "./port-rules-plan.ts";
import { isDefault } from "./ovs-ofctl.ts";
import { parseTable } from "./ovs-vsctl.ts";

const facts: SwitchFacts = {
  cidr: "10.99.0.0/24",
  host: { mac: "02:00:00:00:00:01", ip: "10.99.0.1", doors: [22] },
  machine: { mac: "02:00:00:00:00:02", ip: "10.99.0.2", doors: [7_226], port: "out" },
  numbers: new Map([
    ["out", 1],
    ["te1s0", 11],
    ["te2s0", 12],
    ["nd000000aa", 21],
    ["nd000000bb", 22],
  ]),
};
const entry = (tap: string, n: number, open: string[] = []): PortEntry => ({
  tap,
  mac: `00:00:00:00:00:${n}`,
  ip: `10.99.0.${n}`,
  open,
});
const seed1 = entry("te1s0", 11, ["10.99.0.21"]);
const seed2 = entry("te2s0", 12);
const nodeA = entry("nd000000aa", 21);
const nodeB = entry("nd000000bb", 22);
const all = [seed1, seed2, nodeA, nodeB];

const to = (flows: readonly string[], from: number): number[] => [
  ...new Set(
    flows
      .filter((flow) => flow.startsWith("table=20,") && flow.includes(`in_port=${from},`))
      .flatMap((flow) => [...flow.matchAll(/output:(\d+)/g)].map(([, port]) => Number(port)))
      .sort((a, b) => a - b),
  ),
];

describe("H-2.6 who reaches whom", () => {
  const flows = planFlows(all, facts);
  test.each([
    ["seed 1 its holder and the machine", 11, [1, 21]],
    ["seed 2, not leased, the machine alone", 12, [1]],
    ["the holder's node its seed and the machine", 21, [1, 11]],
    ["another node the machine alone", 22, [1]],
  ])("%s", (_what, from, expected) => {
    expect(to(flows, from)).toEqual(expected);
  });

  test("pairs are open both ways; nodes never are; nor is a port to itself", () => {
    expect([areOpen(seed1, nodeA), areOpen(nodeA, seed1)]).toEqual([true, true]);
    expect([areOpen(nodeA, nodeB), areOpen(seed1, seed2), areOpen(seed1, seed1)]).toEqual([
      false,
      false,
      false,
    ]);
  });

  test("a machine that is off has no flow, and one that starts gets the same again", () => {
    const numbers = new Map([...facts.numbers].filter(([port]) => port !== "te1s0"));
    const off = planFlows(all, { ...facts, numbers });
    expect(off.join("\n")).not.toContain(seed1.mac);
    expect(to(off, 21)).toEqual([1]);
    numbers.set("te1s0", 31);
    expect(to(planFlows(all, { ...facts, numbers }), 21)).toEqual([1, 31]);
  });

  test("H-2.6a taps begin to talk at the doors alone, from their own address", () => {
    const own = flows.filter((flow) => flow.startsWith("table=20,priority=300,in_port=21,"));
    const toEnds = own.filter((flow) => /dl_dst=02:/.test(flow) && !/,arp,/.test(flow));
    expect(toEnds.map((flow) => flow.replace(/^.*in_port=21,/, ""))).toEqual(
      (
        [
          ["02:00:00:00:00:01", "10.99.0.1", 22, "LOCAL"],
          ["02:00:00:00:00:02", "10.99.0.2", 7_226, 1],
        ] as const
      )
        .flatMap(([mac, address, door, port]) => {
          const end = `dl_dst=${mac},nw_src=10.99.0.21,nw_dst=${address}`;
          return [`icmp,${end}`, `tcp,${end},tcp_flags=+ack`, `tcp,${end},tp_dst=${door}`].map(
            (match) => `${match},actions=output:${port}`,
          );
        })
        .concat(
          "udp,dl_dst=02:00:00:00:00:01,nw_src=10.99.0.21,nw_dst=10.99.0.1,tp_src=68,tp_dst=67,actions=output:LOCAL",
        ),
    );
  });

  test("host and machine reach every port, by its MAC", () => {
    const outside = planFlows(all, facts).filter((flow) => flow.startsWith("table=10,"));
    for (const { mac, tap } of all) {
      const port = facts.numbers.get(tap);
      expect(outside).toContain(`table=10,priority=200,dl_dst=${mac},actions=output:${port}`);
    }
  });

  test("without rules only host and machine talk", () => {
    expect(planFlows([], facts)).toEqual([
      "table=0,priority=400,in_port=1,actions=goto_table:10",
      "table=0,priority=400,in_port=LOCAL,actions=goto_table:10",
      "table=10,priority=200,dl_dst=02:00:00:00:00:01,actions=output:LOCAL",
      "table=10,priority=200,dl_dst=02:00:00:00:00:02,actions=output:1",
      "table=10,priority=100,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=output:LOCAL,output:1",
    ]);
  });
});

test("H-2.6 each port's entrance, whole", () => {
  const own = planFlows([seed2], facts).filter((flow) => flow.startsWith("table=0,"));
  expect(own.slice(2).map((flow) => flow.replace("in_port=12,", ""))).toMatchInlineSnapshot(`
    [
      "table=0,priority=350,vlan_tci=0x1000/0x1000,actions=drop",
      "table=0,priority=340,arp,dl_src=00:00:00:00:00:12,arp_sha=00:00:00:00:00:12,arp_spa=10.99.0.12,actions=goto_table:20",
      "table=0,priority=340,arp,dl_src=00:00:00:00:00:12,arp_sha=00:00:00:00:00:12,arp_spa=0.0.0.0,actions=goto_table:20",
      "table=0,priority=330,arp,actions=drop",
      "table=0,priority=320,udp,tp_src=67,actions=drop",
      "table=0,priority=320,udp6,tp_src=547,actions=drop",
      "table=0,priority=320,icmp6,icmp_type=134,actions=drop",
      "table=0,priority=310,ip,dl_src=00:00:00:00:00:12,nw_src=10.99.0.12,actions=goto_table:20",
      "table=0,priority=310,udp,dl_src=00:00:00:00:00:12,nw_src=0.0.0.0,tp_src=68,tp_dst=67,actions=goto_table:20",
      "table=0,priority=300,ip,nw_src=10.99.0.0/24,actions=drop",
      "table=0,priority=290,dl_src=00:00:00:00:00:12,actions=goto_table:20",
    ]
  `);
});

test("H-8.1 what stands in the switch is read back, in its own spelling", () => {
  // As `ovs-ofctl --no-stats --no-names dump-flows` of Open vSwitch 3.1 prints them.
  const found = parseFlows([
    "priority=400,in_port=LOCAL actions=goto_table:10",
    "priority=340,arp,in_port=11,dl_src=00:00:00:00:00:11,arp_spa=10.99.0.11,arp_sha=00:00:00:00:00:11 actions=goto_table:20",
    "priority=340,arp,in_port=11,dl_src=00:00:00:00:00:11,arp_spa=0.0.0.0,arp_sha=00:00:00:00:00:11 actions=goto_table:20",
    "priority=330,arp,in_port=11 actions=drop",
    "priority=310,ip,in_port=11,dl_src=00:00:00:00:00:11,nw_src=10.99.0.11 actions=goto_table:20",
    "table=10, priority=200,dl_dst=00:00:00:00:00:11 actions=output:11",
    "table=20, priority=300,arp,in_port=11,dl_dst=02:00:00:00:00:02 actions=output:1",
    "table=20, priority=300,ip,in_port=11,dl_dst=02:00:00:00:00:02,nw_dst=10.99.0.2 actions=output:1",
    "table=20, priority=300,in_port=11,dl_dst=00:00:00:00:00:21 actions=output:21",
    "table=20, priority=200,arp,in_port=11,dl_dst=ff:ff:ff:ff:ff:ff actions=LOCAL,output:1,output:21",
    "table=20, priority=100,in_port=11,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=output:21",
  ]);
  expect([...found.entrances]).toEqual([[11, { mac: seed1.mac, ip: seed1.ip }]]);
  expect(found.pairs).toEqual([[11, 21]]);
});

test("H-15.2 answers of ovs-vsctl: maps, sets, empty ones (RFC 7047 §5.1)", () => {
  const text = `{"data":[["br",["map",[["rackyard-host","h"]]],["set",[]]],["x",["map",[]],7]],"headings":["name","external_ids","ofport"]}`;
  expect(parseTable(text)).toEqual([
    { name: "br", external_ids: { "rackyard-host": "h" }, ofport: undefined },
    { name: "x", external_ids: {}, ofport: 7 },
  ]);
  expect(parseTable("\n")).toEqual([]);
});

test("H-8.1 a bridge's default flow is known", () => {
  expect(isDefault([" priority=0 actions=NORMAL"])).toBe(true);
  expect(isDefault([" priority=0 actions=NORMAL", " priority=1 actions=drop"])).toBe(false);
  expect(isDefault([])).toBe(false);
});

/**
 * Nobody hurts another (H-2.6), and the host says nothing inside a rack (H-2.7): two racks with
 * the same inner addresses and two nodes, real guests, and the real switch asked about frames
 * that an installer should not send.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { runInCell } from "../../src/hypervisor/cell.ts";
import type { PortRule } from "../../src/hypervisor/hypervisor-port.ts";
import { booted, closeBench, define, machineSpec, nodeSpec, openBench } from "./bench-rack.ts";
import type { Bench } from "./bench-rack.ts";
import { obeyed, through } from "./guest.ts";

const nodeA = "aaaaaaaa-0000-4000-8000-000000000000";
const nodeB = "bbbbbbbb-0000-4000-8000-000000000000";

let bench: Bench;
let rules: PortRule[];
let numbers: Map<string, string>;

const ip = (n: number): string => bench.agent.cell.hostIp.replace(/1$/, String(n));
const specs = () => ({
  seed1: machineSpec(bench.state, 1, "seed"),
  seed2: machineSpec(bench.state, 2, "seed"),
  machine1: machineSpec(bench.state, 1, 0),
  machine2: machineSpec(bench.state, 2, 0),
  nodeA: nodeSpec(bench.state, nodeA),
  nodeB: nodeSpec(bench.state, nodeB),
});
const nic = (name: keyof ReturnType<typeof specs>) => specs()[name].nics[0]!;

beforeAll(async () => {
  bench = await openBench();
  const { agent } = bench;
  const all = specs();
  for (const te of [1, 2]) await agent.call("bridges", "ensurePrivate", `brbm${te}`);
  for (const name of ["seed1", "seed2", "machine1", "machine2"] as const) {
    await define(bench, all[name], "guest");
  }
  for (const name of ["nodeA", "nodeB"] as const) await define(bench, all[name], "empty");
  for (const [name, n] of [
    ["seed1", 11],
    ["seed2", 12],
  ] as const) {
    await agent.call("testNetwork", "reserve", nic(name).mac, ip(n), name);
  }
  const rule = (kind: "seed" | "node", name: keyof typeof all, n: number) => {
    const { tap, mac } = nic(name);
    const it = { tap, mac, ip: ip(n) };
    return kind === "seed" ? { kind, ...it, open: [] as string[] } : { kind, ...it };
  };
  rules = [
    rule("seed", "seed1", 11),
    rule("seed", "seed2", 12),
    rule("node", "nodeA", 180),
    rule("node", "nodeB", 181),
  ];
  await agent.call("portRules", "apply", rules);
  // Disks first: a machine's network boot finds no server here.
  for (const it of [all.machine1, all.machine2]) await agent.call("domains", "startOnce", it, "hd");
  for (const it of [all.seed1, all.seed2, all.nodeA, all.nodeB]) {
    await agent.call("domains", "start", it.uuid);
  }
  for (const it of [all.seed1, all.seed2, all.machine1, all.machine2]) await booted(bench, it);
  numbers = await portNumbers();
});
afterAll(() => closeBench(bench));

async function portNumbers(): Promise<Map<string, string>> {
  const args = ["--columns=name,ofport", "--format=csv", "--no-headings", "list", "Interface"];
  const { stdout } = await runInCell(bench.agent.cell, "ovs-vsctl", args);
  return new Map(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.split(",") as [string, string]),
  );
}

const names = {
  out: "out",
  seed1: "te1s0",
  seed2: "te2s0",
  nodeA: "ndaaaaaaaa",
  nodeB: "ndbbbbbbbb",
};
type Port = keyof typeof names;

/** To which ports the switch sends a frame that comes in at one. */
async function switched(from: Port, flow: string): Promise<string[]> {
  const frame = `in_port=${numbers.get(names[from])},${flow}`;
  const control = ["-t", "/run/openvswitch/ovs-vswitchd.ctl"];
  const args = [...control, "ofproto/trace", "br-ctlplane", frame];
  const { stdout } = await runInCell(bench.agent.cell, "ovs-appctl", args);
  const known = new Map(Object.entries(names).map(([port, tap]) => [numbers.get(tap), port]));
  const to = [...stdout.matchAll(/^ +(?:output:)?(\d+|LOCAL)$/gm)].map(([, port]) => port!);
  return [
    ...new Set(to.map((port) => (port === "LOCAL" ? "host" : (known.get(port) ?? port)))),
  ].sort();
}

describe("H-2.6 on the real switch", () => {
  const macOf = async (end: "host" | "machine"): Promise<string> => {
    const link = ["-j", "link", "show", "dev"];
    const { stdout } =
      end === "host"
        ? await runInCell(bench.agent.cell, "ip", [...link, "br-ctlplane"])
        : await run("ip", [...link, bench.agent.cell.netns.replace("-", "")]);
    return (JSON.parse(stdout) as { address: string }[])[0]!.address;
  };
  const from = (name: "seed1" | "seed2" | "nodeA" | "nodeB", n: number) =>
    `dl_src=${nic(name).mac},dl_type=0x0800,nw_src=${ip(n)}`;
  const syn = (port: number) => `nw_proto=6,tp_src=40000,tp_dst=${port},tcp_flags=0x002`;
  const open = async (...peers: number[]): Promise<void> => {
    const [seed1, ...others] = rules;
    await bench.agent.call("portRules", "apply", [
      { ...seed1!, open: peers.map(ip) } as PortRule,
      ...others,
    ]);
  };

  test("seeds and nodes reach host and machine, and not one another", async () => {
    const [host, machine] = [await macOf("host"), await macOf("machine")];
    const reached = async (name: "seed1" | "seed2" | "nodeA" | "nodeB", n: number) => [
      ...(await switched(name, `${from(name, n)},dl_dst=${host},nw_dst=${ip(1)},${syn(22)}`)),
      ...(await switched(name, `${from(name, n)},dl_dst=${machine},nw_dst=${ip(2)},${syn(7_226)}`)),
      ...(await switched(name, `${from(name, n)},dl_dst=${nic("seed1").mac},nw_dst=${ip(11)}`)),
      ...(await switched(name, `${from(name, n)},dl_dst=${nic("nodeB").mac},nw_dst=${ip(181)}`)),
    ];
    expect(await reached("seed2", 12)).toEqual(["host", "out"]);
    expect(await reached("nodeA", 180)).toEqual(["host", "out"]);
  });

  test("H-2.6a of host and machine they reach the doors alone, from their own address", async () => {
    const [host, machine] = [await macOf("host"), await macOf("machine")];
    const [toHost, toMachine] = [
      `dl_dst=${host},nw_dst=${ip(1)}`,
      `dl_dst=${machine},nw_dst=${ip(2)}`,
    ];
    const own = from("nodeA", 180);
    const foreign = `dl_src=${nic("nodeA").mac},dl_type=0x0800,nw_src=10.50.0.20`;
    const udp = (port: number) => `nw_proto=17,udp_src=5000,udp_dst=${port}`;
    const frames: [what: string, frame: string, to: string[]][] = [
      ["another port of the machine", `${own},${toMachine},${syn(22)}`, []],
      ["another port of the host", `${own},${toHost},${syn(7_226)}`, []],
      [
        "an answer to the machine",
        `${own},${toMachine},nw_proto=6,tp_src=22,tp_dst=40000,tcp_flags=0x012`,
        ["out"],
      ],
      [
        "an answer to the host",
        `${own},${toHost},nw_proto=6,tp_src=22,tp_dst=40000,tcp_flags=0x012`,
        ["host"],
      ],
      ["ICMP", `${own},${toMachine},nw_proto=1,icmp_type=8`, ["out"]],
      ["UDP to the machine", `${own},${toMachine},${udp(53)}`, []],
      ["UDP to the host", `${own},${toHost},${udp(67)}`, []],
      ["SCTP", `${own},${toMachine},nw_proto=132,sctp_dst=7226`, []],
      ["a foreign source at the door", `${foreign},${toMachine},${syn(7_226)}`, []],
      ["a foreign source at the gate", `${foreign},${toHost},${syn(22)}`, []],
    ];
    const seen = [];
    for (const [what, frame] of frames) seen.push([what, await switched("nodeA", frame)]);
    expect(seen).toEqual(frames.map(([what, , to]) => [what, to]));
  });

  test("the holder's address is opened to its seed and closed again", async () => {
    const there = () =>
      switched("nodeA", `${from("nodeA", 180)},dl_dst=${nic("seed1").mac},nw_dst=${ip(11)}`);
    const back = () =>
      switched("seed1", `${from("seed1", 11)},dl_dst=${nic("nodeA").mac},nw_dst=${ip(180)}`);
    const routed = () =>
      switched("nodeA", `${from("nodeA", 180)},dl_dst=${nic("seed1").mac},nw_dst=10.50.0.20`);
    const other = () =>
      switched("nodeB", `${from("nodeB", 181)},dl_dst=${nic("seed1").mac},nw_dst=${ip(11)}`);
    await open(180);
    expect([await there(), await back(), await routed(), await other()]).toEqual([
      ["seed1"],
      ["nodeA"],
      ["seed1"],
      [],
    ]);
    expect((await bench.agent.call("portRules", "current"))[0]).toMatchObject({ open: [ip(180)] });
    expect(await bench.agent.own("plan")).toEqual([]);
    await open();
    expect([await there(), await back(), await routed()]).toEqual([[], [], []]);
    expect((await bench.agent.call("portRules", "current"))[0]).toMatchObject({ open: [] });
  });

  test("what an installer may do by mistake is dropped", async () => {
    await open(180);
    const [mac, host] = [nic("seed1").mac, await macOf("host")];
    const all = "ff:ff:ff:ff:ff:ff";
    const arp = (sha: string, spa: string) =>
      `dl_src=${sha},dl_dst=${all},dl_type=0x0806,arp_op=1,arp_sha=${sha},arp_spa=${spa},arp_tpa=${ip(1)}`;
    const ip4 = `dl_src=${mac},dl_type=0x0800`;
    const udp = `dl_dst=${all},nw_dst=255.255.255.255,nw_proto=17`;
    const foreign = "00:de:ad:be:ef:00";
    const frames: [what: string, frame: string, to: string[]][] = [
      ["its own question", arp(mac, ip(11)), ["host", "nodeA", "out"]],
      ["a probe", arp(mac, "0.0.0.0"), ["host", "nodeA", "out"]],
      ["ARP for another's address", arp(mac, ip(12)), []],
      ["ARP for the host's address", arp(mac, ip(1)), []],
      [
        "a foreign MAC",
        `dl_src=${foreign},dl_dst=${host},dl_type=0x0800,nw_src=${ip(11)},nw_dst=${ip(1)}`,
        [],
      ],
      ["another's IPv4 source", `${ip4},dl_dst=${host},nw_src=${ip(12)},nw_dst=${ip(1)}`, []],
      [
        "the holder's IPv4 source",
        `${ip4},dl_dst=${nic("nodeA").mac},nw_src=${ip(2)},nw_dst=${ip(180)}`,
        [],
      ],
      [
        "what it routes, to its holder",
        `${ip4},dl_dst=${nic("nodeA").mac},nw_src=10.50.0.20,nw_dst=${ip(180)}`,
        ["nodeA"],
      ],
      [
        "a DHCP question, to the host alone",
        `${ip4},${udp},nw_src=0.0.0.0,udp_src=68,udp_dst=67`,
        ["host"],
      ],
      ["a DHCP server's answer", `${ip4},${udp},nw_src=${ip(11)},udp_src=67,udp_dst=68`, []],
      [
        "a router advertisement",
        `dl_src=${mac},dl_dst=33:33:00:00:00:01,dl_type=0x86dd,nw_proto=58,icmpv6_type=134`,
        [],
      ],
      [
        "a VLAN tag",
        `${ip4},dl_dst=${nic("nodeA").mac},dl_vlan=7,nw_src=${ip(11)},nw_dst=${ip(180)}`,
        [],
      ],
      [
        "through the host to another seed",
        `${ip4},dl_dst=${host},nw_src=${ip(11)},nw_dst=${ip(12)}`,
        [],
      ],
    ];
    const seen = [];
    for (const [what, frame] of frames) seen.push([what, await switched("seed1", frame)]);
    expect(seen).toEqual(frames.map(([what, , to]) => [what, to]));
  });
});

describe("H-2.6, H-2.7 with real guests", () => {
  const count = (text: string, what: RegExp): number => text.match(what)?.length ?? 0;
  const replies = /[Uu]nicast reply from/g;
  const asked = (address: string) => `arping -c 3 -w 4 -I eth0 ${address}`;

  test("a seed reaches neither the other seed nor, by it, its machines", async () => {
    const told = await obeyed(ip(11), `nc -w 2 ${ip(12)} 2323 </dev/null; echo status $?`, 20_000);
    expect(told).toContain("status 1");
    expect(count(await obeyed(ip(11), asked(ip(12)), 20_000), replies)).toBe(0);
    expect(count(await obeyed(ip(11), asked(ip(1)), 20_000), replies)).toBe(3);
  });

  test.each([
    [11, 12],
    [12, 11],
  ])("machine behind .%i sees its own seed alone, at the address both have", async (own) => {
    const mac = (te: number) => machineSpec(bench.state, te, "seed").nics[1]!.mac;
    const told = await obeyed(ip(own), through("10.50.0.20", asked("10.50.0.1")), 30_000);
    expect(count(told, replies)).toBe(3);
    expect(told).toContain(mac(own - 10));
    expect(told).not.toContain(mac(own === 11 ? 2 : 1));
  });

  test("H-2.7 the host answers nothing from inside a private bridge", async () => {
    const told = await obeyed(ip(11), through("10.50.0.20", asked(ip(1))), 30_000);
    expect(count(told, replies)).toBe(0);
    expect(told).toContain("Sent 3 probe");
    const { stdout } = await runInCell(bench.agent.cell, "ip", ["-j", "addr"]);
    const links = JSON.parse(stdout) as { ifname: string; addr_info: unknown[]; flags: string[] }[];
    const inner = links.filter(({ ifname }) => /^(?:te|brbm)\d/.test(ifname));
    expect(inner.length).toBeGreaterThanOrEqual(8);
    for (const link of inner) expect(link.addr_info).toEqual([]);
    for (const { ifname, flags } of inner) {
      if (ifname.startsWith("brbm")) expect(flags).not.toContain("UP");
    }
  });

  test("H-8.1 a bridge made anew has no port, flow or address; its facts say so", async () => {
    await bench.agent.call("domains", "destroy", specs().machine2.uuid);
    await bench.agent.call("domains", "destroy", specs().seed2.uuid);
    await bench.agent.call("bridges", "remakePrivate", "brbm2");
    const facts = { exists: true, ports: [], flows: "default", addresses: 0 };
    expect(await bench.agent.call("bridges", "facts", "brbm2")).toEqual(facts);
    expect((await bench.agent.call("bridges", "list")).sort()).toEqual(["brbm1", "brbm2"]);
    await bench.agent.call("bridges", "remove", "brbm2");
    expect(await bench.agent.call("bridges", "list")).toEqual(["brbm1"]);
  });
});

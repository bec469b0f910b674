/**
 * Identity in a payload (issue 6, section 9; H-2.6a): two ports of the shared bridge, played by
 * hand. What DHCP and packets say about others does not count, and of the machine's own services
 * they reach those that are meant.
 */
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import { runInCell } from "../../src/hypervisor/cell.ts";
import type { PortRule } from "../../src/hypervisor/hypervisor-port.ts";
import { closeBench, openBench } from "./bench-rack.ts";
import type { Bench } from "./bench-rack.ts";

/**
 * Sends one DHCP packet on an interface and prints the type of the answer, or 0 for none:
 * IFACE FRAME-MAC CHADDR OPTIONS-HEX [REQUESTED SERVER]
 */
const dhcp = `
import os, socket, struct, sys, time
iface, source, chaddr, options = sys.argv[1:5]
mac = lambda text: bytes.fromhex(text.replace(":", ""))
xid = os.urandom(4)
body = bytes([1, 1, 6, 0]) + xid + bytes(20) + mac(chaddr) + bytes(10 + 192)
body += bytes.fromhex("63825363") + bytes.fromhex(options) + b"\\xff"
body += bytes(max(0, 300 - len(body)))
def csum(data):
    data += b"\\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, bytes(4), b"\\xff" * 4)
ip = ip[:10] + struct.pack("!H", csum(ip)) + ip[12:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind((iface, 0))
wire.settimeout(0.2)
wire.send(b"\\xff" * 6 + mac(source) + b"\\x08\\x00" + ip + udp)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try: frame = wire.recv(2048)
    except TimeoutError: continue
    payload = frame[42:]
    if frame[23] == 17 and frame[36:38] == b"\\0\\x44" and payload[4:8] == xid:
        print(payload[242], socket.inet_ntoa(payload[16:20])); break
else: print(0)
`;

const netns = "ryforger";
const a = { tap: "ndaaaaaaaa", inner: "fa", mac: "00:aa:aa:aa:aa:0a", n: 180 };
const b = { tap: "ndbbbbbbbb", inner: "fb", mac: "00:bb:bb:bb:bb:0b", n: 181 };

let bench: Bench;
const ip = (n: number): string => bench.agent.cell.hostIp.replace(/1$/, String(n));
const rules = (): PortRule[] =>
  [a, b].map(({ tap, mac, n }) => ({ kind: "node", tap, mac, ip: ip(n) }));

beforeAll(async () => {
  bench = await openBench();
  const { cell } = bench.agent;
  await run("ip", ["netns", "del", netns], { accept: "any" });
  await run("ip", ["netns", "add", netns]);
  for (const { tap, inner, mac, n } of [a, b]) {
    await run("ip", [
      "link",
      "add",
      tap,
      "netns",
      cell.netns,
      "type",
      "veth",
      "peer",
      inner,
      "netns",
      netns,
    ]);
    await run("ip", ["-n", cell.netns, "link", "set", tap, "up"]);
    await run("ip", ["-n", netns, "link", "set", inner, "address", mac, "up"]);
    await runInCell(cell, "ovs-vsctl", ["add-port", "br-ctlplane", tap]);
    await bench.agent.call("testNetwork", "reserve", mac, ip(n), inner);
  }
  await run("ip", ["-n", netns, "addr", "add", `${ip(a.n)}/24`, "dev", a.inner]);
  await bench.agent.call("portRules", "apply", rules());
});
afterAll(async () => {
  await run("ip", ["netns", "del", netns], { accept: "any" });
  await closeBench(bench);
});

const inside = (program: string, ...args: string[]) =>
  run("ip", ["netns", "exec", netns, program, ...args], { accept: "any" });
const hex = (text: string): string => Buffer.from(text).toString("hex");
const address = (n: number): string =>
  ip(n)
    .split(".")
    .map((octet) => Number(octet).toString(16).padStart(2, "0"))
    .join("");
async function say(who: typeof a, packet: { frame?: string; chaddr?: string; options: string }) {
  const { frame = who.mac, chaddr = who.mac, options } = packet;
  const { stdout } = await inside(
    "/usr/bin/python3",
    "-c",
    dhcp,
    who.inner,
    frame,
    chaddr,
    options,
  );
  return stdout.trim();
}
const log = (): Promise<string> => readFile(join(bench.state, "log/dnsmasq.log"), "utf8");

const [discover, decline] = ["350101", "350104"];
/** Requested address and server, options 50 and 54. */
const of = (n: number): string => `3204${address(n)}3604${address(1)}`;

/** B asks as any client does, and has its address. */
async function bHasItsAddress(): Promise<void> {
  expect(await say(b, { options: discover })).toBe(`2 ${ip(b.n)}`);
  expect(await say(b, { options: `350103${of(b.n)}` })).toBe(`5 ${ip(b.n)}`);
}

describe("H-2.6a what a DHCP packet says about others", () => {
  test("an honest client gets its reserved address", async () => {
    await bHasItsAddress();
    expect(await say(a, { options: discover })).toBe(`2 ${ip(a.n)}`);
    expect(await bench.agent.own("plan")).toEqual([]);
  });

  test.each([
    ["of its own", () => ({ options: decline + of(a.n) })],
    ["with another's chaddr", () => ({ chaddr: b.mac, options: decline + of(b.n) })],
    ["with another's MAC", () => ({ frame: b.mac, chaddr: b.mac, options: decline + of(b.n) })],
    ["behind another option", () => ({ options: `0c0161${decline}${of(a.n)}` })],
    ["padded", () => ({ options: `00${decline}${of(a.n)}` })],
    [
      "with another's client id",
      () => ({ options: `${decline}3d0701${b.mac.replaceAll(":", "")}${of(b.n)}` }),
    ],
  ])("a DECLINE %s takes no address away", async (_what, packet) => {
    await say(a, packet());
    expect(await log()).not.toContain("DHCPDECLINE");
    await bHasItsAddress();
  });

  test("a question or release in another's name is not heard", async () => {
    const before = (await log()).length;
    expect(await say(a, { chaddr: b.mac, options: discover })).toBe("0");
    await say(a, { chaddr: b.mac, options: `350107${of(b.n)}` });
    await say(a, { chaddr: "00:01:02:03:04:05", options: discover });
    expect((await log()).slice(before)).toBe("");
  });

  test("another's client identifier gets nobody another's address", async () => {
    const id = `3d0701${b.mac.replaceAll(":", "")}`;
    expect(await say(a, { options: discover + id })).toBe(`2 ${ip(a.n)}`);
  });

  test("a client's words in the log acknowledge nothing", async () => {
    const before = bench.agent.acks.length;
    const forged = `DHCPACK(br-ctlplane) ${ip(b.n)} ${b.mac}`;
    const vendor = `3c${forged.length.toString(16).padStart(2, "0")}${hex(forged)}`;
    expect(await say(a, { options: `350103${of(a.n)}${vendor}` })).toBe(`5 ${ip(a.n)}`);
    await until(() => bench.agent.acks.length > before, { timeoutMs: 5_000, what: "A's own" });
    expect(await log()).toContain(forged);
    expect(bench.agent.acks.slice(before)).toEqual([{ mac: a.mac, ip: ip(a.n) }]);
  });
});

describe("H-2.6a what a node reaches of host and machine", () => {
  const open: Server[] = [];
  async function listen(host: string, port: number): Promise<number> {
    const server = createServer((socket) => socket.end("served"));
    await new Promise<void>((resolve, reject) =>
      server.once("error", reject).listen(port, host, resolve),
    );
    open.push(server);
    return (server.address() as AddressInfo).port;
  }
  afterAll(() => open.forEach((server) => server.close()));
  const fetched = async (host: string, port: number): Promise<string> => {
    const words =
      "import socket,sys\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])),2)\nprint(s.recv(9).decode())";
    const { stdout, stderr } = await inside("/usr/bin/python3", "-c", words, host, String(port));
    return stdout.trim() || (stderr.trim().split("\n").at(-1) ?? "");
  };

  test("the nodes' door, and no other service of the machine", async () => {
    await listen(ip(2), 7_226);
    const other = await listen("0.0.0.0", 0);
    expect(await fetched(ip(2), 7_226)).toBe("served");
    expect(await fetched(ip(2), other)).toContain("timed out");
  });

  test("a source outside of the test network does not pass", async () => {
    await run("ip", ["-n", netns, "addr", "add", "192.0.2.9/24", "dev", a.inner]);
    const ping = async (...from: string[]) =>
      (await inside("/usr/bin/python3", "-c", echo, ip(2), ...from)).stdout.trim();
    expect(await ping(ip(a.n))).toBe("answered");
    // heard by the machine or not: what counts is that the frame does not leave by `out`
    const sent = async () =>
      Number(
        (await runInCell(bench.agent.cell, "cat", ["/sys/class/net/out/statistics/tx_packets"]))
          .stdout,
      );
    const before = await sent();
    expect(await ping("192.0.2.9")).toBe("silent");
    expect((await sent()) - before).toBeLessThanOrEqual(1); // ARP
  });

  const echo = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.bind((sys.argv[2], 0)); s.settimeout(1.5)
s.sendto(struct.pack("!BBHHH", 8, 0, 0xf7fd, 1, 1), (sys.argv[1], 0))
try:
    while True:
        if s.recv(200)[20] == 0: print("answered"); break
except TimeoutError: print("silent")
`;

  test(
    "the gate's connections of one address have a limit, and others still come in",
    { timeout: 90_000 },
    async () => {
      const hold = `
import socket, sys
held = []
for n in range(130):
    s = socket.socket(); s.settimeout(1)
    try: s.connect((sys.argv[1], 22)); held.append(s)
    except OSError: break
print(len(held))
`;
      const { hostIp, netns: cell } = bench.agent.cell;
      const listener = `
import socket, sys
s = socket.create_server((sys.argv[1], 22), backlog=4096)
held = []
while True: held.append(s.accept())
`;
      const words = [
        "netns",
        "exec",
        cell,
        "timeout",
        "20",
        "/usr/bin/python3",
        "-c",
        listener,
        hostIp,
      ];
      const stood = run("ip", words, { accept: "any", timeoutMs: 60_000 });
      await until(() => opens(hostIp), { timeoutMs: 10_000, what: "the listener" });
      const held = Number((await inside("/usr/bin/python3", "-c", hold, hostIp)).stdout.trim());
      expect(held).toBeGreaterThan(40);
      expect(held).toBeLessThanOrEqual(64);
      const machine = await run("/usr/bin/python3", ["-c", hold, hostIp]);
      expect(Number(machine.stdout.trim())).toBe(130);
      await stood;
    },
  );
  async function opens(hostIp: string): Promise<boolean> {
    const words = "import socket,sys\nsocket.create_connection((sys.argv[1],22),1)";
    return (await run("/usr/bin/python3", ["-c", words, hostIp], { accept: "any" })).exitCode === 0;
  }
});

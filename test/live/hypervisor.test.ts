/**
 * The hypervisor on real parts: a cell with real libvirtd, Open vSwitch, dnsmasq and emulated
 * guests. Daemons and the agent are killed with SIGKILL under a running machine (H-1.10–H-1.12).
 */
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import { runInCell } from "../../src/hypervisor/cell.ts";
import { processesIn } from "../../src/hypervisor/process-scan.ts";
import { testDomains } from "../conformance/domains-suite.ts";
import { startAgent } from "./agent-process.ts";
import { booted, closeBench, define, machineSpec, openBench } from "./bench-rack.ts";
import type { Bench } from "./bench-rack.ts";
import { obeyed } from "./guest.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await openBench();
});
afterAll(() => closeBench(bench));

const seed = () => machineSpec(bench.state, 1, "seed");
const machine = () => machineSpec(bench.state, 1, 0);
const seedIp = () => bench.agent.cell.hostIp.replace(/1$/, "11");
const powerOf = async (uuid: string) =>
  (await bench.agent.call("domains", "list")).find((each) => each.uuid === uuid)?.power;

/** Answers the guest behind the test network? Waited for. */
async function traffic(limitMs: number): Promise<number> {
  const began = performance.now();
  await until(async () => (await obeyed(seedIp(), "echo here", 1_000)).includes("here"), {
    timeoutMs: limitMs,
    everyMs: 20,
    what: "the seed to answer",
  });
  return performance.now() - began;
}

async function pids(): Promise<Record<string, number>> {
  const list = await bench.agent.own("processes");
  return Object.fromEntries(list.map(({ name, pid }) => [name, pid]));
}

describe("H-1.3 an idle host", () => {
  test("a pass over it plans nothing, and the next one neither", async () => {
    expect(await bench.agent.own("mend")).toEqual([]);
    expect(await bench.agent.own("plan")).toEqual([]);
  });

  test("pids are the machine's, and libvirt is reached from outside", async () => {
    const now = await pids();
    expect(Object.keys(now).sort()).toEqual([
      "dnsmasq",
      "libvirtd",
      "ovs-vswitchd",
      "ovsdb-server",
    ]);
    expect(await readFile(`/proc/${now["libvirtd"]}/comm`, "utf8")).toBe("libvirtd\n");
    const { stdout } = await run("virsh", ["-q", "-c", bench.agent.cell.libvirtUri, "uri"]);
    expect(stdout).toContain("qemu");
  });

  test("H-1.3 what somebody undid is planned and mended: rules, address, filter, way out", async () => {
    const inside = (program: string, ...args: string[]) =>
      runInCell(bench.agent.cell, program, args);
    await inside("ip", "addr", "flush", "dev", "br-ctlplane");
    await inside("nft", "delete", "table", "inet", "rackyard");
    await inside("ovs-vsctl", "del-port", "br-ctlplane", "out");
    await inside("ovs-ofctl", "del-flows", "br-ctlplane");
    const planned = await bench.agent.own("plan");
    expect(planned.map(({ kind }) => kind)).toEqual([
      "apply-packet-filter",
      "set-host-address",
      "connect-way-out",
      "set-port-rules",
    ]);
    expect(await bench.agent.own("mend")).toEqual(planned);
    expect(await bench.agent.own("plan")).toEqual([]);
    await inside("ovs-vsctl", "del-br", "br-ctlplane");
    expect((await bench.agent.own("mend")).map(({ kind }) => kind)).toContain("make-test-network");
    expect(await bench.agent.own("plan")).toEqual([]);
  });
});

describe("H-4.7 domains on a real libvirtd", () => {
  beforeAll(async () => {
    await bench.agent.call("bridges", "ensurePrivate", "brbm1");
    await define(bench, machine(), "empty");
  });
  const virsh = async (...args: string[]) =>
    (await run("virsh", ["-q", "-c", bench.agent.cell.libvirtUri, ...args])).stdout;
  const domains = () => ({
    list: () => bench.agent.call("domains", "list"),
    look: (spec: Parameters<typeof define>[1]) => bench.agent.call("domains", "look", spec),
    digest: (spec: Parameters<typeof define>[1]) => bench.agent.call("domains", "digest", spec),
    define: (spec: Parameters<typeof define>[1]) => bench.agent.call("domains", "define", spec),
    undefine: (uuid: string) => bench.agent.call("domains", "undefine", uuid),
    start: (uuid: string) => bench.agent.call("domains", "start", uuid),
    startOnce: (...args: [Parameters<typeof define>[1], "hd" | "network" | "cdrom"]) =>
      bench.agent.call("domains", "startOnce", ...args),
    destroy: (uuid: string) => bench.agent.call("domains", "destroy", uuid),
    endOnReboot: (uuid: string) => bench.agent.call("domains", "endOnReboot", uuid),
  });
  testDomains({
    domains,
    spec: machine,
    inactiveXml: (uuid) => virsh("dumpxml", uuid, "--inactive"),
    liveXml: (uuid) => virsh("dumpxml", uuid),
  });
});

describe("a running seed", () => {
  test("H-2.1 H-2.2 its address is reserved, acknowledged, and reached from the machine", async () => {
    const { agent } = bench;
    const { mac, tap } = seed().nics[0]!;
    await define(bench, seed(), "guest");
    await agent.call("testNetwork", "reserve", mac, seedIp(), "te1-seed");
    await agent.call("portRules", "apply", [{ kind: "seed", tap, mac, ip: seedIp(), open: [] }]);
    expect(await agent.call("domains", "start", seed().uuid)).toBe("started");
    await booted(bench, seed());
    await traffic(5_000);
    expect(await agent.call("testNetwork", "leases")).toEqual([{ mac, ip: seedIp() }]);
    expect(agent.acks).toEqual([{ mac, ip: seedIp() }]);
    expect(await agent.call("domains", "processesOf", seed().uuid)).toHaveLength(1);
    const serial = await obeyed(seedIp(), "cat /sys/class/dmi/id/product_serial");
    expect(serial.trim()).toBe("te1-seed");
  });

  test.each(["ovs-vswitchd", "ovsdb-server", "dnsmasq", "libvirtd"])(
    "H-1.12 %s killed: started again, traffic flows, nothing is planned",
    async (name) => {
      const before = await pids();
      process.kill(before[name]!, "SIGKILL");
      const after = await until(
        async () => {
          const now = await pids();
          return now[name] !== before[name] && now[name] !== undefined && now;
        },
        { timeoutMs: 10_000, everyMs: 20, what: `${name} to be started again` },
      );
      expect(after[name]).not.toBe(before[name]);
      await traffic(10_000);
      await until(async () => (await bench.agent.own("plan")).length === 0, {
        timeoutMs: 10_000,
        what: "nothing to be planned",
      });
      await until(() => bench.agent.restarts.includes(name), {
        timeoutMs: 10_000,
        what: "the restart to be told",
      });
      expect(await powerOf(seed().uuid)).toBe("on");
    },
  );

  test("H-1.12 consoles go on after all that: QEMU writes them itself", async () => {
    await obeyed(seedIp(), "echo still-recorded >/dev/console");
    const said = async () => (await readFile(seed().consoleLog, "utf8")).includes("still-recorded");
    expect(await until(said, { timeoutMs: 5_000, what: "the console" })).toBe(true);
  });

  test("H-1.11 the agent killed and started again: the same daemons and machines, in 2 s", async () => {
    const before = await pids();
    await bench.agent.kill();
    const cell = { netnsInode: bench.agent.cell.netnsInode, controlGroup: "none" };
    await until(() => !processesIn(cell).some(({ name }) => name === "virsh"), {
      timeoutMs: 5_000,
      what: "the killed agent's virsh processes to end with it",
    });
    await traffic(5_000);
    bench.agent = await startAgent(bench.state);
    expect(bench.agent.openedMs).toBeLessThan(bench.limitMs(2) / 10);
    expect(await pids()).toEqual(before);
    expect(await powerOf(seed().uuid)).toBe("on");
    expect(await bench.agent.own("plan")).toEqual([]);
  });

  test("H-1.12 an agent and a daemon dead at once: the next agent starts it, rules hold", async () => {
    const before = await pids();
    await bench.agent.kill();
    for (const name of ["ovs-vswitchd", "dnsmasq"]) process.kill(before[name]!, "SIGKILL");
    bench.agent = await startAgent(bench.state);
    await traffic(10_000);
    const [rule] = await bench.agent.call("portRules", "current");
    expect(rule).toMatchObject({ kind: "seed", tap: "te1s0", open: [] });
  });

  test("H-8.1 its DHCP lease ends when asked to", async () => {
    const { mac } = seed().nics[0]!;
    await bench.agent.call("testNetwork", "releaseLease", mac);
    expect(await bench.agent.call("testNetwork", "leases")).toEqual([]);
    await bench.agent.call("testNetwork", "releaseLease", mac);
  });
});

describe("H-3.3, H-3.5 a machine's own reboot and power off", () => {
  const whats = (uuid: string) =>
    bench.agent.events.filter((event) => event.uuid === uuid).map(({ what }) => what);
  const heard = (what: string) =>
    until(() => whats(seed().uuid).includes(what as never), { timeoutMs: 10_000, what });

  test("H-3.5 Once is one boot: the guest's reset ends it and is told as such", async () => {
    const { uuid } = seed();
    await bench.agent.call("domains", "destroy", uuid);
    await bench.agent.call("domains", "startOnce", seed(), "hd");
    await booted(bench, seed(), 2);
    await traffic(10_000);
    await obeyed(seedIp(), "reboot -f", 500).catch(() => undefined);
    await heard("guest-reset");
    await until(async () => (await powerOf(uuid)) === "off", { timeoutMs: 10_000, what: "off" });
    expect(whats(uuid).filter((what) => what === "guest-reset")).toHaveLength(1);
  });

  test("H-3.4 after endOnReboot a normal start ends at the reset as well", async () => {
    const { uuid } = seed();
    await bench.agent.call("domains", "start", uuid);
    await booted(bench, seed(), 3);
    await bench.agent.call("domains", "endOnReboot", uuid);
    await traffic(10_000);
    await obeyed(seedIp(), "reboot -f", 500).catch(() => undefined);
    await until(async () => (await powerOf(uuid)) === "off", { timeoutMs: 10_000, what: "off" });
    expect(whats(uuid).filter((what) => what === "guest-reset")).toHaveLength(2);
  });

  test("H-3.5 power off by the guest is told as that; our own destroy is no killing", async () => {
    const { uuid } = seed();
    await bench.agent.call("domains", "start", uuid);
    await booted(bench, seed(), 4);
    await traffic(10_000);
    await obeyed(seedIp(), "poweroff -f", 500).catch(() => undefined);
    await heard("guest-shutdown");
    expect(whats(uuid)).not.toContain("host-killed");
  });

  test("H-1.12 a QEMU that is killed leaves a machine that is off, and an event", async () => {
    const { uuid } = seed();
    await bench.agent.call("domains", "start", uuid);
    const [pid] = await bench.agent.call("domains", "processesOf", uuid);
    process.kill(pid!, "SIGKILL");
    await heard("host-killed");
    await until(async () => (await powerOf(uuid)) === "off", { timeoutMs: 10_000, what: "off" });
    expect(await bench.agent.call("domains", "processesOf", uuid)).toEqual([]);
  });
});

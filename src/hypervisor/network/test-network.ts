/**
 * The test network `local` (H-2.2): br-ctlplane with the host's address, the veth to the machine
 * outside, and DHCP by reserved addresses alone. Who may talk to whom there is in port-rules.ts.
 */
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { run } from "../../base/command.ts";
import { removeReservation, writeReservation } from "../../dnsmasq/dnsmasq-config.ts";
import type { DnsmasqSettings } from "../../dnsmasq/dnsmasq-config.ts";
import { discoverFrame } from "../../dnsmasq/dhcp-frame-codec.ts";
import { readLeases, releaseLease, seesOffer, watchAcks } from "../../dnsmasq/dnsmasq-leases.ts";
import { sendToHost } from "../../openvswitch/ovs-ofctl.ts";
import type { OpenVswitch } from "../../openvswitch/ovs-vsctl.ts";
import { BRIDGE_MARK, managementOf, SHARED_BRIDGE } from "./bridges.ts";
import { linkFacts } from "./links.ts";
import type { Cell } from "../cell.ts";
import { INNER_LINK, ownMac } from "../cell-network.ts";
import type { CellPlaces } from "../cell-paths.ts";
import type { Daemons, TestNetwork } from "../hypervisor-port.ts";
import { addressIn } from "../network-plan.ts";

export function dnsmasqSettings(cell: Cell, places: CellPlaces): DnsmasqSettings {
  return {
    interface: SHARED_BRIDGE,
    cidr: cell.cidr,
    mtu: cell.mtu,
    reservations: places.reservations,
    leaseFile: join(places.runtime, "dhcp.leases"),
  };
}

export function openTestNetwork(cell: Cell, places: CellPlaces, daemons: Daemons): TestNetwork {
  const settings = dnsmasqSettings(cell, places);
  async function reserve(mac: string, ip: string, name: string): Promise<void> {
    const changed = await writeReservation(settings.reservations, { mac, ip, name });
    if (changed) daemons.signal("dnsmasq", "SIGHUP");
  }
  return {
    cidr: cell.cidr,
    hostIp: cell.hostIp,
    machineIp: cell.machineIp,
    mtu: cell.mtu,
    bridge: SHARED_BRIDGE,
    seedIp: (testenv) => addressIn(cell.cidr, 10 + testenv),
    nodeIps: Array.from({ length: 71 }, (_each, n) => addressIn(cell.cidr, 180 + n)),
    reserve,
    async unreserve(mac) {
      const changed = await removeReservation(settings.reservations, mac);
      if (changed) daemons.signal("dnsmasq", "SIGHUP");
    },
    releaseLease: (mac) => releaseLease(settings, mac),
    leases: () => readLeases(settings.leaseFile),
    async probeDhcp(signal) {
      const mac = ownMac(places, "probe");
      const ip = addressIn(cell.cidr, 254);
      await reserve(mac, ip, "probe");
      const frame = discoverFrame(mac, randomInt(2 ** 32));
      const ask = (): Promise<void> => sendToHost(managementOf(SHARED_BRIDGE), frame, signal);
      await seesOffer(join(places.logs, "dnsmasq.log"), { mac, ip }, ask, signal);
    },
    watchAcks: (onAck, signal) => watchAcks(join(places.logs, "dnsmasq.log"), onAck, signal),
  };
}

export type SharedBridgeFacts = {
  readonly bridge: boolean;
  readonly address: boolean;
  readonly wayOut: boolean;
};

/** Is br-ctlplane there with address and MTU, and the veth's inner end its port and up? */
export async function sharedBridgeFacts(cell: Cell, ovs: OpenVswitch): Promise<SharedBridgeFacts> {
  const bridge = (await ovs.bridges()).some((it) => it.name === SHARED_BRIDGE);
  if (!bridge) return { bridge, address: false, wayOut: false };
  const [own, out, ports] = await Promise.all([
    linkFacts(SHARED_BRIDGE),
    linkFacts(INNER_LINK),
    ovs.ports(SHARED_BRIDGE),
  ]);
  const [address, ...others] = own?.addresses.filter((it) => it.family === "inet") ?? [];
  const isOurs = others.length === 0 && address?.local === cell.hostIp && address.prefixlen === 24;
  return {
    bridge: own !== undefined,
    address: isOurs && own?.up === true && own.mtu === cell.mtu,
    wayOut: ports.includes(INNER_LINK) && out?.up === true && out.mtu === cell.mtu,
  };
}

export async function makeSharedBridge(
  cell: Cell,
  places: CellPlaces,
  ovs: OpenVswitch,
  hostId: string,
): Promise<void> {
  await ovs.ensureBridge(SHARED_BRIDGE, {
    failMode: "secure",
    mac: ownMac(places, "host"),
    mtu: cell.mtu,
    externalIds: { [BRIDGE_MARK]: hostId },
  });
}

export async function setHostAddress(cell: Cell): Promise<void> {
  await run("ip", ["link", "set", SHARED_BRIDGE, "mtu", String(cell.mtu)]);
  await run("ip", ["addr", "flush", "dev", SHARED_BRIDGE]);
  await run("ip", ["addr", "add", `${cell.hostIp}/24`, "dev", SHARED_BRIDGE]);
  await run("ip", ["link", "set", SHARED_BRIDGE, "up"]);
  await run("ip", ["link", "set", "lo", "up"]);
}

export async function connectWayOut(cell: Cell, ovs: OpenVswitch): Promise<void> {
  await ovs.ensurePort(SHARED_BRIDGE, INNER_LINK);
  await run("ip", ["link", "set", INNER_LINK, "mtu", String(cell.mtu)]);
  await run("ip", ["link", "set", INNER_LINK, "up"]);
}

/**
 * The private bridges brbmN (H-2.7): plain learning switches between the machines of one TE. The
 * host has no address there and their own device stays down, so it never sends a frame into one.
 */
import { dumpFlows, isDefault } from "../../openvswitch/ovs-ofctl.ts";
import type { OpenVswitch } from "../../openvswitch/ovs-vsctl.ts";
import type { Bridges } from "../hypervisor-port.ts";
import { linkFacts } from "./links.ts";
import type { Address } from "./links.ts";

export const SHARED_BRIDGE = "br-ctlplane";
/** The mark of our bridges (H-1.10). */
export const BRIDGE_MARK = "rackyard-host";

export const managementOf = (bridge: string): string => `unix:/run/openvswitch/${bridge}.mgmt`;

export function openBridges(
  ovs: OpenVswitch,
  host: { readonly id: string; readonly mtu: number },
): Bridges {
  const names = async (): Promise<string[]> =>
    (await ovs.bridges())
      .filter((it) => it.externalIds[BRIDGE_MARK] === host.id && it.name !== SHARED_BRIDGE)
      .map((it) => it.name);
  const ensurePrivate = (name: string): Promise<void> =>
    ovs.ensureBridge(name, {
      failMode: "standalone",
      mtu: host.mtu,
      externalIds: { [BRIDGE_MARK]: host.id },
    });
  return {
    ensurePrivate,
    async remakePrivate(name) {
      await ovs.removeBridge(name);
      await ensurePrivate(name);
    },
    remove: (name) => ovs.removeBridge(name),
    list: names,
    async facts(name) {
      const there = (await ovs.bridges()).some((it) => it.name === name);
      if (!there) return { exists: false, ports: [], flows: 0, addresses: 0 };
      const [ports, flows, addresses] = await Promise.all([
        ovs.ports(name),
        dumpFlows(managementOf(name)),
        addressesOf(name),
      ]);
      return {
        exists: true,
        ports,
        flows: isDefault(flows) ? "default" : flows.length,
        addresses: addresses.length,
      };
    },
  };
}

async function addressesOf(name: string): Promise<readonly Address[]> {
  return (await linkFacts(name))?.addresses ?? [];
}

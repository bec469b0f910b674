/**
 * The host's own part of a pass (H-1.2, H-1.4): daemons, then test network, then who may
 * talk there, then DHCP. From what is found to what is to be done, as data; nothing to do is an
 * empty plan. Pure.
 */
import type { PlannedAction } from "./hypervisor-port.ts";

/** What a look at the cell found. */
export type HostFacts = {
  /** Daemons that should run and do not. */
  readonly deadDaemons: readonly string[];
  /** The cell's /etc: accounts, links to the machine's. */
  readonly etc: boolean;
  readonly bridge: boolean;
  readonly address: boolean;
  readonly wayOut: boolean;
  readonly packetFilter: boolean;
  /** Unknown while there is no bridge. */
  readonly flows: "as planned" | "differ";
};

/** Kinds of actions, in the order of a pass. */
export const hostActions = [
  "mend-etc",
  "start-daemon",
  "apply-packet-filter",
  "make-test-network",
  "set-host-address",
  "connect-way-out",
  "set-port-rules",
] as const;
export type HostAction = (typeof hostActions)[number];

export function planHost(facts: HostFacts): (PlannedAction & { readonly kind: HostAction })[] {
  const action = (
    kind: HostAction,
    target: string,
    why: string,
    undo: string,
  ): PlannedAction & { kind: HostAction } => ({ kind, target, why, undo });
  const shared = "br-ctlplane";
  const start = (name: string): PlannedAction & { kind: HostAction } =>
    action("start-daemon", name, "it does not run", "stop it");
  // The DHCP server binds to the bridge, so that one must be there first.
  const served = (name: string): boolean => name === "dnsmasq";
  const none = "none: the end of the cell removes it";
  return [
    // Daemons run as accounts that are in it.
    ...(facts.etc ? [] : [action("mend-etc", "/etc", "accounts or links are not as wanted", none)]),
    ...facts.deadDaemons.filter((name) => !served(name)).map(start),
    ...(facts.packetFilter
      ? []
      : [action("apply-packet-filter", "nftables", "the cell would answer inside a rack", none)]),
    ...(facts.bridge
      ? []
      : [action("make-test-network", shared, "there is no such bridge", "remove the bridge")]),
    ...(facts.address
      ? []
      : [action("set-host-address", shared, "address, MTU or state is not as wanted", none)]),
    ...(facts.wayOut
      ? []
      : [action("connect-way-out", "out", "the machine outside is not connected", none)]),
    // A bridge that is just being made has no flow at all.
    // The packet filter made anew knows no DHCP client.
    ...(facts.packetFilter && facts.bridge && facts.wayOut && facts.flows === "as planned"
      ? []
      : [action("set-port-rules", shared, "flows are not those of the rules", none)]),
    ...facts.deadDaemons.filter(served).map(start),
  ];
}

/**
 * Opens the hypervisor of this host, inside its cell: daemons, libvirt, switch, test network.
 * Racks and nodes see it as hypervisor-port.ts says; what they are made of is theirs. Daemons
 * found dead are started again without being asked, and what they forgot is set anew.
 */
import { join } from "node:path";
import { assert } from "../base/assert.ts";
import type { Log } from "../base/log.ts";
import { openVirsh } from "../libvirt/virsh-pool.ts";
import { openOpenVswitch } from "../openvswitch/ovs-vsctl.ts";
import { openAccounts } from "./etc/accounts.ts";
import { openBridges } from "./network/bridges.ts";
import { insideCell } from "./cell.ts";
import type { Cell } from "./cell.ts";
import { INNER_LINK, ownMac } from "./cell-network.ts";
import { cellPlaces } from "./cell-paths.ts";
import { LIBVIRT_URI, SWITCH_DATABASE } from "./daemon-specs.ts";
import { openDaemons } from "./daemons.ts";
import { openDisks } from "./disks.ts";
import { openDomains } from "./domains.ts";
import { openKeeper } from "./host-keeper.ts";
import type { Hypervisor } from "./hypervisor-port.ts";
import { chooseAccelerator } from "./kvm-probe.ts";
import type { ProbeGuest } from "./kvm-probe.ts";
import { openPortRules } from "./network/port-rules.ts";
import { openTestNetwork } from "./network/test-network.ts";

export type HypervisorOptions = {
  /** As prepareCell made it and readCell finds it; this process is inside (enterCell). */
  readonly cell: Cell;
  /** The host's UUID: it stands in every mark. */
  readonly hostId: string;
  /** Where seeds and nodes may begin to talk: the gate's port on .1, the nodes' door's on .2. */
  readonly doors: { readonly gate: number; readonly nodes: number };
  readonly accelerator: "auto" | "kvm" | "tcg";
  /** A guest with which `auto` tries KVM (H-1.13); without one it is emulation. */
  readonly probe?: ProbeGuest;
  /** For `te-host plan`: starts, adopts and changes nothing; `plan` and the lists work. */
  readonly readOnly?: boolean;
  readonly log: Log;
};

/**
 * Adopts or starts the cell's daemons and gives the port. Returns when libvirt answers and the
 * test network is up. Disposing stops supervision and leaves daemons and machines running.
 */
export async function openHypervisor(options: HypervisorOptions): Promise<Hypervisor> {
  const { cell, hostId, doors } = options;
  assert(insideCell(cell), "the hypervisor is opened inside of its cell");
  const places = cellPlaces(cell.state);
  const log = options.log.child({ component: "hypervisor" });
  const kvmAnswer = join(cell.state, "te/kvm-probe.json");
  const { accelerator, reason } = await chooseAccelerator(
    options.accelerator,
    options.probe,
    kvmAnswer,
  );

  const daemons = openDaemons(places, log, { watch: !options.readOnly });
  const ovs = openOpenVswitch(SWITCH_DATABASE);
  const portRules = openPortRules(
    ovs,
    places.runtime,
    {
      cidr: cell.cidr,
      host: { mac: ownMac(places, "host"), ip: cell.hostIp, doors: [doors.gate] },
      machine: {
        mac: ownMac(places, "machine"),
        ip: cell.machineIp,
        doors: [doors.nodes],
        port: INNER_LINK,
      },
    },
    ownMac(places, "probe"),
  );
  const virsh = openVirsh({ uri: LIBVIRT_URI, directory: join(places.runtime, "xml") });

  const domains = openDomains({
    virsh,
    uri: LIBVIRT_URI,
    flavour: accelerator,
    hostId,
    state: cell.state,
    onStarted: () => portRules.refresh(),
  });
  const accounts = openAccounts();
  const keeper = openKeeper(
    { cell, hostId, gatePort: doors.gate },
    { daemons, ovs, portRules, accounts, log },
  );
  if (!options.readOnly) await keeper.bringUp();

  return {
    accelerator,
    acceleratorReason: reason,
    libvirtUri: cell.libvirtUri,
    netns: cell.netns,
    daemons,
    setAccounts: (group, wanted) => accounts.set(group, wanted),
    domains,
    disks: openDisks(cell.state),
    bridges: openBridges(ovs, { id: hostId, mtu: cell.mtu }),
    portRules,
    testNetwork: openTestNetwork(cell, places, daemons),
    processes: () => daemons.list(),
    problems: () => keeper.problems(),
    plan: () => keeper.plan(),
    mend: () => keeper.mend(),
    onRestart: (callback) => keeper.onRestart(callback),
    async [Symbol.asyncDispose]() {
      await daemons[Symbol.asyncDispose]();
      await virsh[Symbol.asyncDispose]();
    },
  };
}

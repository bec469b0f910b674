/**
 * TE data (te-host.md §12): the one record from which a holder learns its rack, in 2014's form.
 * Old keys are strings every one, in a stable order; new keys stand behind them. Pure. Secret:
 * it holds the lease's private key. Token and renewal URL are the broker's to add.
 */
import type { TestenvData } from "../model/testenv.ts";
import type { MachinePart, TestenvParts } from "./parts.ts";

export type TeDataInput = {
  readonly parts: TestenvParts;
  readonly hostIp: string;
  readonly hostName: string;
  readonly mtu: number;
  readonly ssh: {
    readonly user: string;
    readonly port: number;
    /** Whole private key, PEM (H-6.4). */
    readonly privateKey: string;
    /** `ssh-ed25519 AAAA…` of the gate. */
    readonly hostKey: string;
  };
  readonly lease: { readonly id: string; readonly epoch: number; readonly expiresAt: string };
};

export function buildTeData(input: TeDataInput): TestenvData {
  const { parts, ssh, lease } = input;
  const { seed } = parts;
  return {
    arch: "amd64",
    "host-ip": input.hostIp,
    power_manager: "nova.virt.baremetal.virtual_power_driver.VirtualPowerManager",
    "seed-ip": parts.seedIp,
    "ssh-key": ssh.privateKey,
    "ssh-user": ssh.user,
    "ssh-host-key": ssh.hostKey,
    ...(ssh.port === 22 ? {} : { "ssh-port": String(ssh.port) }),
    "env-num": String(parts.number),
    "remote-operations": "1",
    "remote-host": input.hostName,
    "seed-route-dev": "eth1",
    nodes: parts.machines.map((machine) => nodeData(input, machine)),
    schema: "te-data/2",
    lease: { id: lease.id, epoch: String(lease.epoch), expires: lease.expiresAt },
    seed: {
      name: seed.spec.name,
      uuid: seed.spec.uuid,
      mac: seed.spec.nics.map((nic) => nic.mac),
    },
    networks: [
      { name: parts.bridge, bridge: parts.bridge, role: "ctlplane", mtu: String(input.mtu) },
    ],
  };
}

/** One machine, `compat: "2014"` (H-12.2): Ironic's and nova's ssh power drivers. */
function nodeData(input: TeDataInput, machine: MachinePart): TestenvData["nodes"][number] {
  const { spec } = machine;
  const first = spec.nics[0]!.mac;
  return {
    mac: spec.nics.map((nic) => nic.mac),
    cpu: String(spec.cpus),
    memory: String(spec.memoryMiB),
    disk: String(input.parts.kind.machines.diskGiB),
    arch: "amd64",
    pm_type: "pxe_ssh",
    pm_addr: input.hostIp,
    pm_user: input.ssh.user,
    pm_password: input.ssh.privateKey,
    name: machine.name,
    uuid: spec.uuid,
    ports: spec.nics.map((nic) => ({ address: nic.mac, physical_network: "ctlplane" })),
    capabilities: "boot_mode:bios,boot_option:local",
    bootMACAddress: first,
  };
}

/**
 * What a CI node consists of on its host, computed from its record (te-host.md §0, H-17.1): one
 * NIC on the test network, an overlay over its image, a configuration drive. Pure.
 */
import { join } from "node:path/posix";
import { uuid5 } from "../base/ids.ts";
import { macAddress } from "../hypervisor/mac.ts";
import { nodeDomainName, nodeTapName } from "../model/machine.ts";
import type { DomainSpec, PortRule } from "../hypervisor/hypervisor-port.ts";
import type { HostNode } from "./node-life.ts";

export type NodeGround = {
  readonly hostId: string;
  /** Of which MACs are made; the host's secret. */
  readonly macKey: string;
  /** `<state>/te/nodes`. */
  readonly folder: string;
  readonly socketsFolder: string;
  readonly testBridge: string;
  readonly mtu: number;
};

export type NodeParts = {
  readonly folder: string;
  readonly spec: DomainSpec;
  readonly disk: { readonly path: string; readonly sizeBytes: number };
  readonly configDrive: string;
  readonly hostKeyFile: string;
  readonly mac: string;
  readonly rule: PortRule;
};

const GIB = 1024 ** 3;

export function nodePartsOf(ground: NodeGround, node: HostNode): NodeParts {
  const name = nodeDomainName(node.id);
  const tap = nodeTapName(node.id);
  const mac = macAddress(ground.macKey, "node", node.id, 0);
  const folder = join(ground.folder, node.id);
  const disk = { path: join(folder, "disk.qcow2"), sizeBytes: node.spec.diskGiB * GIB };
  const configDrive = join(folder, "config.img");
  return {
    folder,
    disk,
    configDrive,
    mac,
    hostKeyFile: join(folder, "ssh_host_ed25519_key"),
    rule: { kind: "node", tap, mac, ip: node.address },
    spec: {
      name,
      uuid: uuid5(ground.hostId, name),
      mark: { kind: "node", host: ground.hostId, node: node.id },
      memoryMiB: node.spec.memoryMiB,
      cpus: node.spec.cpus,
      nics: [{ mac, bridge: ground.testBridge, tap, mtu: ground.mtu }],
      disks: [
        { path: disk.path, format: "qcow2", serial: "root" },
        { path: configDrive, format: "raw", serial: "config" },
      ],
      boot: ["hd"],
      consoleLog: join(folder, "console.log"),
      consoleSocket: join(ground.socketsFolder, `${name}.sock`),
      serial: name.replace("_", "-"),
      asset: node.spec.label,
      guestAgent: false,
      cdrom: false,
    },
  };
}

/**
 * What a TE consists of on its host, computed from its number and kind: domains, disks, bridge,
 * addresses, port rule, gate account (te-host.md §0, H-1.7, H-3.1). Pure; the same input gives
 * the same parts for ever, which is what adoption and the reconciler stand on.
 */
import { join } from "node:path/posix";
import { uuid5 } from "../base/ids.ts";
import { macAddress } from "../hypervisor/mac.ts";
import { domainName, machineName, privateBridge, tapName } from "../model/machine.ts";
import type { Kind, MachineIndex } from "../model/machine.ts";
import type { CellAccount, DomainSpec, PortRule } from "../hypervisor/hypervisor-port.ts";

/** What of the host the parts depend on. */
export type HostGround = {
  readonly hostId: string;
  /** Of which MACs are made; the host's secret. */
  readonly macKey: string;
  /** `<state>/te/disks`. */
  readonly disksFolder: string;
  /** Logs of serial lines, named by machine. */
  readonly consolesFolder: string;
  /** Sockets of serial lines; a short path. */
  readonly socketsFolder: string;
  readonly mtu: number;
  readonly testBridge: string;
  readonly seedIp: (testenv: number) => string;
};

export type DiskPart = { readonly path: string; readonly sizeBytes: number };

export type MachinePart = {
  readonly index: MachineIndex;
  /** `te1-n0`. */
  readonly name: string;
  readonly spec: DomainSpec;
  readonly disk: DiskPart;
};

export type TestenvParts = {
  readonly number: number;
  readonly kindName: string;
  readonly kind: Kind;
  readonly bridge: string;
  readonly seedIp: string;
  readonly seed: MachinePart;
  readonly machines: readonly MachinePart[];
  /** Seed first. */
  readonly all: readonly MachinePart[];
};

const GIB = 1024 ** 3;

export function partsOf(
  ground: HostGround,
  number: number,
  kindName: string,
  kind: Kind,
): TestenvParts {
  const seed = machinePart(ground, number, "seed", kind.seed);
  const machines = Array.from({ length: kind.machines.count }, (_, index) =>
    machinePart(ground, number, index, kind.machines),
  );
  return {
    number,
    kindName,
    kind,
    bridge: privateBridge(number),
    seedIp: ground.seedIp(number),
    seed,
    machines,
    all: [seed, ...machines],
  };
}

/** Addresses in `open` may talk to the seed, and it to them (H-2.6). */
export function seedRule(parts: TestenvParts, open: readonly string[]): PortRule {
  const nic = parts.seed.spec.nics[0]!;
  return { kind: "seed", tap: nic.tap, mac: nic.mac, ip: parts.seedIp, open: [...open].sort() };
}

/** Names of the gate's accounts; the uid is free on Debian and the same in every cell. */
export const gateGroup = { name: "rackyard-te", gid: 62_000 } as const;

export function gateAccount(
  number: number,
  places: { readonly home: string; readonly shell: string },
): CellAccount {
  return { name: accountName(number), uid: 62_000 + number, ...places };
}

export function accountName(number: number): string {
  return `te${number}`;
}

function machinePart(
  ground: HostGround,
  number: number,
  index: MachineIndex,
  size: { memoryMiB: number; cpus: number; diskGiB: number },
): MachinePart {
  const name = machineName(number, index);
  const domain = domainName(number, index);
  const path = join(ground.disksFolder, `${domain}.qcow2`);
  const bridges =
    index === "seed" ? [ground.testBridge, privateBridge(number)] : [privateBridge(number)];
  const spec: DomainSpec = {
    name: domain,
    uuid: uuid5(ground.hostId, domain),
    mark: { kind: "machine", host: ground.hostId, te: number, machine: index },
    memoryMiB: size.memoryMiB,
    cpus: size.cpus,
    nics: bridges.map((bridge, nic) => ({
      mac: macAddress(ground.macKey, number, index, nic),
      bridge,
      tap: tapName(number, index, nic),
      mtu: ground.mtu,
    })),
    disks: [{ path, format: "qcow2", serial: `${name.replace("-", "")}d0` }],
    boot: index === "seed" ? ["hd", "cdrom"] : ["network", "hd", "cdrom"],
    consoleLog: join(ground.consolesFolder, `${name}.log`),
    consoleSocket: join(ground.socketsFolder, `${name}.sock`),
    serial: name,
    asset: `te${number}`,
    guestAgent: index === "seed",
    cdrom: true,
  };
  // H-1.7: registered and actual size must differ, with room for a partition table
  return { index, name, spec, disk: { path, sizeBytes: (size.diskGiB + 1) * GIB } };
}

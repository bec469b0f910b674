/**
 * Names and places of a cell, all computed from its state directory, so that whoever looks finds
 * the same ones, the agent dead or alive. Sockets move to /run/rackyard/<hash> where the state
 * directory's path is too long for one (surface.md §3).
 */
import { join } from "node:path";
import { sha256Hex } from "../base/ids.ts";
import { limits } from "../base/limits.ts";

export type CellPlaces = {
  /** Eight hex digits of the state directory's hash. */
  readonly id: string;
  readonly netns: string;
  /** The veth's outer end, in the machine's world; ≤ 15 characters. */
  readonly link: string;
  /** Below the root of the cgroup2 hierarchy. */
  readonly controlGroup: string;
  readonly directory: string;
  readonly record: string;
  readonly keeperPid: string;
  /** libvirt's etc, lib, cache, log. */
  readonly libvirt: string;
  /** dnsmasq's reservations: they stay as long as the state directory. */
  readonly reservations: string;
  /** What lives only as long as the cell: sockets, switch database, leases, port rules. */
  readonly runtime: string;
  /** /run/libvirt and /run/openvswitch of the cell, as the machine sees them. */
  readonly sockets: string;
  readonly pids: string;
  readonly logs: string;
};

/** /run/rackyard of the machine: sockets with long paths, the lock of the test networks. */
export const MACHINE_RUN = "/run/rackyard";

/** Longest name of a socket that is reached from outside of the cell. */
const LONGEST_SOCKET = "libvirt/libvirt-sock-ro";

/** @param state real path of the state directory */
export function cellPlaces(state: string): CellPlaces {
  const id = sha256Hex(state).slice(0, 8);
  const directory = join(state, "te/cell");
  const near = join(directory, "run");
  const fits = Buffer.byteLength(join(near, LONGEST_SOCKET)) <= limits.socketPathBytes;
  return {
    id,
    netns: `ry-${id}`,
    link: `ry${id}`,
    controlGroup: `rackyard-${id}`,
    directory,
    record: join(directory, "cell.json"),
    keeperPid: join(state, "run/cell.pid"),
    libvirt: join(directory, "libvirt"),
    reservations: join(directory, "reservations"),
    runtime: near,
    sockets: fits ? near : join(MACHINE_RUN, id, "cell"),
    pids: join(state, "run"),
    logs: join(state, "log"),
  };
}

/** Made in the cell's own /run; seen by nobody outside. */
export const insideRun = {
  /** Holds the cell's id, written last: the mounts are whole. */
  marker: "/run/rackyard-cell",
  consoles: "/run/rackyard-console",
  /** The machine's /etc, and the directory that is the cell's. */
  machineEtc: "/run/rackyard-machine-etc",
  ownEtc: "/run/rackyard-etc",
  /** Folders of the state directory that QEMU's account may reach. */
  guests: "/run/rackyard-guests",
  /** Bound over /dev/kvm. */
  kvm: "/run/rackyard-kvm",
  gateBin: "/run/rackyard-gate/bin",
  gateKeys: "/run/rackyard-gate/keys",
} as const;

/** From outside, through the socket's directory. */
export function libvirtUriOf(places: CellPlaces): string {
  return `qemu+unix:///system?socket=${places.sockets}/libvirt/libvirt-sock`;
}

/**
 * What the host says of itself to the broker (lease.md §6, H-13.5): hello with all it has, and
 * the heartbeat with load, memory and what may be wrong.
 */
import { readFile, statfs } from "node:fs/promises";
import { loadavg } from "node:os";
import { memoryAvailableMiB } from "../../hypervisor/capacity.ts";
import type { Cell } from "../../hypervisor/cell.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import type { Config } from "../../model/config.ts";
import type { Hello } from "../../model/session.ts";
import type { ImageBuilds } from "../../nodehost/image-builds.ts";
import type { Nodes } from "../../nodehost/nodes.ts";
import type { FromHost } from "../../session/session-port.ts";
import type { Testenvs } from "../../testenv/testenvs.ts";
import { version } from "../version.ts";
import { judge } from "./health.ts";
import type { HostLook } from "./health.ts";
import { hostSize } from "./host-size.ts";
import type { Identity } from "./identity.ts";

export async function helloOf(of: {
  readonly hypervisor: Hypervisor;
  readonly identity: Identity;
  readonly testenvs: Testenvs;
  readonly nodes: Nodes;
  readonly builds: ImageBuilds;
  readonly cell: Cell;
  readonly config: Config;
  readonly sessionNumber: number;
}): Promise<Hello> {
  const { hypervisor, identity, cell, config } = of;
  const { testNetwork, accelerator } = hypervisor;
  const size = await hostSize(cell.state);
  return {
    kind: "hello",
    hostId: identity.hostId,
    name: config.teHost.name,
    version,
    sessionNumber: of.sessionNumber,
    bootId: (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim(),
    labels: [accelerator === "kvm" ? "kvm" : "emulated", ...config.teHost.labels],
    accelerator,
    capacity: {
      memoryMiB: Math.floor(size.memoryTotalMiB),
      cpus: size.cpusOnline,
      diskGiB: Math.floor(size.diskGiB),
    },
    certificateKey: identity.certificatePublicKey,
    ca: null,
    testNetwork: {
      cidr: testNetwork.cidr,
      hostIp: testNetwork.hostIp,
      machineIp: testNetwork.machineIp,
    },
    ssh: {
      host: testNetwork.hostIp,
      port: config.teHost.ssh.port,
      hostKey: identity.sshHostKey.publicKey,
    },
    cell: { netns: cell.netns },
    libvirt: hypervisor.libvirtUri,
    draining: false,
    testenvs: of.testenvs.reports(),
    nodes: of.nodes.reports(),
    images: of.builds.reports(),
    processes: await hypervisor.processes(),
  };
}

/**
 * Nothing here asks libvirt or the switch: a daemon that hangs must not keep a sign of life back
 * (issue 6 §3). What was last seen of them is in `faults`.
 */
export async function vitalsOf(
  hypervisor: Pick<Hypervisor, "problems" | "processes">,
  state: string,
  faults: Pick<HostLook, "own" | "failures" | "ofRacks" | "racks">,
): Promise<Extract<FromHost, { kind: "heartbeat" }>> {
  const [freeMemoryMiB, disk, parts, processes] = await Promise.all([
    memoryAvailableMiB().then(Math.floor),
    statfs(state),
    hypervisor.problems(),
    hypervisor.processes(),
  ]);
  const freeDiskMiB = Math.floor((disk.bavail * disk.bsize) / 1024 ** 2);
  const { health, problems } = judge({ ...faults, parts, freeMemoryMiB, freeDiskMiB });
  return {
    kind: "heartbeat",
    load: loadavg()[0] ?? 0,
    freeMemoryMiB,
    health,
    problems: problems.map((text) => text.slice(0, 300)),
    processes,
  };
}

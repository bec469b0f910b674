/**
 * What the host says of itself to the broker (lease.md §6, H-13.5): hello with all it has, and
 * the heartbeat with load, memory and what may be wrong.
 */
import { readFile } from "node:fs/promises";
import { loadavg } from "node:os";
import { memoryAvailableMiB } from "../../hypervisor/capacity.ts";
import { FREE_MEMORY_MIB } from "../../hypervisor/capacity-plan.ts";
import type { Cell } from "../../hypervisor/cell.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import type { Config } from "../../model/config.ts";
import type { Hello } from "../../model/session.ts";
import type { TestenvReport } from "../../model/testenv.ts";
import type { ImageBuilds } from "../../nodehost/image-builds.ts";
import type { Nodes } from "../../nodehost/nodes.ts";
import type { FromHost } from "../../session/session-port.ts";
import type { Testenvs } from "../../testenv/testenvs.ts";
import { version } from "../version.ts";
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
    testenvs: await of.testenvs.reports(),
    nodes: of.nodes.reports(),
    images: of.builds.reports(),
    processes: await hypervisor.processes(),
  };
}

export async function vitalsOf(
  hypervisor: Hypervisor,
  failures: readonly string[],
  testenvs: readonly TestenvReport[],
): Promise<Extract<FromHost, { kind: "heartbeat" }>> {
  const freeMemoryMiB = Math.floor(await memoryAvailableMiB());
  const problems = [
    ...failures,
    ...testenvs
      .filter(({ state }) => state === "faulty" || state === "quarantined")
      .map(({ number, state, detail }) => `te${number} is ${state}: ${detail ?? ""}`),
    ...(freeMemoryMiB < FREE_MEMORY_MIB ? [`${freeMemoryMiB} MiB of memory left`] : []),
  ];
  return {
    kind: "heartbeat",
    load: loadavg()[0] ?? 0,
    freeMemoryMiB,
    health: problems.length === 0 ? "ok" : "degraded",
    problems: problems.map((text) => text.slice(0, 300)),
    processes: await hypervisor.processes(),
  };
}

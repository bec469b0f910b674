/**
 * Racks of the small guest, as the hypervisor's live tests need them: specs with the fixed names
 * and addresses of te-host.md §0, disks over the guest's image, and waiting for what a console
 * says. The product's own racks are made by testenv/; here only the hypervisor is looked at.
 */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { uuid5 } from "../../src/base/ids.ts";
import { until } from "../../src/base/wait.ts";
import { endCell } from "../../src/hypervisor/cell-end.ts";
import type { DomainSpec } from "../../src/hypervisor/hypervisor-port.ts";
import {
  domainName,
  machineName,
  nodeDomainName,
  nodeTapName,
  privateBridge,
  tapName,
} from "../../src/model/machine.ts";
import type { MachineIndex } from "../../src/model/machine.ts";
import { startAgent, testHostId } from "./agent-process.ts";
import type { Agent } from "./agent-process.ts";
import { calibrateBoot } from "./calibrate.ts";
import { guestMark, prepareGuest } from "./guest.ts";
import type { Guest } from "./guest.ts";

export type Bench = {
  readonly state: string;
  readonly guest: Guest;
  /** Milliseconds within which so many guests must have booted, side by side. */
  limitMs(guests: number): number;
  agent: Agent;
};

/** A cell of its own in a new state directory, with its agent. */
export async function openBench(): Promise<Bench> {
  const guest = await prepareGuest();
  const bootMs = await calibrateBoot();
  const state = await realpath(await mkdtemp(join(tmpdir(), "rackyard-live-")));
  const limitMs = (guests: number): number => 30_000 + bootMs * 10 * guests;
  try {
    return { state, guest, limitMs, agent: await startAgent(state) };
  } catch (error) {
    await endCell(state);
    await rm(state, { recursive: true, force: true });
    throw error;
  }
}

/** Ends the cell, whatever the test left in it, and removes its state. */
export async function closeBench(bench: Bench | undefined): Promise<void> {
  if (!bench) return;
  await endCell(bench.state);
  await rm(bench.state, { recursive: true, force: true });
}

export function mac(...words: readonly (string | number)[]): string {
  const hash = createHash("sha256").update(words.join("/")).digest();
  return [0, ...hash.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

export function machineSpec(state: string, te: number, machine: MachineIndex): DomainSpec {
  const [name, serial] = [domainName(te, machine), machineName(te, machine)];
  const nic = (bridge: string, index: number): DomainSpec["nics"][number] => ({
    mac: mac(te, machine, index),
    bridge,
    tap: tapName(te, machine, index),
    mtu: 1_500,
  });
  const inner = privateBridge(te);
  return {
    ...common(state, name, serial),
    mark: { kind: "machine", host: testHostId, te, machine },
    nics: machine === "seed" ? [nic("br-ctlplane", 0), nic(inner, 1)] : [nic(inner, 0)],
    boot: machine === "seed" ? ["hd"] : ["network", "hd", "cdrom"],
    asset: `te${te}`,
    cdrom: true,
  };
}

/** A node with an empty disk: its port is there, and nothing boots behind it. */
export function nodeSpec(state: string, id: string): DomainSpec {
  const name = nodeDomainName(id);
  return {
    ...common(state, name, name.replace("_", "-")),
    mark: { kind: "node", host: testHostId, node: id },
    nics: [{ mac: mac(id), bridge: "br-ctlplane", tap: nodeTapName(id), mtu: 1_500 }],
    boot: ["hd"],
    asset: "node",
    cdrom: false,
  };
}

function common(state: string, name: string, serial: string) {
  return {
    name,
    uuid: uuid5(testHostId, name),
    memoryMiB: 128,
    cpus: 1,
    disks: [{ path: join(state, "te/disks", `${name}.qcow2`), format: "qcow2", serial: "d0" }],
    consoleLog: join(state, "log", `${serial}.console`),
    consoleSocket: `/run/rackyard-console/${serial}`,
    serial,
    guestAgent: false,
  } as const;
}

/** Disk and definition of a machine; `image`: the guest's, or an empty disk. */
export async function define(bench: Bench, spec: DomainSpec, image: "guest" | "empty") {
  const base = image === "guest" ? { path: bench.guest.disk, format: "raw" as const } : null;
  const [disk] = spec.disks;
  await bench.agent.call("disks", "createOverlay", {
    path: disk!.path,
    base,
    sizeBytes: 256 * 1024 ** 2,
  });
  await bench.agent.call("domains", "define", spec);
}

/** Waits for the guest's mark on a console, `times` of them. */
export async function booted(bench: Bench, spec: DomainSpec, times = 1): Promise<void> {
  const marks = async (): Promise<number> =>
    (await readFile(spec.consoleLog, "utf8").catch(() => "")).split(guestMark).length - 1;
  await until(async () => (await marks()) >= times, {
    timeoutMs: bench.limitMs(4),
    what: `${spec.name} to boot`,
  });
}

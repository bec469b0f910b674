/**
 * What a domain's definition really says, read from libvirt's own XML: sizes, network cards, disks,
 * boot order, media, NVRAM, and devices that reach outside. libvirt rewrites what it is given, so
 * our own XML is read in the same way and the two readings are compared. Pure.
 */
import { DOMParser } from "@xmldom/xmldom";
import type { Element } from "@xmldom/xmldom";

export type Definition = {
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly nics: readonly string[];
  /** Paths and serial numbers. */
  readonly disks: readonly string[];
  /** Devices in the order in which they are tried. */
  readonly boot: readonly string[];
  /** Files in drives for media. */
  readonly media: readonly string[];
  readonly nvram: string | null;
  /** Devices through which a guest reaches more than its own: none of ours has one. */
  readonly foreign: readonly string[];
};

/** Elements below `<devices>` that give a guest something of the host's. */
const reaching = ["hostdev", "filesystem", "shmem", "redirdev", "memory", "vsock", "parallel"];

export function readDefinition(xml: string): Definition {
  const root = new DOMParser().parseFromString(xml.trim(), "text/xml").documentElement!;
  const all = (name: string): Element[] => [...root.getElementsByTagName(name)];
  const disks = all("disk");
  const cdroms = disks.filter((disk) => disk.getAttribute("device") === "cdrom");
  const plain = disks.filter((disk) => !cdroms.includes(disk));
  return {
    memoryMiB: mebibytes(all("memory")[0]),
    cpus: Number(all("vcpu")[0]?.textContent),
    nics: all("interface").map((nic) =>
      [attribute(nic, "mac", "address"), attribute(nic, "source", "bridge")].join(" "),
    ),
    disks: plain.map((disk) => [fileOf(disk), textOf(disk, "serial")].join(" ")),
    boot: [...all("interface"), ...disks]
      .map((device) => ({ order: Number(attribute(device, "boot", "order")), is: kindOf(device) }))
      .filter(({ order }) => order > 0)
      .sort((a, b) => a.order - b.order)
      .map(({ is }) => is),
    media: cdroms.map(fileOf).filter((file) => file !== ""),
    nvram: all("nvram")[0]?.textContent ?? null,
    foreign: [
      ...reaching.filter((name) => all(name).some(isDevice)),
      ...(xml.includes("qemu:commandline") ? ["qemu:commandline"] : []),
    ],
  };
}

/** Names of what differs. */
export function differences(found: Definition, planned: Definition): (keyof Definition)[] {
  const keys = Object.keys(planned) as (keyof Definition)[];
  return keys.filter((key) => JSON.stringify(found[key]) !== JSON.stringify(planned[key]));
}

function isDevice(element: Element): boolean {
  return element.parentNode?.nodeName === "devices";
}

function kindOf(device: Element): string {
  if (device.nodeName === "interface") return "network";
  return device.getAttribute("device") === "cdrom" ? "cdrom" : "hd";
}

function attribute(parent: Element, name: string, key: string): string {
  return parent.getElementsByTagName(name)[0]?.getAttribute(key) ?? "";
}

function fileOf(disk: Element): string {
  const source = disk.getElementsByTagName("source")[0];
  return source?.getAttribute("file") ?? source?.getAttribute("dev") ?? "";
}

function textOf(parent: Element, name: string): string {
  return parent.getElementsByTagName(name)[0]?.textContent ?? "";
}

/** libvirt tells KiB where it was told MiB. */
function mebibytes(memory: Element | undefined): number {
  const amount = Number(memory?.textContent);
  return memory?.getAttribute("unit") === "MiB" ? amount : amount / 1024;
}

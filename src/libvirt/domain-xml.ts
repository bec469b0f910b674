/**
 * The one builder of domain XML (te-host.md §3): from our own description, never from a live
 * definition, which freezes what libvirt made up. Everything is escaped. The mark's `plan` is
 * the digest of the whole text without it: drift is judged by it, as libvirt rewrites XML.
 */
import { createHash } from "node:crypto";
import { assert } from "../base/assert.ts";
import { limits } from "../base/limits.ts";

/** `test` is for libvirt's test driver, which knows no QEMU. */
export type Flavour = "tcg" | "kvm" | "test";
export type BootDevice = "network" | "hd" | "cdrom";

export type DomainDescription = {
  readonly flavour: Flavour;
  readonly name: string;
  readonly uuid: string;
  /** Attributes of the mark (H-3.1): host, te, machine or node. */
  readonly mark: Readonly<Record<string, string>>;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly nics: readonly {
    readonly mac: string;
    readonly bridge: string;
    readonly tap: string;
    readonly mtu: number;
  }[];
  readonly disks: readonly {
    readonly path: string;
    readonly format: "qcow2" | "raw";
    readonly serial: string;
  }[];
  readonly cdrom: boolean;
  readonly boot: readonly BootDevice[];
  readonly consoleLog: string;
  readonly consoleSocket: string;
  readonly serial: string;
  readonly asset: string;
  readonly guestAgent: boolean;
};

export const MARK_NAMESPACE = "urn:rackyard:te:1";

/** What differs in the XML of a start with another boot order for one boot (H-3.3). */
export type Once = { readonly first: BootDevice };

/** Digest that stands in the mark of a domain defined from this description. */
export function domainDigest(description: DomainDescription): string {
  const text = render(domain(description, "", undefined));
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}

/** The definition; with `once`, the live XML of one start: changed order, reboot ends it. */
export function domainXml(description: DomainDescription, once?: Once): string {
  return render(domain(description, domainDigest(description), once));
}

type Element = {
  readonly name: string;
  readonly attributes: Readonly<Record<string, string | number | undefined>>;
  readonly content: readonly (Element | string)[];
};

function element(
  name: string,
  attributes: Element["attributes"] = {},
  ...content: readonly (Element | string | false)[]
): Element {
  return { name, attributes, content: content.filter((each) => each !== false) };
}

function domain(it: DomainDescription, plan: string, once: Once | undefined): Element {
  const order = bootOrder(it, once);
  const tested = it.flavour === "test";
  return element(
    "domain",
    { type: { kvm: "kvm", tcg: "qemu", test: "test" }[it.flavour] },
    element("name", {}, it.name),
    element("uuid", {}, it.uuid),
    element(
      "metadata",
      {},
      element("r:te", { "xmlns:r": MARK_NAMESPACE, ...it.mark, plan: plan || undefined }),
    ),
    element("memory", { unit: "MiB" }, String(it.memoryMiB)),
    element("vcpu", {}, String(it.cpus)),
    it.flavour === "kvm" && element("iothreads", {}, "1"),
    ...(tested ? [] : [sysinfo(it)]),
    operatingSystem(it.flavour),
    ...(tested ? [] : [features(it), cpu(it.flavour)]),
    ...(tested ? [] : [element("genid")]),
    element("clock", { offset: "utc" }),
    element("on_poweroff", {}, "destroy"),
    element("on_reboot", {}, once ? "destroy" : "restart"),
    element("on_crash", {}, "destroy"),
    element(
      "devices",
      {},
      !tested && element("emulator", {}, "/usr/bin/qemu-system-x86_64"),
      ...it.disks.map((disk, index) => diskElement(it, disk, index, order)),
      it.cdrom && cdrom(it.flavour, order),
      ...it.nics.map((nic, index) => nicElement(it.flavour, nic, order.get(`nic${index}`))),
      ...(tested ? [] : others(it)),
    ),
  );
}

/** Order by device (H-3.2): NICs in turn, the first disk, the CD; an override comes first. */
function bootOrder(it: DomainDescription, once: Once | undefined): Map<string, number> {
  const kinds = once
    ? [once.first, ...it.boot.filter((device) => device !== once.first)]
    : [...it.boot];
  const devices = kinds.flatMap((kind) => {
    if (kind === "network") return it.nics.map((_nic, index) => `nic${index}`);
    if (kind === "hd") return it.disks.length > 0 ? ["disk0"] : [];
    return it.cdrom ? ["cdrom"] : [];
  });
  return new Map(devices.map((device, index) => [device, index + 1]));
}

const boot = (order: number | undefined): Element | false =>
  order !== undefined && element("boot", { order });

/** SMBIOS, so that what the guest reads and what the BMC tells agree. */
function sysinfo(it: DomainDescription): Element {
  const entry = (name: string, value: string): Element => element("entry", { name }, value);
  return element(
    "sysinfo",
    { type: "smbios" },
    element(
      "system",
      {},
      entry("manufacturer", "Rackyard"),
      entry("product", "Virtual bare metal"),
      entry("serial", it.serial),
      entry("uuid", it.uuid),
    ),
    element("chassis", {}, entry("manufacturer", "Rackyard"), entry("asset", it.asset)),
  );
}

function operatingSystem(flavour: Flavour): Element {
  if (flavour === "test") return element("os", {}, element("type", {}, "hvm"));
  return element(
    "os",
    {},
    element("type", { arch: "x86_64", machine: flavour === "kvm" ? "q35" : "pc" }, "hvm"),
    element("bios", { useserial: "yes", rebootTimeout: limits.biosRetryMs }),
    element("smbios", { mode: "sysinfo" }),
  );
}

function features(it: DomainDescription): Element {
  // The emulator's translation cache is 1 GiB by default: a guest's resident size falls to 40 %.
  const cacheMiB = it.memoryMiB < 512 ? 64 : 96;
  const cache = element("tcg", {}, element("tb-cache", { unit: "MiB" }, String(cacheMiB)));
  return element("features", {}, element("acpi"), element("apic"), it.flavour === "tcg" && cache);
}

function cpu(flavour: Flavour): Element {
  return element("cpu", { mode: flavour === "kvm" ? "host-passthrough" : "maximum" });
}

function diskElement(
  it: DomainDescription,
  disk: DomainDescription["disks"][number],
  index: number,
  order: ReadonlyMap<string, number>,
): Element {
  assert(index < 26, "a machine has few disks");
  const driver = {
    name: "qemu",
    type: disk.format,
    cache: "unsafe",
    discard: "unmap",
    detect_zeroes: "unmap",
    iothread: it.flavour === "kvm" ? 1 : undefined,
  };
  return element(
    "disk",
    { type: "file", device: "disk" },
    it.flavour !== "test" && element("driver", driver),
    element("source", { file: disk.path }),
    element("target", { dev: `vd${String.fromCharCode(97 + index)}`, bus: "virtio" }),
    element("serial", {}, disk.serial),
    boot(order.get(`disk${index}`)),
  );
}

/** Always there and empty, so that a change of media is no hotplug. */
function cdrom(flavour: Flavour, order: ReadonlyMap<string, number>): Element {
  const target = flavour === "kvm" ? { dev: "sda", bus: "sata" } : { dev: "hda", bus: "ide" };
  return element(
    "disk",
    { type: "file", device: "cdrom" },
    flavour !== "test" && element("driver", { name: "qemu", type: "raw" }),
    element("target", target),
    element("readonly"),
    boot(order.get("cdrom")),
  );
}

function nicElement(
  flavour: Flavour,
  nic: DomainDescription["nics"][number],
  order: number | undefined,
): Element {
  assert(Buffer.byteLength(nic.tap) <= 15, `the kernel's names have 15 characters: ${nic.tap}`);
  return element(
    "interface",
    { type: "bridge" },
    element("mac", { address: nic.mac }),
    element("source", { bridge: nic.bridge }),
    flavour !== "test" && element("virtualport", { type: "openvswitch" }),
    element("target", { dev: nic.tap }),
    element("model", { type: "virtio" }),
    element("mtu", { size: nic.mtu }),
    boot(order),
  );
}

function others(it: DomainDescription): Element[] {
  const agent = element(
    "channel",
    { type: "unix" },
    element("source", { mode: "bind" }),
    element("target", { type: "virtio", name: "org.qemu.guest_agent.0" }),
  );
  return [
    element(
      "serial",
      { type: "unix" },
      element("source", { mode: "bind", path: it.consoleSocket }),
      element("log", { file: it.consoleLog, append: "on" }),
      element("target", { port: 0 }),
    ),
    ...(it.guestAgent ? [agent] : []),
    element("rng", { model: "virtio" }, element("backend", { model: "random" }, "/dev/urandom")),
    element("panic", { model: "isa" }),
    element("controller", { type: "usb", model: "none" }),
    element("memballoon", { model: "none" }),
  ];
}

function render(it: Element, indent = ""): string {
  const attributes = Object.entries(it.attributes)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}='${escapeXml(String(value))}'`)
    .join("");
  const open = `${indent}<${it.name}${attributes}`;
  if (it.content.length === 0) return `${open}/>\n`;
  if (it.content.every((each) => typeof each === "string")) {
    return `${open}>${it.content.map(escapeXml).join("")}</${it.name}>\n`;
  }
  const inner = it.content
    .map((each) => (typeof each === "string" ? escapeXml(each) : render(each, `${indent}  `)))
    .join("");
  return `${open}>\n${inner}${indent}</${it.name}>\n`;
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "'": "&apos;",
  '"': "&quot;",
  "\n": "&#10;",
  "\r": "&#13;",
  "\t": "&#9;",
  // ends of lines to a reader of XML 1.1
  "\u0085": "&#133;",
  "\u2028": "&#8232;",
};

/** Text or attribute value; characters that XML 1.0 (§2.2) cannot carry are our mistake. */
export function escapeXml(text: string): string {
  assert(!FORBIDDEN.test(text), "text holds characters that XML cannot carry");
  return text.replace(/[&<>'"\n\r\t\u0085\u2028]/g, (character) => entities[character]!);
}

const FORBIDDEN = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u;

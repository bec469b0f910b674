/** H-3.1–H-3.3: the XML builder, whole texts; whatever names hold, it is one well-formed text. */
import { DOMParser } from "@xmldom/xmldom";
import type { Element } from "@xmldom/xmldom";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "../base/assert.ts";
import { domainDigest, domainXml, escapeXml } from "./domain-xml.ts";
import type { DomainDescription } from "./domain-xml.ts";

const seed: DomainDescription = {
  flavour: "tcg",
  name: "seed_1",
  uuid: "6ec9a3f0-5a0c-5e2b-9a3e-0d6c1b2a3f40",
  mark: { host: "b0000000-0000-4000-8000-000000000001", te: "1", machine: "seed" },
  memoryMiB: 256,
  cpus: 1,
  nics: [
    { mac: "00:0b:d0:69:7e:58", bridge: "br-ctlplane", tap: "te1s0", mtu: 1_500 },
    { mac: "00:0b:d0:69:7e:59", bridge: "brbm1", tap: "te1s1", mtu: 1_500 },
  ],
  disks: [{ path: "/s/te/disks/seed_1.qcow2", format: "qcow2", serial: "te1seedd0" }],
  cdrom: true,
  boot: ["hd"],
  consoleLog: "/s/te/consoles/te1-seed.log",
  consoleSocket: "/run/rackyard-console/te1-seed",
  serial: "te1-seed",
  asset: "te1",
  guestAgent: true,
};
const machine: DomainDescription = {
  ...seed,
  name: "baremetalbrbm1_0",
  mark: { ...seed.mark, machine: "n0" },
  nics: [
    { mac: "00:0b:d0:69:7e:60", bridge: "brbm1", tap: "te1n0p0", mtu: 1_450 },
    { mac: "00:0b:d0:69:7e:61", bridge: "brbm1", tap: "te1n0p1", mtu: 1_450 },
  ],
  boot: ["network", "hd", "cdrom"],
  serial: "te1-n0",
  guestAgent: false,
};

const parentOf = (element: Element): Element => element.parentNode as Element;

/** Boot order by device, read from the XML. */
function order(xml: string): string[] {
  const root = new DOMParser().parseFromString(xml, "text/xml");
  return [...root.getElementsByTagName("boot")]
    .map((boot) => ({
      at: Number(boot.getAttribute("order")),
      dev: parentOf(boot).getElementsByTagName("target")[0]?.getAttribute("dev"),
    }))
    .sort((a, b) => a.at - b.at)
    .map(({ dev }) => dev ?? "");
}

describe("H-3.1 definition", () => {
  test("of a seed under emulation, whole", async () => {
    await expect(domainXml(seed)).toMatchFileSnapshot("golden/seed-tcg.xml");
  });

  test("of a machine with KVM, whole", async () => {
    const xml = domainXml({ ...machine, flavour: "kvm" });
    await expect(xml).toMatchFileSnapshot("golden/machine-kvm.xml");
  });

  test("carries the digest of its own input, the same every time", () => {
    const digest = domainDigest(seed);
    expect(digest).toMatch(/^[0-9a-f]{16}$/);
    expect(domainXml(seed)).toContain(` plan='${digest}'`);
    expect(domainDigest({ ...seed })).toBe(digest);
    expect(domainDigest({ ...seed, memoryMiB: 257 })).not.toBe(digest);
    expect(domainDigest({ ...seed, mark: { ...seed.mark, te: "2" } })).not.toBe(digest);
  });

  test("a tap's name beyond the kernel's 15 characters asserts", () => {
    const nics = [{ ...seed.nics[0]!, tap: "sixteen-letters0" }];
    expect(() => domainXml({ ...seed, nics })).toThrow(AssertionError);
  });
});

describe("H-3.2 boot order, by device alone", () => {
  test("a machine: NICs in turn, disk, CD; a seed: disk", () => {
    expect(order(domainXml(machine))).toEqual(["te1n0p0", "te1n0p1", "vda", "hda"]);
    expect(order(domainXml(seed))).toEqual(["vda"]);
    expect(domainXml(machine)).not.toContain("<boot dev");
  });

  test.each([
    ["hd", ["vda", "te1n0p0", "te1n0p1", "hda"]],
    ["cdrom", ["hda", "te1n0p0", "te1n0p1", "vda"]],
    ["network", ["te1n0p0", "te1n0p1", "vda", "hda"]],
  ] as const)("H-3.3 once %s comes first, the rest behind it", (first, expected) => {
    const xml = domainXml(machine, { first });
    expect(order(xml)).toEqual(expected);
    expect(xml).toContain("<on_reboot>destroy</on_reboot>");
    expect(xml).toContain(` plan='${domainDigest(machine)}'`);
  });
});

describe("H-14.2 escaping", () => {
  const xmlText = fc.string({ unit: "binary", maxLength: 40 }).filter((text) => {
    try {
      escapeXml(text);
      return true;
    } catch {
      return false;
    }
  });

  test("whatever a name holds comes back as it was, and nothing else is added", () => {
    fc.assert(
      fc.property(xmlText, xmlText, (name, path) => {
        const disks = [{ ...seed.disks[0]!, path }];
        const xml = domainXml({ ...seed, name, disks });
        const root = new DOMParser().parseFromString(xml, "text/xml");
        expect(root.getElementsByTagName("name")[0]?.textContent).toBe(name);
        expect(root.getElementsByTagName("source")[0]?.getAttribute("file")).toBe(path);
        expect(root.getElementsByTagName("interface")).toHaveLength(2);
      }),
    );
  });

  test.each(["\0", "\u0008", "\ud800", "\uffff"])("what XML cannot carry asserts: %j", (text) => {
    expect(() => escapeXml(`a${text}b`)).toThrow(AssertionError);
  });
});

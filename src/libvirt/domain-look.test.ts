import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { differences, readDefinition } from "./domain-look.ts";

const golden = (name: string): string =>
  readFileSync(new URL(`golden/${name}.xml`, import.meta.url), "utf8");

test("H-8.2 a definition is read whole: sizes, cards, disks, boot order, no medium, no NVRAM", () => {
  expect(readDefinition(golden("seed-tcg"))).toEqual({
    memoryMiB: 256,
    cpus: 1,
    nics: ["00:0b:d0:69:7e:58 br-ctlplane", "00:0b:d0:69:7e:59 brbm1"],
    disks: ["/s/te/disks/seed_1.qcow2 te1seedd0"],
    boot: ["hd"],
    media: [],
    nvram: null,
    foreign: [],
  });
});

/** What somebody may do to a definition while our mark on it stays as it is. */
const defects: [string, (xml: string) => string, string][] = [
  ["more memory", (xml) => xml.replace(">256<", ">512<"), "memoryMiB"],
  ["more CPUs", (xml) => xml.replace("<vcpu>1<", "<vcpu>2<"), "cpus"],
  ["a card on another bridge", (xml) => xml.replace("'brbm1'", "'brbm2'"), "nics"],
  ["a disk of the host's", (xml) => xml.replace("seed_1.qcow2", "../../../dev/sda"), "disks"],
  [
    "a medium in the drive",
    (xml) => xml.replace("<driver name='qemu' type='raw'/>", "<source file='/x.iso'/>"),
    "media",
  ],
  ["another boot order", (xml) => xml.replace("<boot order='1'/>", ""), "boot"],
  ["an NVRAM", (xml) => xml.replace("</os>", "<nvram>/x.fd</nvram></os>"), "nvram"],
  [
    "a device of the host's",
    (xml) => xml.replace("</devices>", "<hostdev mode='subsystem'/></devices>"),
    "foreign",
  ],
  [
    "QEMU's own arguments",
    (xml) => xml.replace("</domain>", "<qemu:commandline xmlns:qemu='q'/></domain>"),
    "foreign",
  ],
];

test.each(defects)("H-8.2 %s is seen", (_what, spoil, key) => {
  const xml = golden("seed-tcg");
  expect(spoil(xml)).not.toBe(xml);
  expect(differences(readDefinition(spoil(xml)), readDefinition(xml))).toEqual([key]);
});

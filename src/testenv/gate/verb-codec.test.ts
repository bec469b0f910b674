import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  answered,
  printList,
  printMacs,
  printPower,
  readVerb,
  refused,
  unknownCommand,
} from "./verb-codec.ts";
import type { Verb } from "./verb-codec.ts";

const scope = { number: 3, domains: ["seed_3", "baremetalbrbm3_0", "baremetalbrbm3_1"] };
const read = (command: string) => readVerb(command, scope);

const start = { kind: "power", verb: "start", domain: "seed_3" } as const;
const all = { kind: "list", all: true } as const;
const running = { kind: "list", all: false } as const;
const forms: [string, Verb][] = [
  ["virsh start seed_3", start],
  ["virsh destroy seed_3", { ...start, verb: "destroy" }],
  ["virsh list", { ...running, form: "table" }],
  ["virsh list --all", { ...all, form: "table" }],
  ["copyseed 3", { kind: "copyseed" }],
  // a
  [`/usr/bin/virsh list --all | tail -n +2 | awk -F" " '{print $2}'`, { kind: "list-column" }],
  [
    `LC_ALL=C /usr/bin/virsh --connect qemu:///system list --all | tail -n +2 | awk -F" " '{print $2}'`,
    { kind: "list-column" },
  ],
  // b: the bar before awk with a blank on either side, or none
  ...["|awk", " |awk", "| awk", " | awk"].map((bar): [string, Verb] => [
    `LC_ALL=C /usr/bin/virsh list --all|grep running${bar} -v qc='"' -F" " '{print qc$2qc}'`,
    { ...running, form: "quoted" },
  ]),
  // c, both
  [
    `/usr/bin/virsh dumpxml baremetalbrbm3_0 | grep "mac address" | awk -F"'" '{print $2}' | tr -d ':'`,
    { kind: "macs", domain: "baremetalbrbm3_0" },
  ],
  [
    `LC_ALL=C /usr/bin/virsh dumpxml baremetalbrbm3_1 | awk -F "'" '/mac address/{print $2}'| tr -d ':'`,
    { kind: "macs", domain: "baremetalbrbm3_1" },
  ],
  // d
  ["/usr/bin/virsh start seed_3", start],
  ["LC_ALL=C /usr/bin/virsh --connect qemu:///system start seed_3", start],
  [`/usr/bin/virsh destroy "seed_3"`, { ...start, verb: "destroy" }],
  ["/usr/bin/virsh reset seed_3", { ...start, verb: "reset" }],
  // later Ironic
  ["/usr/bin/virsh list --all --name", { ...all, form: "names" }],
  ["/usr/bin/virsh --connect qemu:///system list --name", { ...running, form: "names" }],
];

describe("H-6.6 each form is read", () => {
  test.each(forms)("%s", (command, verb) => {
    expect(read(command)).toEqual({ kind: "verb", verb });
  });
});

describe("H-6.6 H-6.7 whatever is not exactly a form is unknown", () => {
  const hostile = [
    "",
    " ",
    "virsh",
    "virsh start",
    "virsh start ",
    "virsh  start seed_3",
    "virsh start seed_3 ",
    " virsh start seed_3",
    "virsh start seed_3; id",
    "virsh start seed_3 && id",
    "virsh start seed_3\nid",
    "virsh start $(id)",
    "virsh start `id`",
    "virsh start seed_3 --force-boot",
    "virsh start --help",
    "virsh start ../seed_3",
    `virsh start "seed_3"`,
    "virsh reset seed_3",
    "virsh edit seed_3",
    "virsh dumpxml seed_3",
    "virsh list --all --name",
    "/usr/bin/virsh -c test:///default list --all",
    "/usr/bin/virsh --connect qemu+ssh://evil/system start seed_3",
    `/usr/bin/virsh start "seed_3`,
    "LC_ALL=C  /usr/bin/virsh start seed_3",
    "LC_ALL=de /usr/bin/virsh start seed_3",
    "copyseed",
    "copyseed 3 ",
    "copyseed 3;id",
    "copyseed -1",
    "copyseed 0x3",
    "copyseed three",
    `LC_ALL=C /usr/bin/virsh list --all|grep running|awk -v qc='"' -F" " '{system("id")}'`,
    `EDITOR="sed -i s/a/b/" /usr/bin/virsh edit seed_3`,
    "bash",
    "scp -t /tmp",
    "internal-sftp",
    `virsh start ${"a".repeat(65)}`,
    `virsh list${" ".repeat(5000)}`,
  ];
  test.each(hostile)("%j", (command) => expect(read(command)).toEqual({ kind: "unknown" }));
  test.each(forms)("a trailing newline: %s", (command) => {
    expect(read(`${command}\n`)).toEqual({ kind: "unknown" });
    expect(read(`${command}\r`)).toEqual({ kind: "unknown" });
    expect(read(`${command}\0`)).toEqual({ kind: "unknown" });
  });
});

describe("H-14.2 names of another lease", () => {
  test.each([
    "virsh start seed_4",
    "virsh destroy baremetalbrbm4_0",
    "virsh start baremetalbrbm3_2",
    "virsh start seed_33",
    "virsh start SEED_3",
    `/usr/bin/virsh destroy "node_12345678"`,
    "copyseed 4",
    "copyseed 03",
    "copyseed 30",
  ])("%s", (command) => expect(read(command)).toMatchObject({ kind: "not-yours" }));
});

test("H-6.6 no string acts on a domain that is not of this lease", () => {
  const words = fc.constantFrom(
    ..."virsh|/usr/bin/virsh|LC_ALL=C|start|destroy|list|--all|copyseed|seed_3|seed_4|3|\n|;|'|\"| ".split(
      "|",
    ),
    "|",
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(words).map((parts) => parts.join(" ")),
      ),
      (text) => {
        const answer = read(text);
        const named =
          answer.kind === "verb" && "domain" in answer.verb ? answer.verb.domain : "seed_3";
        expect(scope.domains).toContain(named);
      },
    ),
    { numRuns: 3_000 },
  );
});

const domains = [
  { name: "seed_3", running: true },
  { name: "baremetalbrbm3_0", running: false },
];
test("H-6.6 answers are those of virsh and 2014's pipes", () => {
  expect(printList({ kind: "list-column" }, domains).stdout).toBe("\nseed_3\nbaremetalbrbm3_0\n\n");
  expect(printList({ ...running, form: "quoted" }, domains).stdout).toBe('"seed_3"\n');
  expect(printList({ ...all, form: "names" }, domains).stdout).toBe("seed_3\nbaremetalbrbm3_0\n\n");
  expect(printList({ ...all, form: "table" }, domains).stdout.split("\n")).toEqual([
    " Id   Name               State",
    "------------------------------------",
    " 1    seed_3             running",
    " -    baremetalbrbm3_0   shut off",
    "",
    "",
  ]);
  expect(printList({ ...running, form: "table" }, []).stdout).toBe(
    " Id   Name   State\n------------------------\n\n",
  );
  expect(printMacs(["00:0b:d0:69:7e:59"]).stdout).toBe("000bd0697e59\n");
  expect(printPower("start", "seed_3", "done").stdout).toBe("Domain seed_3 started\n\n");
  expect(printPower("destroy", "seed_3", "done").stdout).toBe("Domain seed_3 destroyed\n\n");
  expect(printPower("start", "seed_3", "was-so")).toMatchObject({
    exitCode: 1,
    stderr: "error: Domain is already active\n",
  });
  expect(unknownCommand).toEqual({ stdout: "", stderr: "Unknown command\n", exitCode: 1 });
});

test("H-6.7 no answer is longer than 64 KiB", () => {
  expect(answered("x".repeat(100_000)).stdout).toHaveLength(64 * 1024);
  expect(refused("x".repeat(100_000)).stderr).toHaveLength(64 * 1024);
});

/** H-1.6: how many TEs a host carries. H-1.8: whether a machine may be switched on. */
import { describe, expect, test } from "vitest";
import { kindSchema } from "../model/machine.ts";
import type { Kind } from "../model/machine.ts";
import { hostShare, mayPowerOn, nodeReserve, planCarve, testenvShare } from "./capacity-plan.ts";
import type { CarveSettings, HostCapacity } from "./capacity-plan.ts";

const settings: CarveSettings = { max: 32, cpuOvercommit: 4, diskFill: 0.3 };
const none = { memoryMiB: 0, cpus: 0, diskGiB: 0 };
const two = kindSchema.parse({});
const of2014 = kindSchema.parse({
  seed: { memoryMiB: 4_096, diskGiB: 40 },
  machines: { count: 15, running: 4, memoryMiB: 4_096, diskGiB: 40 },
});
const host = (memoryTotalMiB: number, cpusOnline: number, diskGiB: number): HostCapacity => ({
  memoryTotalMiB,
  cpusOnline,
  diskGiB,
});
const counted = (kinds: Record<string, Kind>, at: HostCapacity, reserve = none, more = {}) => {
  const plan = planCarve(kinds, at, reserve, { ...settings, ...more });
  return plan.kind === "carved"
    ? Object.fromEntries(plan.counts.map((it) => [it.name, it.count]))
    : plan.why;
};

describe("H-1.6 carve plan", () => {
  test("a TE of kind two takes seed and machines, 128 MiB more each, 0.3 of its disks", () => {
    expect(testenvShare(two, settings)).toEqual({ memoryMiB: 1_152, cpus: 3, diskGiB: 12 * 0.3 });
  });

  test("running machines count, not all", () => {
    expect(testenvShare(of2014, settings)).toEqual({
      memoryMiB: 5 * 4_096 + 5 * 128,
      cpus: 5,
      diskGiB: 200 * 0.3,
    });
  });

  test("the host keeps 10 % of its memory, at least 2 GiB, and 15 % of its disk less 10 GiB", () => {
    expect(hostShare(host(8_192, 4, 110), none, settings)).toEqual({
      memoryMiB: 8_192 - 2_048,
      cpus: 16,
      diskGiB: 85,
    });
    expect(hostShare(host(100_000, 4, 110), none, settings).memoryMiB).toBe(90_000);
  });

  test.each([
    ["CPUs decide on a small machine", host(24_576, 2, 100), none, {}, { two: 2 }],
    ["nodes are taken off first", host(24_576, 2, 100), { ...none, cpus: 3 }, {}, { two: 1 }],
    ["memory decides", host(2_048 + 3_456, 16, 1_000), none, {}, { two: 3 }],
    ["one MiB less", host(2_048 + 3_455, 16, 1_000), none, {}, { two: 2 }],
    ["disk decides", host(100_000, 64, 10 + (12 * 0.3 * 4) / 0.85 + 0.01), none, {}, { two: 4 }],
    ["carve.max decides", host(1_000_000, 640, 10_000), none, {}, { two: 32 }],
    ["carve.max 3", host(1_000_000, 640, 10_000), none, { max: 3 }, { two: 3 }],
    [
      "memoryPerTeMiB replaces the sum",
      host(45_056, 64, 1_000),
      none,
      { memoryPerTeMiB: 20_480 },
      { two: 1 },
    ],
    ["cpusPerTe replaces the sum", host(100_000, 2, 1_000), none, { cpusPerTe: 1 }, { two: 8 }],
    [
      "diskPerTeGiB replaces the sum",
      host(100_000, 64, 250),
      none,
      { diskPerTeGiB: 100 },
      { two: 2 },
    ],
  ])("%s", (_what, at, reserve, more, expected) => {
    expect(counted({ two }, at, reserve, more)).toEqual(expected);
  });

  test("numbers come before auto, and auto kinds take the rest in turn", () => {
    const at = host(100_000, 9, 1_000); // 36 CPUs: 12 TEs of 3
    expect(counted({ a: two, b: { ...two, count: 3 }, c: two }, at)).toEqual({ a: 5, b: 3, c: 4 });
  });

  test("a number that does not fit is refused, naming what is short", () => {
    expect(counted({ two: { ...two, count: 5 } }, host(24_576, 2, 100))).toBe(
      "5 TEs of kind two do not fit, only 2: CPUs",
    );
  });

  test("0 TEs are refused with the sums shown", () => {
    const plan = planCarve({ two }, host(3_000, 2, 100), none, settings);
    expect(plan).toEqual({
      kind: "refused",
      why: "not one TE fits: memory too small",
      sums: [
        "host: 3000 MiB, 2 CPUs, 100 GiB disk",
        "for CI nodes: 0 MiB, 0 CPUs, 0 GiB disk",
        "for TEs: 952 MiB, 8 CPUs, 76.5 GiB disk",
        "a TE of kind two: 1152 MiB, 3 CPUs, 3.6 GiB disk; that is 0 by memory, 2 by CPUs, 21 by disk",
      ],
    });
  });

  test("a host that is to have no TEs has none", () => {
    expect(counted({ two: { ...two, count: 0 } }, host(3_000, 2, 100))).toEqual({ two: 0 });
  });

  test("reserve for nodes: as many as may be, of the largest label; or as configured", () => {
    const labels = [
      { memoryMiB: 512, cpus: 1, diskGiB: 8 },
      { memoryMiB: 256, cpus: 2, diskGiB: 4 },
    ];
    expect(nodeReserve(labels, 2, undefined)).toEqual({ memoryMiB: 1_280, cpus: 4, diskGiB: 16 });
    expect(nodeReserve(labels, 2, none)).toEqual(none);
    expect(nodeReserve([], 2, undefined)).toEqual(none);
  });
});

describe("H-1.8 power-on guard", () => {
  const machine = { name: "te1-n0", memoryMiB: 256, runningNow: 0, runningLimit: 2 };
  test.each([
    ["yes", 1, 10_000],
    ["no", 2, 10_000],
    ["yes", 0, 256 + 128 + 512],
    ["no", 0, 256 + 128 + 511],
  ] as const)("%s with %i on and %i MiB available", (kind, runningNow, memoryAvailableMiB) => {
    expect(mayPowerOn({ ...machine, runningNow, memoryAvailableMiB }).kind).toBe(kind);
  });

  test("each refusal says why", () => {
    const full = mayPowerOn({ ...machine, runningNow: 2, memoryAvailableMiB: 10_000 });
    const poor = mayPowerOn({ ...machine, memoryAvailableMiB: 800 });
    expect([full, poor].map((it) => (it.kind === "no" ? it.why : ""))).toEqual([
      "te1-n0 stays off: 2 machines of this TE are on, and at most 2 may be",
      "te1-n0 stays off: the host would have 416 MiB of free memory, under 512",
    ]);
  });
});

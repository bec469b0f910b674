/** How a host is (issue 6 §3): its own parts decide, a rack is its own problem. */
import { expect, test } from "vitest";
import { judge } from "./health.ts";
import type { HostLook } from "./health.ts";

const well: HostLook = {
  own: [],
  parts: [],
  failures: [],
  ofRacks: [],
  racks: [],
  freeMemoryMiB: 8_192,
  freeDiskMiB: 20_000,
};
const failed = (kind: string, target: string) => ({
  action: { kind, target, why: "", undo: "" },
  error: "no",
});

test("a host without a fault is ok and has no problem", () => {
  expect(judge(well)).toEqual({ health: "ok", problems: [] });
});

const ofOne: [string, Partial<HostLook>, string][] = [
  ["a faulty rack", { racks: ["te1 is faulty: no bridge"] }, "te1 is faulty: no bridge"],
  ["a fence that is raised again", { ofRacks: [{ what: "the fence of te1", why: "ovs" }] }, "te1"],
  ["a target of a pass", { failures: [failed("define-domain", "te1s0")] }, "define-domain te1s0"],
];
test.each(ofOne)("%s is shown, and the host stays ok", (_what, look, text) => {
  const { health, problems } = judge({ ...well, ...look });
  expect(health).toBe("ok");
  expect(problems.join()).toContain(text);
});

const ofHost: [string, Partial<HostLook>, string][] = [
  ["a daemon that is not there", { parts: ["libvirtd does not run"] }, "libvirtd does not run"],
  ["a probe", { own: [{ what: "libvirt", why: "no answer" }] }, "libvirt fails: no answer"],
  ["the gate's accounts", { failures: [failed("set-gate-accounts", "gate")] }, "gate: no"],
  ["little memory", { freeMemoryMiB: 511 }, "511 MiB of memory left"],
  ["little disk", { freeDiskMiB: 511 }, "511 MiB of disk left"],
];
test.each(ofHost)(
  "%s makes the host degraded, and stands before the racks",
  (_what, look, text) => {
    const { health, problems } = judge({ ...well, racks: ["te1 is faulty: x"], ...look });
    expect(health).toBe("degraded");
    expect(problems[0]).toContain(text);
    expect(problems.at(-1)).toBe("te1 is faulty: x");
  },
);

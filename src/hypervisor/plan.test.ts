/** H-1.2, H-1.3, H-1.4: the host's own part of a pass. */
import { expect, test } from "vitest";
import { hostActions, planHost } from "./plan.ts";
import type { HostFacts } from "./plan.ts";

const whole: HostFacts = {
  deadDaemons: [],
  etc: true,
  bridge: true,
  address: true,
  wayOut: true,
  packetFilter: true,
  flows: "as planned",
};
const kinds = (facts: Partial<HostFacts>): string[] =>
  planHost({ ...whole, ...facts }).map(({ kind, target }) => `${kind} ${target}`);

test("H-1.3 a host in order plans nothing", () => {
  expect(planHost(whole)).toEqual([]);
});

test("H-1.4 from nothing: all actions, in the order of a pass", () => {
  const plan = planHost({
    deadDaemons: ["dnsmasq", "ovsdb-server", "ovs-vswitchd"],
    etc: false,
    bridge: false,
    address: false,
    wayOut: false,
    packetFilter: false,
    flows: "differ",
  });
  expect(plan.pop()?.target).toBe("dnsmasq"); // it binds to the bridge
  const order = plan.map(({ kind }) => hostActions.indexOf(kind));
  expect(order).toEqual([...order].sort((a, b) => a - b));
  expect(new Set(plan.map(({ kind }) => kind))).toEqual(new Set(hostActions));
  expect(plan.every(({ why, undo }) => why !== "" && undo !== "")).toBe(true);
});

test.each([
  [{ deadDaemons: ["dnsmasq"] }, ["start-daemon dnsmasq"]],
  [{ etc: false }, ["mend-etc /etc"]],
  [{ packetFilter: false }, ["apply-packet-filter nftables", "set-port-rules br-ctlplane"]],
  [{ address: false }, ["set-host-address br-ctlplane"]],
  [{ flows: "differ" }, ["set-port-rules br-ctlplane"]],
  [{ wayOut: false }, ["connect-way-out out", "set-port-rules br-ctlplane"]],
  [{ bridge: false }, ["make-test-network br-ctlplane", "set-port-rules br-ctlplane"]],
] as const)("H-1.2 of %j follows %j", (facts, expected) => {
  expect(kinds(facts)).toEqual(expected);
});

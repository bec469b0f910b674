/** H-2.2: the test network is the first 10.99.k.0/24 that no route of the machine covers. */
import { describe, expect, test } from "vitest";
import { addressIn, freeNetwork, overlap, parseNetwork, routeInTheWay } from "./network-plan.ts";

const machine = [
  { dst: "default", dev: "eth0" },
  { dst: "192.0.2.0/24", dev: "eth0" },
  { dst: "192.0.2.2", dev: "eth0" },
];

describe("H-2.2 the first free network", () => {
  test.each([
    ["nothing is taken", [], undefined, "10.99.0.0/24"],
    ["the default route covers nothing", machine, undefined, "10.99.0.0/24"],
    ["one is taken", [{ dst: "10.99.0.0/24", dev: "ryaa" }], undefined, "10.99.1.0/24"],
    [
      "a host route takes its network",
      [{ dst: "10.99.0.7", dev: "eth1" }],
      undefined,
      "10.99.1.0/24",
    ],
    [
      "a wider route takes many",
      [{ dst: "10.99.0.0/17", dev: "vpn" }],
      undefined,
      "10.99.128.0/24",
    ],
    ["the kept one stays", [{ dst: "10.99.0.0/24", dev: "ryaa" }], "10.99.7.0/24", "10.99.7.0/24"],
    [
      "our own link is not in the way",
      [{ dst: "10.99.0.0/24", dev: "own" }],
      undefined,
      "10.99.0.0/24",
    ],
    ["the kept one was taken", [{ dst: "10.99.7.0/24", dev: "x" }], "10.99.7.0/24", "10.99.0.0/24"],
    ["all are taken", [{ dst: "10.0.0.0/8", dev: "vpn" }], undefined, undefined],
  ])("%s", (_what, routes, kept, expected) => {
    expect(freeNetwork(routes, "own", kept)).toBe(expected);
  });

  test("names the route that is in the way", () => {
    const vpn = { dst: "10.0.0.0/8", dev: "vpn" };
    expect(routeInTheWay("10.99.3.0/24", [...machine, vpn], "own")).toEqual(vpn);
  });
});

test("H-2.2 networks overlap when the wider one holds the other", () => {
  const net = (text: string) => parseNetwork(text)!;
  expect(overlap(net("10.99.0.0/24"), net("10.99.0.255"))).toBe(true);
  expect(overlap(net("10.99.0.0/24"), net("10.99.1.0"))).toBe(false);
  expect(overlap(net("0.0.0.0/0"), net("10.99.1.0/24"))).toBe(false);
  expect(parseNetwork("fd00::/64")).toBeUndefined();
});

test("H-2.2 host .1, machine .2, seeds .10 + N, nodes .180–.250", () => {
  expect([1, 2, 11, 180, 250].map((n) => addressIn("10.99.4.0/24", n))).toEqual([
    "10.99.4.1",
    "10.99.4.2",
    "10.99.4.11",
    "10.99.4.180",
    "10.99.4.250",
  ]);
});

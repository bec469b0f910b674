import { expect, test } from "vitest";
import { kindSchema } from "../model/machine.ts";
import { testenvDataSchema } from "../model/testenv.ts";
import { gateAccount, partsOf, seedRule } from "./parts.ts";
import type { HostGround } from "./parts.ts";
import { buildTeData } from "./te-data.ts";

const ground: HostGround = {
  hostId: "11111111-2222-4333-8444-555555555555",
  macKey: "a",
  disksFolder: "/s/te/disks",
  consolesFolder: "/s/te/consoles",
  socketsFolder: "/run/c",
  mtu: 1500,
  testBridge: "br-ctlplane",
  seedIp: (number) => `10.99.0.${10 + number}`,
};
const kind = kindSchema.parse({ machines: { count: 2, memoryMiB: 300, diskGiB: 4 } });
const parts = partsOf(ground, 3, "two", kind);

test("H-1.7 a seed with two NICs, machines on the private bridge alone, disks one GiB larger", () => {
  expect(parts.seed.spec.nics.map((nic) => [nic.bridge, nic.tap])).toEqual([
    ["br-ctlplane", "te3s0"],
    ["brbm3", "te3s1"],
  ]);
  expect(parts.machines.map(({ spec }) => [spec.name, spec.nics[0]?.tap, spec.boot[0]])).toEqual([
    ["baremetalbrbm3_0", "te3n0p0", "network"],
    ["baremetalbrbm3_1", "te3n1p0", "network"],
  ]);
  expect(parts.all.map(({ disk }) => disk.sizeBytes)).toEqual(Array(3).fill(5 * 1024 ** 3));
  expect(parts.seed.spec.boot[0]).toBe("hd");
});

test("te-host §0 names, UUIDs and MACs are fixed for ever, and different on every host", () => {
  expect(partsOf(ground, 3, "two", kind)).toEqual(parts);
  const elsewhere = partsOf(
    { ...ground, hostId: "21111111-2222-4333-8444-555555555555", macKey: "b" },
    3,
    "two",
    kind,
  );
  const ids = (all: typeof parts): string[] =>
    all.all.flatMap(({ spec }) => [spec.uuid, ...spec.nics.map((nic) => nic.mac)]);
  const both = [...ids(parts), ...ids(elsewhere)];
  expect(new Set(both).size).toBe(both.length);
});

test("H-2.6 a seed's rule opens exactly the holder's addresses", () => {
  expect(seedRule(parts, ["10.99.0.181", "10.99.0.180"])).toEqual({
    kind: "seed",
    tap: "te3s0",
    mac: parts.seed.spec.nics[0]?.mac,
    ip: "10.99.0.13",
    open: ["10.99.0.180", "10.99.0.181"],
  });
});

test("H-6.1 an own account and uid for each TE", () => {
  expect(gateAccount(3, { home: "/h", shell: "/s" })).toEqual({
    name: "te3",
    uid: 62_003,
    home: "/h",
    shell: "/s",
  });
});

const data = (port = 22) =>
  buildTeData({
    parts,
    hostIp: "10.99.0.1",
    hostName: "here",
    mtu: 1500,
    ssh: {
      user: "te3",
      port,
      privateKey: "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\n",
      hostKey: "ssh-ed25519 AAAA",
    },
    lease: { id: "l", epoch: 412, expiresAt: "2030-01-01T00:00:00.000Z" },
  });

test("H-12.1 TE data: old keys are strings in a stable order, nodes pairwise different", () => {
  const made = data();
  expect(testenvDataSchema.parse(made)).toEqual(made);
  expect(Object.keys(made)).toEqual([
    "arch",
    "host-ip",
    "power_manager",
    "seed-ip",
    "ssh-key",
    "ssh-user",
    "ssh-host-key",
    "env-num",
    "remote-operations",
    "remote-host",
    "seed-route-dev",
    "nodes",
    "schema",
    "lease",
    "seed",
    "networks",
  ]);
  expect(made).toMatchObject({ "env-num": "3", "remote-operations": "1", "seed-ip": "10.99.0.13" });
  const old = Object.entries(made).filter(([, value]) => typeof value !== "object");
  expect(old.every(([, value]) => typeof value === "string")).toBe(true);
  expect(new Set(made.nodes.map((node) => JSON.stringify(node))).size).toBe(2);
  expect(made["host-ip"]).toMatch(/^[A-Za-z0-9/.:-]*$/);
  expect(made["ssh-user"]).toMatch(/^[A-Za-z0-9_-]+$/);
});

test("H-12.2 compat 2014: pxe_ssh with the gate's account and key; no BMC's keys", () => {
  const [node] = data().nodes;
  expect(node).toMatchObject({
    pm_type: "pxe_ssh",
    pm_addr: "10.99.0.1",
    pm_user: "te3",
    pm_password: data()["ssh-key"],
    memory: "300",
    disk: "4",
    cpu: "1",
  });
  expect(node).not.toHaveProperty("ipmi");
  expect(node).not.toHaveProperty("pm_system_id");
});

test("H-6.1 another port than 22 is told", () => {
  expect(data()).not.toHaveProperty("ssh-port");
  expect(data(2022)).toMatchObject({ "ssh-port": "2022" });
});

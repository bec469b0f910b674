/** H-2.2, H-15.5: dnsmasq's configuration, reservations, leases and log. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AssertionError } from "../base/assert.ts";
import {
  dnsmasqConfig,
  readReservations,
  removeReservation,
  writeReservation,
} from "./dnsmasq-config.ts";
import { parseAck, parseLeases } from "./dnsmasq-leases.ts";

test("H-15.5 configuration, whole; H-2.7 MTU in option 26", () => {
  expect(
    dnsmasqConfig({
      interface: "br-ctlplane",
      cidr: "10.99.4.0/24",
      mtu: 1_450,
      reservations: "/s/te/cell/reservations",
      leaseFile: "/s/te/cell/run/dhcp.leases",
    }),
  ).toMatchInlineSnapshot(`
    "keep-in-foreground
    log-facility=-
    user=root
    pid-file=
    interface=br-ctlplane
    except-interface=lo
    bind-interfaces
    port=0
    no-hosts
    no-resolv
    no-ping
    dhcp-authoritative
    dhcp-ignore-clid
    dhcp-range=10.99.4.0,static,255.255.255.0,1h
    dhcp-option=option:router
    dhcp-option=option:mtu,1450
    dhcp-hostsdir=/s/te/cell/reservations
    dhcp-leasefile=/s/te/cell/run/dhcp.leases
    log-dhcp
    "
  `);
});

test("H-2.2 a reservation is one file, whole or not there; writing it again changes nothing", async () => {
  const directory = await mkdtemp(join(tmpdir(), "reservations-"));
  const it = { mac: "00:11:22:33:44:55", ip: "10.99.4.11", name: "te1-seed" };
  expect(await writeReservation(directory, it)).toBe(true);
  expect(await writeReservation(directory, it)).toBe(false);
  expect(await readdir(directory)).toEqual(["001122334455"]);
  expect(await readFile(join(directory, "001122334455"), "utf8")).toBe(
    "00:11:22:33:44:55,10.99.4.11,te1-seed\n",
  );
  expect(await writeReservation(directory, { ...it, ip: "10.99.4.12" })).toBe(true);
  expect(await readReservations(directory)).toEqual([{ ...it, ip: "10.99.4.12" }]);
  // the same address under another MAC: the old reservation goes
  const heir = { ...it, mac: "00:66:77:88:99:aa", ip: "10.99.4.12" };
  expect(await writeReservation(directory, heir)).toBe(true);
  expect(await readReservations(directory)).toEqual([heir]);
  await writeReservation(directory, it);
  expect(await removeReservation(directory, it.mac)).toBe(true);
  expect(await removeReservation(directory, it.mac)).toBe(false);
  await rm(directory, { recursive: true });
});

test.each([
  [{ mac: "00:11:22:33:44:55\n", ip: "10.99.4.11", name: "a" }],
  [{ mac: "00:11:22:33:44:55", ip: "10.99.4.11,x", name: "a" }],
  [{ mac: "00:11:22:33:44:55", ip: "10.99.4.11", name: "a_b" }],
])("a reservation that would be another line asserts: %j", async (it) => {
  await expect(writeReservation("/nowhere", it)).rejects.toThrow(AssertionError);
});

test("leases as dnsmasq 2.90 writes them, IPv6 ones left out", () => {
  const text = [
    "1795512668 00:11:22:33:44:55 10.99.0.11 te1-seed 01:00:11:22:33:44:55",
    "1795512668 00:11:22:33:44:56 10.99.0.180 * *",
    "duid 00:01:00:01:2e",
    "1795512668 1234 fd00::1 * 00:01",
  ].join("\n");
  expect(parseLeases(text)).toEqual([
    { mac: "00:11:22:33:44:55", ip: "10.99.0.11" },
    { mac: "00:11:22:33:44:56", ip: "10.99.0.180" },
  ]);
  expect(parseLeases("")).toEqual([]);
});

test.each([
  [
    "dnsmasq-dhcp[22931]: 1366152464 DHCPACK(br-ctlplane) 10.99.0.11 00:11:22:33:44:55 te1-seed",
    { mac: "00:11:22:33:44:55", ip: "10.99.0.11" },
  ],
  [
    "dnsmasq-dhcp[1]: 7 DHCPACK(br-ctlplane) 10.99.0.11 00:11:22:33:44:55",
    { mac: "00:11:22:33:44:55", ip: "10.99.0.11" },
  ],
  [
    "dnsmasq-dhcp[1]: 7 vendor class: x DHCPACK(br-ctlplane) 10.99.0.11 00:11:22:33:44:55",
    undefined,
  ],
  [
    "dnsmasq-dhcp[1]: 7 client provides name: DHCPACK(br-ctlplane) 10.99.0.11 00:11:22:33:44:55",
    undefined,
  ],
  ["dnsmasq-dhcp[1]: 7 DHCPOFFER(br-ctlplane) 10.99.0.11 00:11:22:33:44:55", undefined],
])("an acknowledgement in the log: %s", (line, ack) => {
  expect(parseAck(line)).toEqual(ack);
});

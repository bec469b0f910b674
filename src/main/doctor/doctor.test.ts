/** The doctor's looks: what they read, and that every row of this machine says why and how. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { bootId } from "../../hypervisor/cell-record.ts";
import { parseInstalled, parsePackageTable, readPackageTable } from "../debian-packages.ts";
import { doctorRows, isFit } from "../doctor.ts";
import { freeTestNetwork, parseRoutes } from "./network.ts";

test("H-15.3 the package table asks for x86 emulators alone", async () => {
  const table = await readPackageTable();
  expect(new Set(table.map(({ set }) => set))).toEqual(
    new Set(["bootstrap", "server", "host", "peers", "browser"]),
  );
  const emulators = table.filter(({ name }) => name.startsWith("qemu-system"));
  expect(emulators.map(({ name }) => name)).toEqual(["qemu-system-x86"]);
  const keys = table.map(({ set, name }) => `${set} ${name}`);
  expect(new Set(keys).size).toBe(keys.length);
});

test("the package table is read line by line, dpkg's list by status", () => {
  const text = "# sets\nhost git fetches things\n\nserver curl why not\n";
  expect(parsePackageTable(text)).toEqual([
    { set: "host", name: "git", why: "fetches things" },
    { set: "server", name: "curl", why: "why not" },
  ]);
  expect(() => parsePackageTable("host git\n")).toThrow("set package why");
  expect([...parseInstalled("installed git\nconfig-files old\ninstalled curl\n")]).toEqual([
    "git",
    "curl",
  ]);
});

const routes = (...lines: string[]): string =>
  ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU", ...lines].join("\n");
const route = (destination: string, mask: string): string =>
  `eth0\t${destination}\t00000000\t0001\t0\t0\t0\t${mask}\t0\t0\t0`;

test.each([
  ["no route", routes(), "10.99.0.0/24"],
  ["the default route covers nothing", routes(route("00000000", "00000000")), "10.99.0.0/24"],
  ["a /24 that is taken", routes(route("0000630A", "00FFFFFF")), "10.99.1.0/24"],
  ["a host route inside", routes(route("0200630A", "FFFFFFFF")), "10.99.1.0/24"],
  ["10.99.0.0/17", routes(route("0000630A", "0080FFFF")), "10.99.128.0/24"],
  ["10.0.0.0/8", routes(route("0000000A", "000000FF")), undefined],
  ["172.16.0.0/12", routes(route("000010AC", "0000F0FF")), "10.99.0.0/24"],
])("H-2.2 the first free test network: %s", (_what, text, expected) => {
  expect(freeTestNetwork(parseRoutes(text))).toBe(expected);
});

test("H-1.13 each row says what was found, why it matters and, if not ok, what cures it", async () => {
  const rows = await doctorRows({
    state: "/nonexistent/state",
    listen: ["127.0.0.1:0"],
  });
  expect(rows.length).toBeGreaterThan(10);
  for (const row of rows) {
    expect(row.detail).not.toBe("");
    expect(row.why).not.toBe("");
    expect(row.state === "ok" ? row.cure : "").toBe(row.state === "ok" ? null : "");
  }
  expect(rows.find(({ name }) => name === "node")).toMatchObject({ state: "ok", cure: null });
});

test("H-15.4 KVM is what a guest showed in this boot of the machine, not what the device says", async () => {
  const state = mkdtempSync(join(tmpdir(), "doctor-"));
  const kvm = async (answer: object) => {
    mkdirSync(join(state, "te"), { recursive: true });
    writeFileSync(join(state, "te/kvm-probe.json"), JSON.stringify(answer));
    return (await doctorRows({ state, listen: [] })).find(({ name }) => name === "kvm");
  };
  const now = { bootId: await bootId(), qemu: "7.2" };
  const good = { ...now, usable: true, reason: "a guest booted" };
  expect(await kvm(good)).toMatchObject({ state: "ok", detail: "a guest booted", cure: null });
  const bad = { ...now, usable: false, reason: "the guest hangs" };
  expect(await kvm(bad)).toMatchObject({ state: "warn", detail: "the guest hangs" });
  const old = await kvm({ ...good, bootId: "another boot" });
  expect(old?.state).toBe("warn");
  expect(old?.detail).toContain("/dev/kvm");
  rmSync(state, { recursive: true });
});

test("only what is missing makes a machine unfit", () => {
  const row = { name: "a", detail: "b", why: "c", cure: null };
  expect(
    isFit([
      { ...row, state: "ok" },
      { ...row, state: "warn" },
    ]),
  ).toBe(true);
  expect(isFit([{ ...row, state: "missing" }])).toBe(false);
});

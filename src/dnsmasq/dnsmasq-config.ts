/**
 * dnsmasq as DHCP server of the test network (H-15.5): its configuration, and a directory with a
 * file per reservation, which it reads when one appears. Only reserved addresses are given, so
 * that an address is known before its machine boots (H-2.2).
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../base/assert.ts";
import { readTextIfAny } from "../base/files.ts";

export type DnsmasqSettings = {
  readonly interface: string;
  /** `10.99.0.0/24`. */
  readonly cidr: string;
  readonly mtu: number;
  readonly reservations: string;
  readonly leaseFile: string;
};

/** The configuration file's text. It stays in the foreground and logs to stderr. */
export function dnsmasqConfig(settings: DnsmasqSettings): string {
  const network = settings.cidr.replace(/\/24$/, "");
  return `${[
    "keep-in-foreground",
    "log-facility=-",
    "user=root",
    "pid-file=",
    `interface=${settings.interface}`,
    "except-interface=lo",
    "bind-interfaces",
    "port=0",
    "no-hosts",
    "no-resolv",
    // It would ping each address for 3 s before it offers it.
    "no-ping",
    "dhcp-authoritative",
    // A client is who its MAC says; an identifier in the payload could be another's.
    "dhcp-ignore-clid",
    `dhcp-range=${network},static,255.255.255.0,1h`,
    // No way out of the test network, so no default route: what is not here fails at once.
    "dhcp-option=option:router",
    `dhcp-option=option:mtu,${settings.mtu}`,
    `dhcp-hostsdir=${settings.reservations}`,
    `dhcp-leasefile=${settings.leaseFile}`,
    "log-dhcp",
  ].join("\n")}\n`;
}

export type Reservation = { readonly mac: string; readonly ip: string; readonly name: string };

const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/;
const IP = /^\d{1,3}(?:\.\d{1,3}){3}$/;
const HOST_NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

const fileOf = (mac: string): string => mac.replaceAll(":", "");

/** Writes a reservation whole; false: it was there already. */
export async function writeReservation(directory: string, it: Reservation): Promise<boolean> {
  assert(MAC.test(it.mac) && IP.test(it.ip), `no reservation of ${it.ip} for ${it.mac}`);
  assert(HOST_NAME.test(it.name), `not a host name: ${it.name}`);
  const text = `${it.mac},${it.ip},${it.name}\n`;
  const path = join(directory, fileOf(it.mac));
  if ((await readTextIfAny(path)) === text) return false;
  await mkdir(directory, { recursive: true });
  // One that had the address before, under a MAC of another key: two of them make dnsmasq give
  // it to neither.
  for (const other of await readReservations(directory)) {
    if (other.ip === it.ip && other.mac !== it.mac) await removeReservation(directory, other.mac);
  }
  // A name with a dot in front is none of dnsmasq's files; the rename tells it of the new one.
  const aside = join(directory, `.${fileOf(it.mac)}`);
  await writeFile(aside, text);
  await rename(aside, path);
  return true;
}

/** False: there was none. dnsmasq forgets it when it gets SIGHUP. */
export async function removeReservation(directory: string, mac: string): Promise<boolean> {
  assert(MAC.test(mac), `not a MAC address: ${mac}`);
  const path = join(directory, fileOf(mac));
  if ((await readTextIfAny(path)) === undefined) return false;
  await rm(path);
  return true;
}

export async function readReservations(directory: string): Promise<Reservation[]> {
  const names = await readdir(directory).catch((): string[] => []);
  const texts = await Promise.all(
    names
      .filter((name) => !name.startsWith("."))
      .map((name) => readFile(join(directory, name), "utf8")),
  );
  return texts.map((text) => {
    const [mac = "", ip = "", name = ""] = text.trim().split(",");
    return { mac, ip, name };
  });
}

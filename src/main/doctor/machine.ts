/**
 * The doctor's looks at the machine itself: Node, system, root, memory, disk. What they need is
 * sized for the default: one rack of the kind `two` and one CI node.
 */
import { statfs } from "node:fs/promises";
import { arch, platform } from "node:os";
import { nearestExisting, readTextIfAny } from "../../base/files.ts";
import { row } from "./row.ts";
import type { DoctorContext, Row } from "./row.ts";

/** A seed and two machines of 256 MiB, a node of 512, 128 MiB overhead each, 2 GiB for the rest. */
const leastMemoryMiB = 3_840;
/** Images, a node's and a rack's overlays: below it nothing works, below good not for long. */
const leastDiskGiB = 5;
const goodDiskGiB = 20;

export async function nodeRow(): Promise<Row> {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const state = major > 24 || (major === 24 && minor >= 18) ? "ok" : "missing";
  const detail = `${process.versions.node} at ${process.execPath}`;
  const why = "Rackyard runs on Node 24.18 or newer";
  return row("node", state, detail, why, "start it by ./rackyard, which brings its own");
}

export async function systemRow(): Promise<Row> {
  const release = (await readTextIfAny("/etc/os-release")) ?? "";
  const value = (key: string): string | undefined =>
    new RegExp(`^${key}="?([^"\n]*)"?$`, "m").exec(release)?.[1];
  const name = value("PRETTY_NAME") ?? platform();
  const known = value("ID") === "debian" && value("VERSION_ID") === "12" && arch() === "x64";
  const why = "racks are tried on Debian 12, x86_64; clients run anywhere";
  const cure = "use a Debian 12 machine for the racks";
  return row("system", known ? "ok" : "warn", `${name}, ${arch()}`, why, cure);
}

export async function rootRow(): Promise<Row> {
  const isRoot = process.getuid?.() === 0;
  const why = "te-host and up make namespaces, bridges and taps";
  return row("root", isRoot ? "ok" : "warn", isRoot ? "yes" : "no", why, "sudo ./rackyard up");
}

export async function memoryRow(): Promise<Row> {
  const text = (await readTextIfAny("/proc/meminfo")) ?? "";
  const mib = (key: string): number =>
    Math.floor(Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1024);
  const total = mib("MemTotal");
  const available = mib("MemAvailable");
  const detail = `${total} MiB, ${available} MiB of it available`;
  const why = `one rack of the default kind and one node need ${leastMemoryMiB} MiB in all`;
  if (total < leastMemoryMiB) {
    return row("memory", "missing", detail, why, "use a machine with more memory");
  }
  const enough = available >= leastMemoryMiB - 2_048;
  return row("memory", enough ? "ok" : "warn", detail, why, "end what takes the memory");
}

export async function diskRow(context: DoctorContext): Promise<Row> {
  const place = await nearestExisting(context.state);
  const { bavail, bsize, files, ffree } = await statfs(place);
  const gib = Math.floor((bavail * bsize) / 2 ** 30);
  const inodes = files === 0 ? "" : `, ${ffree} inodes`;
  const detail = `${gib} GiB free at ${place}${inodes}`;
  const why = "images, overlays, logs and archives lie in the state directory";
  const cure = `make room there, or choose another place with --state`;
  const scarce = files > 0 && ffree < 10_000;
  if (gib < leastDiskGiB || scarce) return row("disk", "missing", detail, why, cure);
  return row("disk", gib < goodDiskGiB ? "warn" : "ok", detail, why, cure);
}

/**
 * The doctor's looks at Debian packages: what of the table is missing, and what makes libvirt slow.
 */
import { installedPackages, readPackageTable } from "../debian-packages.ts";
import { row } from "./row.ts";
import type { DoctorContext, Row } from "./row.ts";

/** Packages that bring emulators of other architectures; libvirtd asks each one at its start. */
const otherEmulators = /^qemu-system-(?!x86$|common$|data$|gui$|modules-|xen$)/;

export async function packagesRow(set: "server" | "host", context: DoctorContext): Promise<Row> {
  const name = `${set} packages`;
  const wanted = (await readPackageTable()).filter((entry) => entry.set === set);
  const installed = await installedPackages(context.signal);
  const why =
    set === "server"
      ? "review system, merger and executor use git and ssh"
      : "racks and nodes are made of QEMU, libvirt, Open vSwitch and tools that build images";
  if (!installed) return row(name, "missing", "no dpkg on this machine", why, "use a Debian 12");
  const missing = wanted.filter((entry) => !installed.has(entry.name));
  if (missing.length === 0) return row(name, "ok", `all ${wanted.length} are installed`, why, null);
  const detail = missing.map((entry) => `${entry.name} (${entry.why})`).join(", ");
  // ./rackyard keeps the services of what it installs from starting; apt-get alone would not.
  return row(name, "missing", detail, why, `sudo ./rackyard --install ${set}`);
}

export async function emulatorsRow(context: DoctorContext): Promise<Row> {
  const installed = (await installedPackages(context.signal)) ?? new Set<string>();
  const others = [...installed].filter((name) => otherEmulators.test(name)).toSorted();
  const why = "libvirtd asks every emulator what it can do when it first starts: 29 take 54 s";
  const detail = others.length === 0 ? "none but x86" : others.join(", ");
  const cure = `sudo apt-get remove ${others.join(" ")}`;
  return row("emulators", others.length === 0 ? "ok" : "warn", detail, why, cure);
}

/**
 * The four daemons every cell has and how each is started (te-host.md §15): in the foreground,
 * talking to stderr. What must be there before a start is made by its `prepare`.
 */
import { chmod, mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../base/command.ts";
import { writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { dnsmasqConfig } from "../dnsmasq/dnsmasq-config.ts";
import type { DnsmasqSettings } from "../dnsmasq/dnsmasq-config.ts";
import { libvirtdConf, libvirtQemuConf } from "../libvirt/daemon-config.ts";
import { qemuAccount } from "./etc/accounts.ts";
import type { CellPlaces } from "./cell-paths.ts";
import type { DaemonSpec } from "./hypervisor-port.ts";

/** Inside of the cell, where they are bound to its own directories. */
export const SWITCH_DATABASE = "unix:/run/openvswitch/db.sock";
export const LIBVIRT_URI = "qemu:///system";

export function ovsdbServer(places: CellPlaces): DaemonSpec {
  const database = "/run/openvswitch/conf.db";
  return {
    name: "ovsdb-server",
    program: "/usr/sbin/ovsdb-server",
    args: [
      database,
      "--remote=punix:/run/openvswitch/db.sock",
      "--unixctl=/run/openvswitch/ovsdb-server.ctl",
      "-vsyslog:off",
    ],
    async prepare() {
      const there = await stat(database).catch(() => undefined);
      if (there) return;
      const schema = "/usr/share/openvswitch/vswitch.ovsschema";
      await run("ovsdb-tool", ["create", database, schema]);
    },
    // The offload setting must stand before ovs-vswitchd starts, or guests' TCP dies (H-15.2).
    ready() {
      const database = [`--db=${SWITCH_DATABASE}`, "--timeout=2", "--no-wait"];
      const settings = [`external_ids:system-id=${places.id}`, offload];
      return succeeds("ovs-vsctl", [...database, "init", "--", ...setSwitch, ...settings]);
    },
  };
}

const setSwitch = ["set", "Open_vSwitch", "."];
const offload = "other_config:userspace-tso-enable=true";

export function ovsVswitchd(): DaemonSpec {
  const control = "/run/openvswitch/ovs-vswitchd.ctl";
  return {
    name: "ovs-vswitchd",
    program: "/usr/sbin/ovs-vswitchd",
    args: [SWITCH_DATABASE, `--unixctl=${control}`, "-vsyslog:off"],
    // Without its database it spins and forwards nothing, and is slow to find the new one.
    with: ["ovsdb-server"],
    // A change of the database is told as done when ovs-vswitchd has made all of it true.
    ready: () => {
      const now = `external_ids:rackyard-seen=${Date.now()}`;
      const database = [`--db=${SWITCH_DATABASE}`, "--timeout=3"];
      return succeeds("ovs-vsctl", [...database, ...setSwitch, now]);
    },
  };
}

export function dnsmasq(places: CellPlaces, settings: DnsmasqSettings): DaemonSpec {
  const path = join(places.runtime, "dnsmasq.conf");
  return {
    name: "dnsmasq",
    program: "/usr/sbin/dnsmasq",
    args: ["-C", path],
    async prepare() {
      await mkdir(settings.reservations, { recursive: true });
      await writeFileAtomic(path, dnsmasqConfig(settings));
    },
    // Its log tells of leases; the port of DHCP servers is open once it serves.
    ready: async () => / [0-9A-F]{8}:0043 /.test(await readFile("/proc/self/net/udp", "utf8")),
  };
}

/**
 * libvirtd under tini, which adopts and reaps dead guests where process 1 is slow (H-15.3). tini
 * must outlive libvirtd, or its guests go to process 1 after all: so a loop stands between them.
 * Node cannot be such a reaper, hence these few words of shell; nothing from outside is in them.
 */
export function libvirtd(places: CellPlaces): DaemonSpec {
  const pidFile = join(places.runtime, "libvirtd.pid");
  const loop = 'until "$@"; do sleep 0.2; done';
  const program = ["/usr/sbin/libvirtd", "-f", "/etc/libvirt/libvirtd.conf", "-p", pidFile];
  return {
    name: "libvirtd",
    program: "/usr/bin/tini",
    args: ["-s", "--", "/bin/sh", "-c", loop, "libvirtd", ...program],
    worker: { pidFile, executable: "libvirtd" },
    async prepare() {
      // libvirt gives it to QEMU's account; left to itself it would be open for reading.
      await mkdir("/var/lib/libvirt/qemu", { recursive: true });
      await chmod("/var/lib/libvirt/qemu", 0o700);
      await writeFileAtomic("/etc/libvirt/qemu.conf", libvirtQemuConf(qemuAccount.name));
      await writeFileAtomic("/etc/libvirt/libvirtd.conf", libvirtdConf);
    },
    ready: () => succeeds("virsh", ["-q", "-c", LIBVIRT_URI, "version"]),
  };
}

async function succeeds(program: string, args: readonly string[]): Promise<boolean> {
  const { exitCode } = await run(program, args, { accept: "any", timeoutMs: limits.daemonReadyMs });
  return exitCode === 0;
}

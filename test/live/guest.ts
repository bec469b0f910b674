/**
 * The small guest of live tests: Debian's cloud kernel, unpacked and not installed, with an
 * initramfs of busybox (te-host.md H-7.8). One image serves seeds and machines: by its SMBIOS
 * serial number it knows what it is. It prints `@rackyard up`, and does what a line on TCP port
 * 2323 says. Made once and kept under /var/cache/rackyard-test.
 */
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import { run } from "../../src/base/command.ts";
import { sha256Hex } from "../../src/base/ids.ts";

const cache = "/var/cache/rackyard-test";

export type Guest = {
  readonly kernel: string;
  readonly initrd: string;
  /** A raw disk that boots the same by BIOS. */
  readonly disk: string;
};

export const guestMark = "@rackyard up";
const commandPort = 2_323;

const modules = [
  "drivers/virtio/virtio_ring",
  "drivers/virtio/virtio",
  "drivers/virtio/virtio_pci_legacy_dev",
  "drivers/virtio/virtio_pci_modern_dev",
  "drivers/virtio/virtio_pci",
  "net/core/failover",
  "drivers/net/net_failover",
  "drivers/net/virtio_net",
  "drivers/block/virtio_blk",
];

const init = `#!/bin/sh
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev
for m in ${modules.map((path) => path.split("/").at(-1)).join(" ")}; do
  [ -f /modules/$m.ko ] && insmod /modules/$m.ko
done
ip link set lo up
serial=$(cat /sys/class/dmi/id/product_serial)
for n in eth0 eth1; do [ ! -e /sys/class/net/$n ] || ip link set $n up; done
case $serial in
  *-seed) ip addr add 10.50.0.1/24 dev eth1 ;;
  *-n[0-9]*) ip addr add 10.50.0.$((20 + \${serial##*-n}))/24 dev eth0 ;;
esac
case $serial in
  *-n[0-9]*) ;;
  *) [ ! -e /sys/class/net/eth0 ] || udhcpc -i eth0 -s /lease -t 30 -T 1 -q -f ;;
esac
nc -ll -p ${commandPort} -e /obey &
echo "I am $serial"
echo "${guestMark}" >/dev/console
while :; do sleep 3600; done
`;

const lease = `#!/bin/sh
[ "$1" != bound ] || ip addr add $ip/24 dev $interface
`;

const obey = `#!/bin/sh
export PATH=/bin
read -r line; eval "$line" 2>&1
`;

const bootLoader = `SERIAL 0 115200
DEFAULT l
PROMPT 0
LABEL l
 KERNEL vmlinuz
 INITRD initrd
 APPEND console=ttyS0 quiet panic=1
`;

/** The guest, made if this recipe was not made before. */
export async function prepareGuest(): Promise<Guest> {
  const { version, root } = await kernelRoot();
  const id = sha256Hex([version, init, lease, obey, bootLoader].join("\0")).slice(0, 12);
  const directory = join(cache, `guest-${id}`);
  const guest = {
    kernel: join(directory, "vmlinuz"),
    initrd: join(directory, "initrd"),
    disk: join(directory, "disk.img"),
  };
  if ((await names(directory)).length > 0) {
    await chmod(directory, 0o755); // QEMU's account reads the disk
    return guest;
  }
  const aside = await mkdtemp(join(cache, "new-"));
  await copyFile(join(root, "boot", `vmlinuz-${version}`), join(aside, "vmlinuz"));
  await makeInitramfs(aside, join(root, "lib/modules", version, "kernel"));
  await makeDisk(aside);
  await chmod(aside, 0o755);
  await finish(aside, directory);
  return guest;
}

/** Debian's cloud kernel, unpacked. */
async function kernelRoot(): Promise<{ version: string; root: string }> {
  const root = join(cache, "kernel");
  if ((await names(root)).length === 0) {
    await mkdir(cache, { recursive: true });
    const aside = await mkdtemp(join(cache, "new-"));
    const found = await kernelPackage().catch(() => undefined);
    if (found === undefined) await run("apt-get", ["-qq", "update"], { timeoutMs: 300_000 });
    const name = found ?? (await kernelPackage());
    const download = ["-qq", "-o", "APT::Sandbox::User=root", "download", name];
    await run("apt-get", download, { cwd: aside, timeoutMs: 300_000 });
    const [deb = ""] = (await names(aside)).filter((file) => file.endsWith(".deb"));
    await run("dpkg", ["-x", join(aside, deb), join(aside, "root")], { timeoutMs: 120_000 });
    await finish(join(aside, "root"), root);
    await rm(aside, { recursive: true, force: true });
  }
  const [version = ""] = await names(join(root, "lib/modules"));
  return { version, root };
}

async function kernelPackage(): Promise<string> {
  const { stdout } = await run("apt-cache", ["depends", "linux-image-cloud-amd64"]);
  const name = /Depends: (\S+)/.exec(stdout)?.[1];
  if (name === undefined) throw new Error("no cloud kernel in the package lists");
  return name;
}

async function makeInitramfs(directory: string, kernelModules: string): Promise<void> {
  const root = join(directory, "root");
  for (const path of ["bin", "proc", "sys", "dev", "modules"]) {
    await mkdir(join(root, path), { recursive: true });
  }
  await copyFile("/bin/busybox", join(root, "bin/busybox"));
  const { stdout } = await run("busybox", ["--list"]);
  for (const applet of stdout.split("\n").filter((it) => it !== "" && it !== "busybox")) {
    await symlink("busybox", join(root, "bin", applet));
  }
  for (const path of modules) {
    const file = `${path.split("/").at(-1)}.ko`;
    // A module that the kernel has built in has no file.
    await copyFile(join(kernelModules, `${path}.ko`), join(root, "modules", file)).catch(
      () => undefined,
    );
  }
  for (const [name, text] of Object.entries({ init, lease, obey })) {
    await writeFile(join(root, name), text, { mode: 0o755 });
  }
  const all = await readdir(root, { recursive: true });
  const archive = join(directory, "initrd");
  const cpio = ["-o", "-H", "newc", "--quiet", "-R", "0:0", "-F", archive];
  await run("cpio", cpio, { cwd: root, stdin: `.\n${all.join("\n")}\n` });
  await run("gzip", ["-1", archive]);
  await rename(`${archive}.gz`, archive);
  await rm(root, { recursive: true });
}

async function makeDisk(directory: string): Promise<void> {
  const disk = join(directory, "disk.img");
  const config = join(directory, "syslinux.cfg");
  await writeFile(config, bootLoader);
  await run("truncate", ["-s", "48M", disk]);
  await run("mkfs.vfat", ["-n", "GUEST", disk]);
  for (const name of ["vmlinuz", "initrd", "syslinux.cfg"]) {
    await run("mcopy", ["-i", disk, join(directory, name), `::${name}`]);
  }
  await run("syslinux", ["--install", disk]);
}

/** Renames a finished directory into place; another run that was first has made the same. */
async function finish(aside: string, directory: string): Promise<void> {
  await rename(aside, directory).catch(async (error: unknown) => {
    if ((await names(directory)).length === 0) throw error;
    await rm(aside, { recursive: true, force: true });
  });
}

async function names(directory: string): Promise<string[]> {
  return readdir(directory).catch((): string[] => []);
}

/** Lets a guest run a line of shell; what it prints. Rejects when there is no answer in time. */
export async function obeyed(ip: string, line: string, timeoutMs = 10_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({
      host: ip,
      port: commandPort,
      allowHalfOpen: true,
      timeout: timeoutMs,
    });
    const chunks: Buffer[] = [];
    socket.on("timeout", () => socket.destroy(new Error(`${ip} does not answer`)));
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("error", reject);
    socket.on("end", () => {
      socket.end();
      resolve(Buffer.concat(chunks).toString("utf8"));
    });
    socket.write(`${line}\n`);
  });
}

/** The line for a seed that lets a machine behind it run `line`. */
export function through(innerIp: string, line: string): string {
  return `echo ${JSON.stringify(line)} | nc -w 3 ${innerIp} ${commandPort}`;
}

/**
 * The cell's mount namespace (surface.md §9): libvirt's directories, an /etc and a /run of
 * its own over the machine's. A sleeping process, the keeper, holds it; all steps are done by
 * `mount` inside, and a marker written last says that they are whole.
 */
import { chmod, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { launch, run } from "../base/command.ts";
import { processStart, writeFileAtomic } from "../base/files.ts";
import { present } from "../base/assert.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import { insideRun, MACHINE_RUN } from "./cell-paths.ts";
import type { CellPlaces } from "./cell-paths.ts";
import { openAccounts, qemuAccount } from "./etc/accounts.ts";
import { guestFolders, guestMount } from "./guest-files.ts";
import { executableOf, netnsInode, netnsOf } from "./process-scan.ts";

/** Does this process live in the cell's namespaces, with all mounts made? */
export async function isWhole(places: CellPlaces, pid: number): Promise<boolean> {
  if (netnsOf(pid) !== netnsInode(places.netns)) return false;
  const marker = await readFile(`/proc/${pid}/root${insideRun.marker}`, "utf8").catch(() => "");
  return marker.trim() === markOf(places);
}

/** A cell that another version of the mounts has made is none of ours: it is made anew. */
const markOf = (places: CellPlaces): string => `${places.id} 3`;

/**
 * Starts a keeper: in a new mount namespace, or in that of `member`. `ip netns exec` gives it
 * the /sys of its network namespace.
 */
export async function startKeeper(places: CellPlaces, member?: number): Promise<number> {
  const sleep = ["sleep", "infinity"];
  const [program, args] =
    member === undefined
      ? ([
          "ip",
          ["netns", "exec", places.netns, "unshare", "-m", "--propagation", "private"],
        ] as const)
      : (["nsenter", ["-t", String(member), "-m", "-n"]] as const);
  const child = launch(program, [...args, ...sleep], { stdio: "ignore", daemon: true });
  await until(() => executableOf(child.pid) === "sleep", {
    timeoutMs: limits.commandMs,
    everyMs: 5,
    what: "the cell's keeper",
  });
  const start = present(await processStart(child.pid), "the keeper's start");
  await writeFileAtomic(places.keeperPid, `${child.pid} ${start}\n`);
  return child.pid;
}

/** Makes all mounts in the keeper's namespace; `state` is the state directory. */
export async function makeMounts(state: string, places: CellPlaces, keeper: number): Promise<void> {
  const inside = (...words: string[]): Promise<unknown> =>
    run("nsenter", ["-t", String(keeper), "-m", "-n", "--", ...words]);
  const asKeeper = (path: string): string => `/proc/${keeper}/root${path}`;
  const bind = (from: string, to: string): Promise<unknown> =>
    inside("mount", "-n", "--bind", from, to);

  // The names of other cells are mounts, and a copy of them would keep those cells from ending.
  await inside("umount", "-R", "-l", "/run/netns").catch(() => undefined);

  const staging = join(places.directory, "new-run");
  await mkdir(staging, { recursive: true });
  await mkdir(MACHINE_RUN, { recursive: true });
  await inside("mount", "-n", "-t", "tmpfs", "-o", "mode=755,size=64m", "rackyard", staging);
  const directory = async (path: string): Promise<string> => {
    const at = join(staging, relative("/run", path));
    await mkdir(asKeeper(at), { recursive: true });
    await chmod(asKeeper(at), 0o755); // the umask does not decide
    return at;
  };
  for (const path of ["/run/lock", "/run/sshd", insideRun.gateBin, insideRun.gateKeys]) {
    await directory(path);
  }
  for (const path of ["/run/rackyard-gate", insideRun.consoles, insideRun.ownEtc]) {
    await directory(path);
  }
  await directory(insideRun.guests);
  for (const folder of guestFolders) {
    await bind(join(state, folder), await directory(guestMount(folder)));
  }
  // With what is mounted in it: a container's resolv.conf and hosts.
  await inside("mount", "-n", "--rbind", "/etc", await directory(insideRun.machineEtc));
  await bind(join(places.sockets, "libvirt"), await directory("/run/libvirt"));
  await bind(join(places.sockets, "openvswitch"), await directory("/run/openvswitch"));
  await bind(MACHINE_RUN, await directory(MACHINE_RUN));
  if (state.startsWith("/run/")) await bind(state, await directory(state));
  await inside("mount", "-n", "--move", staging, "/run");

  const [own, machine] = [asKeeper(insideRun.ownEtc), asKeeper(insideRun.machineEtc)];
  await openAccounts({ own, machine, linkBase: insideRun.machineEtc }).mend();
  await mkdir(join(own, "libvirt"), { recursive: true });
  await bind(insideRun.ownEtc, "/etc");

  for (const [name, at] of [
    ["etc", "/etc/libvirt"],
    ["lib", "/var/lib/libvirt"],
    ["cache", "/var/cache/libvirt"],
    ["log", "/var/log/libvirt"],
  ] as const) {
    if (await exists(at)) await bind(join(places.libvirt, name), at);
  }
  if (await exists("/dev/kvm")) await giveKvm(inside);
  await writeFile(asKeeper(insideRun.marker), `${markOf(places)}\n`);
}

/**
 * /dev/kvm as QEMU's account may open it, whatever the machine's own mode is. Where libvirtd sees
 * KVM and that account does not, it takes its cached capabilities for outdated and asks QEMU anew
 * at every definition and start: 10 s each.
 */
async function giveKvm(inside: (...words: string[]) => Promise<unknown>): Promise<void> {
  const [major, minor] = ["10", "232"]; // Documentation/admin-guide/devices.txt: misc, kvm
  await inside("mknod", "-m", "0660", insideRun.kvm, "c", major, minor);
  await inside("chown", `0:${qemuAccount.gid}`, insideRun.kvm);
  await inside("chmod", "0660", insideRun.kvm); // the umask does not decide
  await inside("mount", "-n", "--bind", insideRun.kvm, "/dev/kvm");
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

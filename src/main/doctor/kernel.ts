/**
 * The doctor's looks at the kernel: what a cell and its guests need of it. Each tries the thing
 * itself where it can, since a file that is there may not work.
 */
import { constants } from "node:fs";
import { access, open } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { run } from "../../base/command.ts";
import { describeError } from "../../base/errors.ts";
import { readTextIfAny } from "../../base/files.ts";
import { bootId } from "../../hypervisor/cell-record.ts";
import { row } from "./row.ts";
import type { DoctorContext, Row } from "./row.ts";

/** What the TE host keeps of its trial (src/hypervisor/kvm-probe.ts). */
const trialSchema = z.looseObject({
  bootId: z.string(),
  usable: z.boolean(),
  reason: z.string(),
});

/**
 * Only a guest that booted proves KVM (H-15.4); the TE host tries one when it first starts, and
 * its answer holds for this boot of the machine. Emulation works everywhere: this only warns.
 */
export async function emulationRow(context: DoctorContext): Promise<Row> {
  const why = "with KVM a rack boots in seconds; without it QEMU emulates, five times slower";
  const cure = "nothing has to be done; a machine with KVM would be faster";
  const text = await readTextIfAny(join(context.state, "te/kvm-probe.json"));
  const trial = text === undefined ? undefined : trialSchema.safeParse(JSON.parse(text)).data;
  if (trial && trial.bootId === (await bootId())) {
    return row("kvm", trial.usable ? "ok" : "warn", trial.reason, why, cure);
  }
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === "ENOENT";
    const reason = absent ? "there is no /dev/kvm" : "/dev/kvm is not ours to use";
    return row("kvm", "warn", `${reason}: machines are emulated`, why, cure);
  }
  const detail = "/dev/kvm opens; a TE host tries it by booting a guest when it first starts";
  return row("kvm", "warn", detail, why, cure);
}

export async function tapRow(): Promise<Row> {
  const why = "every machine of a rack has its network by a tap";
  const cure = "sudo modprobe tun";
  try {
    const device = await open("/dev/net/tun", "r+");
    await device.close();
    return row("tap", "ok", "/dev/net/tun opens", why, null);
  } catch (error) {
    const allowed = (error as NodeJS.ErrnoException).code === "EACCES";
    const detail = allowed ? "/dev/net/tun needs root" : describeError(error);
    return row("tap", allowed ? "warn" : "missing", detail, why, cure);
  }
}

export async function namespacesRow(context: DoctorContext): Promise<Row> {
  const why = "a TE host lives in a network and a mount namespace of its own";
  if (process.getuid?.() !== 0) {
    return row("namespaces", "warn", "only root can try", why, "sudo ./rackyard doctor");
  }
  const { exitCode, stderr } = await run("unshare", ["--net", "--mount", "true"], {
    accept: "any",
    ...(context.signal ? { signal: context.signal } : {}),
  });
  const detail = exitCode === 0 ? "can be made" : stderr.trim();
  const cure = "leave the container, or start it privileged (CAP_SYS_ADMIN)";
  return row("namespaces", exitCode === 0 ? "ok" : "missing", detail, why, cure);
}

/** Without cgroup2 a cell is ended by scanning processes: slower, and it works. */
export async function controlGroupRow(): Promise<Row> {
  const known = (await readTextIfAny("/proc/filesystems")) ?? "";
  const there = /\bcgroup2$/m.test(known);
  const why = "the end of a control group is the end of everything in a cell, at once";
  const detail = there ? "cgroup2 can be mounted" : "this kernel has no cgroup2";
  const cure = "nothing has to be done; processes are then found by their namespace";
  return row("control groups", there ? "ok" : "warn", detail, why, cure);
}

/**
 * Is KVM usable here? (H-1.13) A device that opens proves nothing: on some machines QEMU aborts,
 * on others a guest starts and hangs. So a real kernel is booted and must print its marker. The
 * answer is kept per boot of the machine and version of QEMU.
 */
import { constants } from "node:fs";
import { access, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { launch, run } from "../base/command.ts";
import { describeError } from "../base/errors.ts";
import { readTextIfAny, temporaryFolder, writeFileAtomic } from "../base/files.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import { bootId } from "./cell-record.ts";

const QEMU = "/usr/bin/qemu-system-x86_64";

const answerSchema = z.strictObject({
  bootId: z.string(),
  qemu: z.string(),
  usable: z.boolean(),
  reason: z.string(),
});

export type ProbeGuest = {
  readonly kernel: string;
  readonly initrd: string;
  /** What its console shows when it is up, on ttyS0. */
  readonly marker: string;
};

export type Acceleration = { readonly accelerator: "kvm" | "tcg"; readonly reason: string };

/**
 * Decides the accelerator. `auto` without a guest to try, or without /dev/kvm, is emulation.
 * @param cacheFile where the answer is kept, in the state directory
 */
export async function chooseAccelerator(
  wanted: "auto" | "kvm" | "tcg",
  guest: ProbeGuest | undefined,
  cacheFile: string,
): Promise<Acceleration> {
  if (wanted !== "auto") return { accelerator: wanted, reason: "teHost.accelerator says so" };
  const opens = await access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!opens) return { accelerator: "tcg", reason: "there is no usable /dev/kvm" };
  if (!guest) {
    return {
      accelerator: "tcg",
      reason: "no kernel at hand to see whether a guest boots with KVM",
    };
  }
  const now = { bootId: await bootId(), qemu: await qemuVersion() };
  const kept = await readAnswer(cacheFile);
  if (kept?.bootId === now.bootId && kept.qemu === now.qemu) return accelerationOf(kept);
  const answer = { ...now, ...(await bootOnce(guest)) };
  await writeFileAtomic(cacheFile, `${JSON.stringify(answer)}\n`);
  return accelerationOf(answer);
}

function accelerationOf(answer: { usable: boolean; reason: string }): Acceleration {
  return { accelerator: answer.usable ? "kvm" : "tcg", reason: answer.reason };
}

async function readAnswer(path: string): Promise<z.output<typeof answerSchema> | undefined> {
  const text = await readTextIfAny(path);
  if (text === undefined) return undefined;
  const parsed = answerSchema.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : undefined;
}

async function qemuVersion(): Promise<string> {
  return (await run(QEMU, ["--version"])).stdout.split("\n")[0] ?? "";
}

async function bootOnce(guest: ProbeGuest): Promise<{ usable: boolean; reason: string }> {
  const directory = await temporaryFolder("kvm-probe-");
  const serial = join(directory, "console");
  const began = performance.now();
  const machine = ["-accel", "kvm", "-cpu", "host", "-m", "256", "-nodefaults", "-no-reboot"];
  const line = ["-display", "none", "-serial", `file:${serial}`];
  const system = ["-kernel", guest.kernel, "-initrd", guest.initrd];
  const words = ["-append", "console=ttyS0 quiet panic=1"];
  const child = launch(QEMU, [...machine, ...line, ...system, ...words]);
  let said = "";
  child.stderr?.on("data", (chunk: Buffer) => (said = chunk.toString("utf8")));
  let over = false;
  child.exited.then(
    () => (over = true),
    () => (over = true),
  );
  try {
    const up = async (): Promise<boolean> =>
      (await readFile(serial, "utf8").catch(() => "")).includes(guest.marker);
    await until(async () => over || (await up()), {
      timeoutMs: limits.kvmProbeMs,
      what: "a guest with KVM",
    });
    const ms = Math.round(performance.now() - began);
    if (await up()) return { usable: true, reason: `a guest booted with KVM in ${ms} ms` };
    return { usable: false, reason: `QEMU ended with KVM: ${said.trim().slice(0, 200)}` };
  } catch (error) {
    return { usable: false, reason: `no guest came up with KVM: ${describeError(error)}` };
  } finally {
    await child.end("end", 500);
    await rm(directory, { recursive: true, force: true });
  }
}

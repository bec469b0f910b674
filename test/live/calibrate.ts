/**
 * How long one small guest takes to boot on this machine as it is now: live tests' limits are
 * multiples of it. As a program it prints the milliseconds.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { launch } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import { guestMark, prepareGuest } from "./guest.ts";

/** Milliseconds of a boot; RACKYARD_TEST_BOOT_MS where the test program measured before. */
export async function calibrateBoot(): Promise<number> {
  const known = Number(process.env["RACKYARD_TEST_BOOT_MS"]);
  return known > 0 ? known : measureBoot();
}

async function measureBoot(): Promise<number> {
  const guest = await prepareGuest();
  const directory = await mkdtemp(join(tmpdir(), "calibrate-"));
  const console = join(directory, "console");
  const began = performance.now();
  const machine = ["-accel", "tcg,tb-size=64", "-cpu", "max", "-m", "256", "-nodefaults"];
  const outside = ["-display", "none", "-serial", `file:${console}`, "-no-reboot"];
  const system = ["-kernel", guest.kernel, "-initrd", guest.initrd];
  const words = ["-append", "console=ttyS0 quiet panic=1"];
  const child = launch("qemu-system-x86_64", [...machine, ...outside, ...system, ...words]);
  child.stdout?.resume();
  child.stderr?.resume();
  try {
    const up = async (): Promise<boolean> => (await readFile(console, "utf8")).includes(guestMark);
    await until(up, { timeoutMs: 180_000, everyMs: 50, what: "a guest to boot" });
    return Math.round(performance.now() - began);
  } finally {
    await child.end("end", 500);
    await rm(directory, { recursive: true, force: true });
  }
}

if (import.meta.main) process.stdout.write(`${await measureBoot()}\n`);

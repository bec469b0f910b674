/**
 * Whether KVM works is seen by booting (H-1.13), once per boot of the machine and QEMU version.
 * Either answer is right here; what matters is that a guest decides it, and that it is kept.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { chooseAccelerator } from "../../src/hypervisor/kvm-probe.ts";
import { guestMark, prepareGuest } from "./guest.ts";

test("H-1.13 a guest decides, and the answer is kept", async () => {
  const { kernel, initrd } = await prepareGuest();
  const directory = await mkdtemp(join(tmpdir(), "kvm-"));
  const cache = join(directory, "kvm.json");
  const guest = { kernel, initrd, marker: guestMark };
  const first = await chooseAccelerator("auto", guest, cache);
  expect(first.reason).toMatch(
    first.accelerator === "kvm"
      ? /a guest booted with KVM in/
      : /no usable|no guest came up|QEMU ended/,
  );
  const began = performance.now();
  expect(await chooseAccelerator("auto", guest, cache)).toEqual(first);
  expect(performance.now() - began).toBeLessThan(3_000);
  const kept = await readFile(cache, "utf8").catch(() => undefined);
  if (kept !== undefined) expect(JSON.parse(kept)).toMatchObject({ reason: first.reason });
  await rm(directory, { recursive: true });
});

test("H-1.13 without a guest to try it is emulation; what is configured holds", async () => {
  const none = await chooseAccelerator("auto", undefined, "/nowhere");
  expect(none).toMatchObject({ accelerator: "tcg" });
  expect(await chooseAccelerator("kvm", undefined, "/nowhere")).toMatchObject({
    accelerator: "kvm",
    reason: "teHost.accelerator says so",
  });
});

/**
 * Opens the hypervisor of this host, inside its cell: daemons, libvirt, switch, test network.
 * Racks and nodes see it as hypervisor-port.ts says; what they are made of is theirs.
 */
import { fail } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Cell } from "./cell.ts";
import type { Hypervisor } from "./hypervisor-port.ts";

export type HypervisorOptions = {
  /** As prepareCell made it and readCell finds it; this process is inside (enterCell). */
  readonly cell: Cell;
  /** The host's UUID: it stands in every mark. */
  readonly hostId: string;
  readonly accelerator: "auto" | "kvm" | "tcg";
  /** Kernel and initramfs that print `marker` on ttyS0: with them `auto` tries KVM (H-1.13). */
  readonly probe?: { readonly kernel: string; readonly initrd: string; readonly marker: string };
  readonly log: Log;
};

/**
 * Adopts or starts the cell's daemons and gives the port. Returns when libvirt answers and the
 * test network is up. Disposing stops supervision and leaves daemons and machines running.
 */
export async function openHypervisor(options: HypervisorOptions): Promise<Hypervisor> {
  return fail("unavailable", `the hypervisor of ${options.hostId} is being built`);
}

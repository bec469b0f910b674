/**
 * How large this machine is (H-1.6), and how much of its disk is ours already.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { readCapacity } from "../../hypervisor/capacity.ts";
import type { HostCapacity } from "../../hypervisor/capacity-plan.ts";

export async function hostSize(state: string): Promise<HostCapacity> {
  let ours = 0;
  for (const folder of ["te/disks", "te/nodes", "images/sha256"]) {
    ours += await bytesUnder(join(state, folder));
  }
  return readCapacity(state, ours);
}

async function bytesUnder(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ blocks }) => blocks * 512,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

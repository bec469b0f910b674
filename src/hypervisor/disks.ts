/**
 * Machines' disks (H-7.6): fresh qcow2 overlays, made aside and renamed. Wiping is dropping;
 * zeroes are never written. The format of a base is given, never probed (H-7.5).
 */
import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { assert } from "../base/assert.ts";
import { run } from "../base/command.ts";
import { qemuAccount } from "./etc/accounts.ts";
import { guestPath, statePath } from "./guest-files.ts";
import type { Disks } from "./hypervisor-port.ts";

export function openDisks(state: string): Disks {
  return {
    async createOverlay({ path, base, sizeBytes }) {
      assert(path.startsWith("/") && Number.isSafeInteger(sizeBytes), `no disk ${path}`);
      await mkdir(dirname(path), { recursive: true });
      const aside = `${path}.${randomBytes(4).toString("hex")}.new`;
      // The header names what QEMU will open; `qemu-img` must see it too, so this runs in the cell.
      const backing = base === null ? [] : ["-F", base.format, "-b", guestPath(state, base.path)];
      try {
        await run("qemu-img", [
          "create",
          "-q",
          "-f",
          "qcow2",
          ...backing,
          aside,
          String(sizeBytes),
        ]);
        await giveToQemu(aside);
        await rename(aside, path);
      } finally {
        await rm(aside, { force: true });
      }
    },
    async remove(path) {
      await rm(path, { force: true });
    },
    async facts(path) {
      const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT") return undefined;
        throw error;
      });
      if (!file) return null;
      try {
        const { blocks, dev, ino, birthtimeNs } = await file.stat({ bigint: true });
        const identity = `${dev}:${ino}:${birthtimeNs}`;
        const bytes = Number(blocks) * 512;
        const header = Buffer.alloc(20);
        await file.read(header, 0, 20, 0);
        const name = backingName(header);
        if (name === undefined) return { bytes, base: null, identity };
        const text = Buffer.alloc(name.length);
        await file.read(text, 0, name.length, name.at);
        return { bytes, base: statePath(state, text.toString("utf8")), identity };
      } finally {
        await file.close();
      }
    },
  };
}

/**
 * A disk is QEMU's account's and nobody else's. libvirt does not do it (`dynamic_ownership`), as
 * it would change the owner of images that many share.
 */
export async function giveToQemu(path: string): Promise<void> {
  await chown(path, qemuAccount.uid, qemuAccount.gid);
  await chmod(path, 0o600);
}

/**
 * Where a qcow2 header (docs/interop/qcow2.txt) has its backing file's name:
 * `QFI\xfb` · version u32 · backing offset u64 · backing size u32 · …, big endian.
 */
function backingName(header: Buffer): { at: number; length: number } | undefined {
  if (header.readUInt32BE(0) !== 0x514649fb) return undefined;
  const at = Number(header.readBigUInt64BE(8));
  const length = header.readUInt32BE(16);
  return at === 0 || length === 0 || length > 1023 ? undefined : { at, length };
}

/**
 * A node's configuration drive (H-17.2): a small FAT image labelled `config-2`, as OpenStack has
 * it, made by mtools without a mount. `rackyard/` holds plain files that one unit of the image
 * reads; `openstack/latest/meta_data.json` says the same to whoever knows that form. It holds
 * the node's private host key: mode 0600.
 */
import { chmod, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../base/command.ts";

export type NodeIdentity = {
  readonly id: string;
  readonly hostName: string;
  /** OpenSSH's form. */
  readonly hostPrivateKey: string;
  readonly authorizedKey: string;
};

/** Makes the drive at `path`, whole or not at all; `workFolder` is its own to use. */
export async function makeConfigDrive(
  path: string,
  workFolder: string,
  node: NodeIdentity,
): Promise<void> {
  await rm(workFolder, { recursive: true, force: true });
  await mkdir(join(workFolder, "rackyard"), { recursive: true, mode: 0o700 });
  await mkdir(join(workFolder, "openstack/latest"), { recursive: true });
  const metaData = {
    uuid: node.id,
    hostname: node.hostName,
    name: node.hostName,
    public_keys: { rackyard: node.authorizedKey },
  };
  const files: Record<string, string> = {
    "rackyard/ssh_host_ed25519_key": node.hostPrivateKey,
    "rackyard/authorized_keys": `${node.authorizedKey.trim()}\n`,
    "rackyard/hostname": `${node.hostName}\n`,
    "openstack/latest/meta_data.json": `${JSON.stringify(metaData)}\n`,
  };
  for (const [name, text] of Object.entries(files)) {
    await writeFile(join(workFolder, name), text, { mode: 0o600 });
  }
  const aside = `${path}.new`;
  await rm(aside, { force: true });
  const env = { MTOOLS_SKIP_CHECK: "1", TZ: "UTC", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
  await run("mformat", ["-C", "-f", "1440", "-v", "config-2", "-i", aside, "::"], { env });
  await chmod(aside, 0o600);
  const folders = [join(workFolder, "rackyard"), join(workFolder, "openstack")];
  await run("mcopy", ["-s", "-i", aside, ...folders, "::"], { env });
  await rename(aside, path);
  await rm(workFolder, { recursive: true, force: true });
}

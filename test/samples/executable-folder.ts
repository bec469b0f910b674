/**
 * A new temporary folder in which programs can be run: many machines mount /tmp noexec, where a
 * test's stand-in of a program would not start.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../src/base/command.ts";

/** The caller removes it. */
export async function executableFolder(prefix: string): Promise<string> {
  for (const parent of [tmpdir(), "/var/tmp", "/run", "/dev/shm"]) {
    const folder = await mkdtemp(join(parent, prefix)).catch(() => undefined);
    if (folder === undefined) continue; // not there, or not ours to write
    const probe = join(folder, "probe");
    await writeFile(probe, "#!/bin/sh\n", { mode: 0o755 });
    const runs = await run(probe, []).then(
      () => true,
      () => false,
    );
    await rm(probe);
    if (runs) return folder;
    await rm(folder, { recursive: true });
  }
  throw new Error("no temporary folder of this machine lets programs run");
}

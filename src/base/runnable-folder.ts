/**
 * A temporary folder in which programs can be run. Many machines mount /tmp noexec: a wrapper that
 * stands there is passed over by execvp(3), without a word, for the next one of its name in PATH.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./command.ts";
import { temporaryFolder } from "./files.ts";

/**
 * A new one, 0700, which the caller removes: below `TMPDIR` if that lets programs run, else
 * elsewhere. Where nothing does it is below `TMPDIR` all the same. Throws `temporary-unusable`.
 */
export async function runnableFolder(
  prefix: string,
  elsewhere: readonly string[] = ["/var/tmp", "/dev/shm", "/run"],
): Promise<string> {
  const first = await temporaryFolder(prefix);
  if (await letsRun(first)) return first;
  for (const parent of elsewhere.filter((other) => other !== tmpdir())) {
    const folder = await mkdtemp(join(parent, prefix)).catch(() => undefined);
    if (folder === undefined) continue; // not there, or not ours to write
    if (await letsRun(folder)) {
      await rm(first, { recursive: true });
      return folder;
    }
    await rm(folder, { recursive: true });
  }
  return first;
}

async function letsRun(folder: string): Promise<boolean> {
  const probe = join(folder, "probe");
  try {
    await writeFile(probe, "#!/bin/sh\n", { mode: 0o700 });
    await run(probe, []);
    return true;
  } catch {
    return false;
  } finally {
    await rm(probe, { force: true });
  }
}

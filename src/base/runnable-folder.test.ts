import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { run } from "./command.ts";

const module = pathToFileURL(join(import.meta.dirname, "runnable-folder.ts")).href;

/** In a mount namespace whose TMPDIR is a tmpfs with these options. */
async function folderWith(options: string, elsewhere: string[]): Promise<string> {
  const mountPoint = await mkdtemp(join(tmpdir(), "runnable-"));
  onTestFinished(() => rm(mountPoint, { recursive: true, force: true }));
  const code =
    `const { runnableFolder } = await import(${JSON.stringify(module)});` +
    `process.stdout.write(await runnableFolder("x-", ${JSON.stringify(elsewhere)}));`;
  const script = `mount -t tmpfs -o ${options} tmpfs "$TMPDIR" && exec "$0" --input-type=module -e "$1"`;
  const { stdout } = await run(
    "unshare",
    ["--mount", "--propagation", "private", "sh", "-c", script, process.execPath, code],
    { env: { PATH: process.env["PATH"] ?? "", TMPDIR: mountPoint } },
  );
  if (!stdout.startsWith(mountPoint)) {
    await access(stdout); // it outlives the namespace
    onTestFinished(() => rm(stdout, { recursive: true }));
  }
  return stdout.replace(mountPoint, "TMPDIR");
}

test.skipIf(process.getuid?.() !== 0)(
  "issue 6, §0: with TMPDIR mounted noexec, wrappers stand where they can be run",
  async () => {
    const other = await mkdtemp(join(tmpdir(), "other-"));
    onTestFinished(() => rm(other, { recursive: true, force: true }));
    const { exitCode } = await run(
      "sh",
      ["-c", 'printf "#!/bin/sh\\n" >"$0" && chmod 700 "$0" && "$0"', join(other, "probe")],
      { accept: "any" },
    );
    expect(await folderWith("exec", [other])).toMatch(/^TMPDIR\/x-/);
    expect(await folderWith("noexec", ["/nonexistent"])).toMatch(/^TMPDIR\/x-/);
    // The test's own temporary folder may be noexec too: then there is nothing better.
    const found = await folderWith("noexec", ["/nonexistent", other]);
    expect(found.startsWith(exitCode === 0 ? other : "TMPDIR/")).toBe(true);
  },
);

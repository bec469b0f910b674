/**
 * `./rackyard` in a bare Debian 12 (mmdebstrap's minbase: no Node, npm, curl, certificates): it
 * brings itself up to its first command, and the host's packages without starting their services.
 * Deep, because it fetches some 100 MB. With stand-ins: tools/bootstrap.test.ts.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import type { CommandResult } from "../../src/base/command.ts";

const tree = join(import.meta.dirname, "../..");
const deep = process.env.RACKYARD_TEST_DEEP !== undefined;
const longMs = 600_000;
let bare: string;

/** Runs in the bare system, in a mount namespace that ends with the program. */
function inBare(...words: string[]): Promise<CommandResult> {
  const enter = [
    'mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev"',
    'mount -t tmpfs tmpfs "$0/run"',
    'exec chroot "$0" env -i HOME=/root CI=true PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"',
  ].join(" && ");
  const args = ["--mount", "sh", "-c", enter, bare, ...words];
  return run("unshare", args, { timeoutMs: longMs, accept: "any" });
}

/** Processes whose root is that folder: what an installation started and left. */
function rootedIn(folder: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/root`).startsWith(folder);
    } catch {
      return false; // gone meanwhile
    }
  });
}

describe.runIf(deep)("deep: a bare Debian 12", () => {
  beforeAll(async () => {
    bare = mkdtempSync(join(tmpdir(), "bare-"));
    const words = ["--quiet", "--variant=minbase", "bookworm", bare];
    await run("mmdebstrap", words, { timeoutMs: longMs });
    // What any machine behind a proxy has of its own: resolver and certificates.
    cpSync("/etc/resolv.conf", join(bare, "etc/resolv.conf"), { dereference: true });
    const own = "usr/local/share/ca-certificates";
    if (existsSync(`/${own}`)) cpSync(`/${own}`, join(bare, own), { recursive: true });
    mkdirSync(join(bare, "root/clone"));
    for (const name of readdirSync(tree)) {
      if (name === "node_modules" || name === ".git") continue;
      const skip = /\/\.tools\/(?:node_modules|stamps|staging|lock)/;
      const to = join(bare, "root/clone", name);
      cpSync(join(tree, name), to, { recursive: true, filter: (from) => !skip.test(from) });
    }
  }, longMs);
  afterAll(() => rmSync(bare, { recursive: true, force: true }));

  const rackyard = (...args: string[]): Promise<CommandResult> =>
    inBare("/root/clone/rackyard", ...args);
  const policy = (): boolean => existsSync(join(bare, "usr/sbin/policy-rc.d"));

  test("`lease` installs nothing and says what is needed", async () => {
    const { exitCode, stderr } = await rackyard("lease", "list");
    expect(exitCode).toBe(69);
    expect(stderr).toContain("neither npm, curl nor wget");
  });

  test("`version` brings curl, Node and npm's packages; then it is there at once", async () => {
    const first = await rackyard("version");
    expect(first.exitCode, first.stderr).toBe(0);
    expect(first.stdout).toMatch(/\d+\.\d+\.\d+/);
    const again = await rackyard("version");
    expect(again).toMatchObject({ exitCode: 0, stderr: "", stdout: first.stdout });
    expect(policy()).toBe(false);
  });

  test("H-15.1 the host's packages come, none of their services starts", async () => {
    const { exitCode, stderr } = await rackyard("--install", "server", "host");
    expect(exitCode, stderr).toBe(0);
    expect(policy()).toBe(false);
    expect(rootedIn(bare)).toEqual([]);
    const doctor = await rackyard("doctor", "--json");
    const { rows } = JSON.parse(doctor.stdout) as { rows: { name: string; state: string }[] };
    expect(rows).toContainEqual(expect.objectContaining({ name: "host packages", state: "ok" }));
  });
});

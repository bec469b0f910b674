/**
 * surface.md §9: the cell's accounts stand behind the machine's own, in an /etc that no change of
 * the machine takes away (issue 6, section 3).
 */
import { mkdir, mkdtemp, readFile, readlink, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AssertionError } from "../../base/assert.ts";
import { accountFiles, openAccounts, qemuAccount } from "./accounts.ts";
import type { AccountFiles } from "./accounts.ts";

const te = (n: number) => ({ name: `te${n}`, uid: 60_000 + n, home: "/run", shell: "/run/gate" });
const group = { name: "rackyard-te", gid: 60_000 };
const machine: AccountFiles = {
  passwd: "root:x:0:0::/root:/bin/sh\n",
  group: "root:x:0:\nkvm:x:109:somebody\n",
  shadow: "root:*:1::::::\n",
};

let directory: string;
let etc: { own: string; machine: string; linkBase: string };
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "accounts-"));
  etc = { own: join(directory, "own"), machine: join(directory, "etc"), linkBase: "/run/theirs" };
  await mkdir(etc.own);
  await mkdir(etc.machine);
  for (const [name, text] of Object.entries(machine)) {
    await writeFile(join(etc.machine, name), text);
  }
});
afterEach(() => rm(directory, { recursive: true }));

const own = (name: string): Promise<string> => readFile(join(etc.own, name), "utf8");
const names = async (): Promise<string[]> =>
  (await own("passwd"))
    .trimEnd()
    .split("\n")
    .map((line) => line.split(":")[0]!);

test("H-6.2 accounts come, change and go behind the machine's lines", async () => {
  const accounts = openAccounts(etc);
  await accounts.set(group, [te(1), te(2), te(3)]);
  expect(await names()).toEqual(["root", "rackyard-cell", "rackyard-qemu", "te1", "te2", "te3"]);
  await accounts.set(group, [te(2)]);
  expect(await names()).toEqual(["root", "rackyard-cell", "rackyard-qemu", "te2"]);
  expect(await own("shadow")).toMatch(/^te2:\*:/m);
  expect((await stat(join(etc.own, "shadow"))).mode & 0o777).toBe(0o600);
  expect(await own("group")).toMatch(/^rackyard-te:x:60000:$/m);
  await expect(accounts.set(group, [{ ...te(1), shell: "/bin/sh\nroot2:x:0" }])).rejects.toThrow(
    AssertionError,
  );
});

test("useradd on the machine: the file it renames into place takes no account from the cell", async () => {
  const accounts = openAccounts(etc);
  await accounts.set(group, [te(1)]);
  expect(await accounts.hold()).toBe(true);
  await writeFile(join(etc.machine, "passwd+"), `${machine.passwd}case:x:998:998::/:/bin/sh\n`);
  await rename(join(etc.machine, "passwd+"), join(etc.machine, "passwd"));
  expect(await names()).toContain("te1");
  expect(await accounts.hold()).toBe(false); // the newcomer is not there yet
  await accounts.mend();
  expect(await names()).toEqual(["root", "case", "rackyard-cell", "rackyard-qemu", "te1"]);
  expect(await accounts.hold()).toBe(true);
});

test("whatever takes our lines away, a pass sets them again, of an agent just started too", async () => {
  await openAccounts(etc).set(group, [te(1)]);
  const second = openAccounts(etc);
  await second.mend();
  expect(await names()).toContain("te1");
  await writeFile(join(etc.own, "passwd"), machine.passwd);
  expect(await second.hold()).toBe(false);
  await second.mend();
  expect(await names()).toContain("te1");
});

test("an account of the machine with a name or number of ours does not stand in the cell", () => {
  const files = accountFiles(
    {
      passwd: `te1:x:1000:1000::/home/te1:/bin/bash\nx:x:${te(1).uid}:1::/:/bin/sh\n+::::::\n`,
      group: "rackyard-te:x:1000:\n",
      shadow: "te1:$y$secret:1::::::\n",
    },
    group,
    [te(1)],
  );
  expect(files.passwd.split("\n")[0]).toMatch(/^rackyard-cell:/);
  expect(files.passwd).toContain(`te1:x:${te(1).uid}:${group.gid}::/run:/run/gate\n`);
  expect(files.shadow).not.toContain("secret");
  expect(files.group).not.toContain(":1000:");
});

test("QEMU's account is there from the first moment, and may open /dev/kvm", async () => {
  await openAccounts(etc).mend();
  expect(await names()).toEqual(["root", "rackyard-cell", "rackyard-qemu"]);
  expect(await own("group")).toContain(`kvm:x:109:somebody,${qemuAccount.name}\n`);
});

test("every other name of the machine's /etc is a link, kept as the machine changes", async () => {
  const accounts = openAccounts(etc);
  await writeFile(join(etc.machine, "hosts"), "");
  await mkdir(join(etc.machine, "ssl"));
  await accounts.mend();
  expect(await readlink(join(etc.own, "hosts"))).toBe("/run/theirs/hosts");
  expect(await readlink(join(etc.own, "ssl"))).toBe("/run/theirs/ssl");
  await rm(join(etc.machine, "hosts"));
  await writeFile(join(etc.machine, "new.conf"), "");
  expect(await accounts.hold()).toBe(false);
  await accounts.mend();
  await expect(readlink(join(etc.own, "hosts"))).rejects.toThrow("ENOENT");
  expect(await readlink(join(etc.own, "new.conf"))).toBe("/run/theirs/new.conf");
  expect(await own("nsswitch.conf")).toContain("passwd: files\n");
  expect(await accounts.hold()).toBe(true);
});

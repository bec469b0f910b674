/** surface.md §9: accounts of the cell are written in place beside the machine's own. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { AssertionError } from "../base/assert.ts";
import { setCellAccounts } from "./accounts.ts";
import { cellPlaces } from "./cell-paths.ts";

const te = (n: number) => ({ name: `te${n}`, uid: 60_000 + n, home: "/run", shell: "/run/gate" });
const group = { name: "rackyard-te", gid: 60_000 };

test("H-6.2 accounts come, change and go; the machine's lines and the inode stay", async () => {
  const directory = await mkdtemp(join(tmpdir(), "accounts-"));
  const places = { ...cellPlaces(directory), accounts: directory };
  const own = {
    passwd: "root:x:0:0::/root:/bin/sh\n",
    group: "root:x:0:\n",
    shadow: "root:*:1::::::\n",
  };
  for (const [name, text] of Object.entries(own)) await writeFile(join(directory, name), text);
  const inode = (await stat(join(directory, "passwd"))).ino;
  const names = async (): Promise<string[]> =>
    (await readFile(join(directory, "passwd"), "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => line.split(":")[0]!);

  await setCellAccounts(places, group, [te(1), te(2), te(3)]);
  expect(await names()).toEqual(["root", "rackyard-cell", "te1", "te2", "te3"]);
  await setCellAccounts(places, group, [te(2)]);
  expect(await names()).toEqual(["root", "rackyard-cell", "te2"]);
  expect((await stat(join(directory, "passwd"))).ino).toBe(inode);
  expect(await readFile(join(directory, "shadow"), "utf8")).toMatch(/^te2:\*:/m);
  expect(await readFile(join(directory, "group"), "utf8")).toMatch(/^rackyard-te:x:60000:$/m);
  await expect(
    setCellAccounts(places, group, [{ ...te(1), shell: "/bin/sh\nroot2:x:0" }]),
  ).rejects.toThrow(AssertionError);
  await rm(directory, { recursive: true });
});

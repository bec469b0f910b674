/**
 * Accounts of the cell alone (surface.md §9): its passwd, group and shadow are the machine's with
 * ours added. They are bound over the machine's in the cell, so that they are written in place:
 * a file renamed over them would not be seen there.
 */
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../base/assert.ts";
import type { CellPlaces } from "./cell-paths.ts";
import type { CellAccount } from "./hypervisor-port.ts";

const NAME = /^[a-z][a-z0-9-]{0,30}$/;
const PATH = /^\/[A-Za-z0-9/._-]*$/;
/** An account that marks a place: its line and all after it are ours. */
const OURS = "rackyard-cell";

export async function setCellAccounts(
  places: CellPlaces,
  group: { readonly name: string; readonly gid: number },
  accounts: readonly CellAccount[],
): Promise<void> {
  assert(NAME.test(group.name), `not a group's name: ${group.name}`);
  for (const { name, home, shell } of accounts) {
    assert(NAME.test(name) && PATH.test(home) && PATH.test(shell), `no account ${name}`);
  }
  const users = [
    { name: OURS, uid: NOBODY, gid: NOBODY, home: "/", shell: "/bin/false" },
    ...accounts.map((account) => ({ ...account, gid: group.gid })),
  ];
  const passwd = users.map((it) => `${it.name}:x:${it.uid}:${it.gid}::${it.home}:${it.shell}`);
  // `*` and not `!`: sshd refuses a locked account's key too, without PAM (H-6.2).
  const shadow = users.map((it) => `${it.name}:*:19000:0:99999:7:::`);
  const groups = [`${OURS}:x:${NOBODY}:`, `${group.name}:x:${group.gid}:`];
  await rewrite(join(places.accounts, "group"), groups);
  await rewrite(join(places.accounts, "shadow"), shadow);
  await rewrite(join(places.accounts, "passwd"), passwd);
}

/** The marking account's: in nobody's range. */
const NOBODY = 65_533;

/** Replaces our part in one write, then cuts the rest: who reads sees whole lines. */
async function rewrite(path: string, ours: readonly string[]): Promise<void> {
  const present = (await readFile(path, "utf8")).split("\n").filter((line) => line !== "");
  const at = present.findIndex((line) => line.startsWith(`${OURS}:`));
  const wanted = [...(at < 0 ? present : present.slice(0, at)), ...ours, ""].join("\n");
  if (wanted === [...present, ""].join("\n")) return;
  const file = await open(path, "r+");
  try {
    const { bytesWritten } = await file.write(wanted, 0);
    await file.truncate(bytesWritten);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Accounts of the cell alone (surface.md §9): its passwd, group and shadow are the machine's with
 * ours behind them, in an /etc of its own (cell-etc.ts), replaced whole. Those of the machine are
 * read anew each time, so that what a package brings is there at the next pass.
 */
import { join } from "node:path";
import { assert } from "../../base/assert.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import { etcFaults, mendEtc } from "./cell-etc.ts";
import { insideRun } from "../cell-paths.ts";
import type { CellAccount } from "../hypervisor-port.ts";

const NAME = /^[a-z][a-z0-9-]{0,30}$/;
const PATH = /^\/[A-Za-z0-9/._-]*$/;
/** An account that marks a place: its line and all after it are ours. */
const OURS = "rackyard-cell";
/** The marking account's: in nobody's range. */
const NOBODY = 65_533;

/** Whom QEMU runs as in every cell: free on Debian, and no account of the machine. */
export const qemuAccount = { name: "rackyard-qemu", uid: 62_900, gid: 62_900 } as const;

export type AccountFiles = {
  readonly passwd: string;
  readonly group: string;
  readonly shadow: string;
};
const FILES = ["passwd", "group", "shadow"] as const;

export type AccountGroup = { readonly name: string; readonly gid: number };

/** The three files: the machine's lines, less any that has a name or number of ours, then ours. */
export function accountFiles(
  machine: AccountFiles,
  group: AccountGroup | undefined,
  accounts: readonly CellAccount[],
): AccountFiles {
  assert(group === undefined || NAME.test(group.name), `not a group's name: ${group?.name}`);
  for (const { name, home, shell } of accounts) {
    assert(NAME.test(name) && PATH.test(home) && PATH.test(shell), `no account ${name}`);
  }
  const nologin = { home: "/", shell: "/bin/false" };
  const users = [
    { name: OURS, uid: NOBODY, gid: NOBODY, ...nologin },
    { ...qemuAccount, ...nologin },
    ...accounts.map((account) => ({ ...account, gid: group?.gid ?? NOBODY })),
  ];
  const groups = [{ name: OURS, gid: NOBODY }, qemuAccount, ...(group ? [group] : [])];
  const names = new Set(users.map(({ name }) => name));
  const uids = new Set(users.map(({ uid }) => String(uid)));
  const groupNames = new Set(groups.map(({ name }) => name));
  const gids = new Set(groups.map(({ gid }) => String(gid)));
  return {
    passwd: joined(
      linesOf(machine.passwd).filter(([name, , uid]) => !names.has(name!) && !uids.has(uid!)),
      users.map((it) => `${it.name}:x:${it.uid}:${it.gid}::${it.home}:${it.shell}`),
    ),
    group: joined(
      linesOf(machine.group)
        .filter(([name, , gid]) => !groupNames.has(name!) && !gids.has(gid!))
        // /dev/kvm belongs to this group where there is one
        .map((fields) => (fields[0] === "kvm" ? withMember(fields, qemuAccount.name) : fields)),
      groups.map(({ name, gid }) => `${name}:x:${gid}:`),
    ),
    shadow: joined(
      linesOf(machine.shadow).filter(([name]) => !names.has(name!)),
      // `*` and not `!`: sshd refuses a locked account's key too, without PAM (H-6.2).
      users.map(({ name }) => `${name}:*:19000:0:99999:7:::`),
    ),
  };
}

const linesOf = (text: string): string[][] =>
  text
    .split("\n")
    .filter((line) => line !== "" && !/^[+-]/.test(line))
    .map((line) => line.split(":"));

const joined = (machine: readonly string[][], ours: readonly string[]): string =>
  [...machine.map((fields) => fields.join(":")), ...ours, ""].join("\n");

function withMember(fields: readonly string[], member: string): string[] {
  const [name = "", password = "", gid = "", members = ""] = fields;
  const all = [...members.split(",").filter((it) => it !== "" && it !== member), member];
  return [name, password, gid, all.join(",")];
}

export type CellAccounts = {
  /** Exactly these accounts, each in this group; there when it returns. */
  set(group: AccountGroup, accounts: readonly CellAccount[]): Promise<void>;
  /** Is the cell's /etc as wanted: links, name service, accounts? */
  hold(): Promise<boolean>;
  mend(): Promise<void>;
};

/** @param etc the cell's /etc, the machine's, and where the cell sees that one */
export function openAccounts(
  etc: { readonly own: string; readonly machine: string; readonly linkBase: string } = {
    own: "/etc",
    machine: insideRun.machineEtc,
    linkBase: insideRun.machineEtc,
  },
): CellAccounts {
  let wanted: { group: AccountGroup | undefined; accounts: readonly CellAccount[] } | undefined;

  async function files(): Promise<AccountFiles> {
    // An agent that has just come keeps those that are there until it knows better.
    wanted ??= await keptAccounts(etc.own);
    return accountFiles(await readFiles(etc.machine), wanted.group, wanted.accounts);
  }

  async function mend(): Promise<void> {
    await mendEtc(etc.own, etc.machine, etc.linkBase);
    const [now, next] = [await readFiles(etc.own), await files()];
    for (const name of FILES.toReversed()) {
      if (now[name] === next[name]) continue;
      await writeFileAtomic(join(etc.own, name), next[name], name === "shadow" ? 0o600 : 0o644);
    }
  }

  return {
    async set(group, accounts) {
      wanted = { group, accounts };
      await mend();
    },
    async hold() {
      const [now, next] = [await readFiles(etc.own), await files()];
      if (FILES.some((name) => now[name] !== next[name])) return false;
      return (await etcFaults(etc.own, etc.machine, etc.linkBase)).length === 0;
    },
    mend,
  };
}

async function readFiles(directory: string): Promise<AccountFiles> {
  const read = async (name: string): Promise<string> =>
    (await readTextIfAny(join(directory, name))) ?? "";
  return { passwd: await read("passwd"), group: await read("group"), shadow: await read("shadow") };
}

/** Ours as the files have them, behind the marking account. */
async function keptAccounts(
  directory: string,
): Promise<{ group: AccountGroup | undefined; accounts: CellAccount[] }> {
  const { passwd, group } = await readFiles(directory);
  const ours = (text: string): string[][] => {
    const lines = linesOf(text);
    const at = lines.findIndex(([name]) => name === OURS);
    return at < 0 ? [] : lines.slice(at + 1).filter(([name]) => name !== qemuAccount.name);
  };
  const accounts = ours(passwd).map(([name = "", , uid, , , home = "", shell = ""]) => ({
    name,
    uid: Number(uid),
    home,
    shell,
  }));
  const [own] = ours(group);
  return { group: own && { name: own[0]!, gid: Number(own[2]) }, accounts };
}

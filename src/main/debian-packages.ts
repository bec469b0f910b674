/**
 * The Debian packages that Rackyard needs, from the table that ./rackyard installs by
 * (.tools/debian-packages.txt), and which of them this machine has. Installs nothing.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../base/command.ts";
import { assert } from "../base/assert.ts";
import { isRackyardError } from "../base/errors.ts";
import { readTextIfAny } from "../base/files.ts";

export type DebianPackage = {
  readonly set: string;
  readonly name: string;
  /** What it is for. */
  readonly why: string;
};

const tools = join(import.meta.dirname, "../../.tools");

/** The table's lines: `set package why`; `#` begins a comment. */
export function parsePackageTable(text: string): DebianPackage[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "" && !line.startsWith("#"))
    .map((line) => {
      const [, set, name, why] = /^(\S+) (\S+) (\S.*)$/.exec(line) ?? [];
      assert(set && name && why, `.tools/debian-packages.txt: not "set package why": ${line}`);
      return { set, name, why };
    });
}

export async function readPackageTable(): Promise<DebianPackage[]> {
  return parsePackageTable(await readFile(join(tools, "debian-packages.txt"), "utf8"));
}

/** Names of all installed packages; undefined where there is no dpkg. */
export async function installedPackages(signal?: AbortSignal): Promise<Set<string> | undefined> {
  try {
    const { stdout } = await run(
      "dpkg-query",
      ["-W", "-f", "${db:Status-Status} ${Package}\n"],
      signal ? { signal } : {},
    );
    return parseInstalled(stdout);
  } catch (error) {
    if (isRackyardError(error, "missing-package")) return undefined;
    throw error;
  }
}

export function parseInstalled(output: string): Set<string> {
  const lines = output.split("\n").filter((line) => line.startsWith("installed "));
  return new Set(lines.map((line) => line.slice("installed ".length)));
}

/** Packages that ./rackyard itself installed from this tree: what `down --purge` leaves behind. */
export async function broughtPackages(): Promise<string[]> {
  const text = (await readTextIfAny(join(tools, "stamps/debian-installed"))) ?? "";
  return [...new Set(text.split("\n").filter((name) => name !== ""))].toSorted();
}

import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { run } from "../base/command.ts";
import { addBuildCommands } from "./build.ts";
import { addChangeCommands } from "./change.ts";
import { bashScript, zshScript } from "./completion.ts";
import { addLeaseCommands } from "./lease.ts";
import { openProgram } from "./program.ts";

const program = openProgram("0.1.0");
addChangeCommands(program);
addBuildCommands(program);
addLeaseCommands(program);
const table = program.table();

/** Runs the function as bash does at the press of TAB; the last word is the one to complete. */
async function complete(...words: string[]): Promise<string[]> {
  const script = `${bashScript(table)}
COMP_WORDS=(rackyard "$@"); COMP_CWORD=$#
_rackyard
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await run("bash", ["-euc", script, "bash", ...words]);
  return stdout.trim() === "" ? [] : stdout.trim().split("\n");
}

test("bash completes nouns, verbs and options out of the command table", async () => {
  expect(await complete("ch")).toEqual(["change"]);
  expect(await complete("change", "w")).toEqual(["watch"]);
  expect(await complete("change", "list", "--st")).toEqual(["--status", "--state"]);
  expect(await complete("build", "console", "-f", "--fo")).toEqual(["--follow"]);
});

test("bash looks past options with values, arguments and what follows --", async () => {
  expect(await complete("--url", "change", "le")).toEqual(["lease"]);
  expect(await complete("change", "show", "4", "--js")).toEqual(["--json"]);
  expect(await complete("lease", "--for", "30m", "w")).toEqual(["why"]);
  expect(await complete("lease", "--", "ch")).toEqual([]);
  expect(await complete("change", "list", "--owner", "d")).toEqual([]);
  expect(await complete("--token-file", "/etc/host")).toContain("/etc/hosts");
});

test("the scripts hold words of the table alone, and bash reads them", async () => {
  const texts = [bashScript(table), zshScript(table)];
  for (const text of texts) expect(text).not.toMatch(/RACKYARD_|ry_/);
  await run("bash", ["-n"], { stdin: texts[0]! });
});

test.skipIf(!existsSync("/usr/bin/zsh"))("zsh gives the same words", async () => {
  const zsh = async (...words: string[]): Promise<string[]> => {
    const script = `compdef() { : }; compadd() { shift; print -l -- "$@" }; _files() { : }
${zshScript(table)}
words=(rackyard "$@"); CURRENT=$(( $# + 1 ))
_rackyard`;
    const { stdout } = await run("zsh", ["-fec", script, "zsh", ...words]);
    return stdout.trim().split("\n");
  };
  expect(await zsh("change", "")).toContain("watch");
  expect(await zsh("--url", "x", "lease", "")).toContain("release");
  expect(await zsh("change", "list", "--")).toContain("--status");
});

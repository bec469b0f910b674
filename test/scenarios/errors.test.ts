/**
 * What people meet when something is wrong, by the real command line as a child process: exit
 * code, code and words as docs/errors.md tells them. What needs a server is in api-server.test.ts
 * and lease-command.test.ts.
 */
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";
import type { CommandResult } from "../../src/base/command.ts";
import { errorCodes } from "../../src/base/errors.ts";
import { asNobody } from "../samples/as-nobody.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));
const document = fileURLToPath(new URL("../../docs/errors.md", import.meta.url));
const node = ["--disable-sigusr1", "--disable-warning=ExperimentalWarning", entry];
let root: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "errors-"));
  await chmod(root, 0o755);
});
afterAll(() => rm(root, { recursive: true, force: true }));

function rackyard(...words: string[]): Promise<CommandResult> {
  const env = plainEnv({ RACKYARD_STATE: join(root, "state") });
  return run(process.execPath, [...node, ...words], { env, accept: "any" });
}

/** As somebody who is not root. */
function unprivileged(...words: string[]): Promise<CommandResult> {
  const env = plainEnv({ RACKYARD_STATE: join(root, "nobody", "state") });
  return run("setpriv", [...asNobody, process.execPath, ...node, ...words], { env, accept: "any" });
}

test("issue 3, row 10: wrong configuration: 78, every fault at file, line and column", async () => {
  const file = join(root, "bad.yaml");
  await writeFile(file, "server:\n  lisen: []\nnodes:\n  labels: { worker: { image: 7 } }\n");
  const told = await rackyard("check-config", file);
  expect(told.exitCode).toBe(78);
  expect(told.stdout).toMatch(/^\S+bad\.yaml:2:3: server\.lisen: unknown key.*\(unknown-key\)$/m);
  expect(told.stdout).toMatch(/^\S+bad\.yaml:4:30: nodes\.labels\.worker\.image: /m);

  const refused = await rackyard("server", "--config", file);
  expect(refused.exitCode).toBe(78);
  expect(refused.stderr).toMatch(/^error: the configuration is wrong: .*\(bad-config\)\n/);
  expect(refused.stderr).toMatch(/^ {2}\S+bad\.yaml:2:3: /m);

  const none = await rackyard("check-config", join(root, "none.yaml"));
  expect([none.exitCode, none.stderr]).toEqual([
    78,
    `error: there is no file ${join(root, "none.yaml")} (bad-config)\n`,
  ]);
});

test("issue 3, row 10: an image that nobody builds: 78, what there is", async () => {
  const file = join(root, "image.yaml");
  await writeFile(file, "nodes: { labels: { worker: { image: debian-13 } } }\n");
  const told = await rackyard("check-config", file);
  expect(told.exitCode).toBe(78);
  expect(told.stdout).toContain("there is no image debian-13; there are: debian-12");

  await writeFile(
    file,
    "nodes:\n  images: { debian-12: { driver: mmdebstrap, recipe: ./none } }\n",
  );
  const recipe = await rackyard("check-config", file);
  expect(recipe.exitCode).toBe(78);
  expect(recipe.stdout).toMatch(
    /^\S+image\.yaml:2:54: nodes\.images\.debian-12\.recipe: \S+\/none cannot be read \(bad-recipe\)\n {2}name the folder/,
  );
});

test("issue 3, row 10: wrong layout: 78, what Zuul has and we not yet is told apart", async () => {
  const state = join(root, "wrong-layout");
  await mkdir(join(state, "layout"), { recursive: true });
  const lines = ["- job:", "    name: unit", "    semaphore: one", "    run: make", ""];
  await writeFile(join(state, "layout/mine.yaml"), lines.join("\n"));
  const told = await rackyard("check-config", "--state", state);
  expect(told.exitCode).toBe(78);
  expect(told.stdout).toMatch(/layout\/mine\.yaml:3:5: job\.semaphore: .*\(not-supported-yet\)$/m);
});

test.skipIf(process.getuid?.() !== 0)(
  "issue 3, row 10: not root: 77, before anything is done",
  async () => {
    await mkdir(join(root, "nobody", "state"), { recursive: true });
    for (const words of [["up"], ["te-host"], ["down"]]) {
      const told = await unprivileged(...words);
      expect([words, told.exitCode]).toEqual([words, 77]);
      expect(told.stderr).toMatch(/^error: .*\(not-root\)\n {2}\S/);
    }
  },
);

test("surface.md §2 usage: 64, and where to read on", async () => {
  const unknown = await rackyard("frobnicate");
  expect([unknown.exitCode, unknown.stderr]).toEqual([
    64,
    "error: unknown command 'frobnicate' (usage)\n  see rackyard help\n",
  ]);
  expect((await rackyard("change", "show")).exitCode).toBe(64);
  expect((await rackyard("help", "change", "frob")).stderr).toContain("no command frob (usage)");
  for (const url of ["nonsense", "ftp://x"]) {
    const told = await rackyard("status", "--url", url);
    expect([told.exitCode, told.stderr]).toEqual([
      64,
      expect.stringContaining(`error: --url: ${url} is no address of a server (usage)\n`),
    ]);
  }
  expect((await rackyard("status", "--frob")).exitCode).toBe(64);
  expect((await rackyard("--json", "lease")).stdout).toMatch(
    /^\{"event":"error","code":"usage","detail":".*","remedy":".*","errors":\[\]\}\n$/,
  );
});

test("surface.md §3 --purge leaves alone a directory that holds what is not ours", async () => {
  const state = join(root, "mine");
  await mkdir(state);
  await writeFile(join(state, "thesis.txt"), "years of work\n");
  const told = await rackyard("down", "--purge", "--state", state);
  if (process.getuid?.() === 0) {
    expect(told.exitCode).toBe(64);
    expect(told.stderr).toContain("also holds thesis.txt: not purged");
  } else {
    expect(told.exitCode).toBe(77);
  }
  expect(await readFile(join(state, "thesis.txt"), "utf8")).toBe("years of work\n");
});

test("docs/errors.md tells each code with the exit code that it has", async () => {
  const text = await readFile(document, "utf8");
  for (const [code, { exit }] of Object.entries(errorCodes)) {
    const rows = text.split("\n").filter((line) => line.includes(`| \`${code}\` |`));
    expect([code, rows.length > 0]).toEqual([code, true]);
    for (const row of rows) {
      const told = row.split("|")[2]!.trim();
      expect([code, told]).toEqual([code, expect.stringMatching(`^(${exit}|–)( |$)`)]);
    }
  }
});

test.skipIf(process.getuid?.() !== 0).each([
  ["/dev/null", "/dev/null is no directory"],
  ["/dev/null/below", "/dev/null is no directory"],
  ["/proc/here", "the state directory /proc/here cannot be made"],
])("surface.md §2 no state directory can be at %s: 73", async (state, sentence) => {
  for (const program of ["up", "server", "te-host"]) {
    const told = await rackyard(program, "--state", state);
    expect([told.exitCode, told.stderr]).toEqual([
      73,
      expect.stringContaining(`error: ${sentence} (state-unusable)\n`),
    ]);
  }
});

/** Runs with a disk of its own, in a mount namespace that goes with it. */
function onDisk(size: string, state: string, script: string): Promise<CommandResult> {
  const words = `"${process.execPath}" ${node.join(" ")}`;
  const server = `${words} server --set 'server.listen=["127.0.0.1:0"]'`;
  const text = `mount -t tmpfs -o size=${size} none "$RACKYARD_STATE"
rackyard() { ${words} "$@"; }
${script.replace("SERVER", server)}`;
  const env = plainEnv({ RACKYARD_STATE: state });
  return run("unshare", ["--mount", "sh", "-c", text], { env, accept: "any" });
}

test.skipIf(process.getuid?.() !== 0)(
  "the machine's own disk is full: 73, told as such; with room again it goes on as if nothing was",
  async () => {
    const state = join(root, "full");
    await mkdir(state);
    const none = await onDisk("64k", state, "exec SERVER");
    expect([none.exitCode, none.stderr]).toEqual([
      73,
      expect.stringMatching(/^error: no space left for \S+ \(no-space\)\n.*\n {2}make room: /m),
    ]);
    const filled = await onDisk(
      "4m",
      state,
      `SERVER >&2 & server=$!
until [ -e "$RACKYARD_STATE/run/ready.json" ]; do kill -0 $server || exit 9; done
cat /dev/zero >"$RACKYARD_STATE/fill"
rackyard token create early; echo "full: $?"
rm "$RACKYARD_STATE/fill"
rackyard token create late >/dev/null; echo "room: $?"
rackyard token list
kill $server; wait $server; echo "server: $?"`,
    );
    expect(filled.stderr).toMatch(/^error: no space left for \S+rackyard\.db \(no-space\)$/m);
    expect(filled.stdout).toMatch(/^full: 73\nroom: 0\n[^]* late [^]*\nserver: 0\n$/);
    expect(filled.stdout).not.toContain("early");
  },
);

test("H-1.3 te-host plan where no host ever was: all that it would make, and nothing is made", async () => {
  const state = join(root, "never");
  const planned = await rackyard("te-host", "plan", "--json", "--state", state);
  expect([planned.exitCode, planned.stderr]).toEqual([0, ""]);
  const kinds = (JSON.parse(planned.stdout) as { kind: string }[]).map(({ kind }) => kind);
  expect(kinds.slice(0, 2)).toEqual(["make-cell", "start-daemons"]);
  expect(kinds).toContain("make-disk");
  await expect(readdir(state)).rejects.toMatchObject({ code: "ENOENT" });
});

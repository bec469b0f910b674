/**
 * Passes suites of the last commit in clones that stand where newcomers put them: below a folder of
 * mode 0700, on a path with blanks and umlauts, with /tmp mounted noexec, under umask 077, with
 * another TMPDIR, in another language, with the surroundings that su, sudo and login leave, in CI
 * and not. As root; nothing is fetched, packages are copied from this tree. Prints a line a place;
 * exit 1 if a suite failed in one.
 * Usage: node tools/places.ts [--place NAME]… [--only SUITE]… [--list] [TEST FILE…]
 * Without --only: `pure`, and the scenarios that run the program. `--only live` boots machines.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";

type Place = {
  readonly name: string;
  readonly about: string;
  /** Below the run's folder, which all may enter. */
  readonly folder: string;
  /** Mode of the folder above the clone. */
  readonly mode?: number;
  readonly umask?: number;
  /** Changes of the environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Nothing is inherited but PATH's Node. */
  readonly bare?: boolean;
  /** Run by sh as root in a mount namespace of its own, before the suites. */
  readonly mounts?: string;
};

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const userPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";

const places: readonly Place[] = [
  { name: "closed", about: "below a folder of mode 0700", folder: "root/tree", mode: 0o700 },
  { name: "blanks", about: "blanks and umlauts in the path", folder: "Für Ärzte – CI/my tree" },
  {
    name: "noexec",
    about: "/tmp mounted noexec",
    folder: "tree",
    mounts: "mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 tmpfs /tmp",
    env: { TMPDIR: undefined },
  },
  { name: "umask", about: "cloned and run under umask 077", folder: "tree", umask: 0o077 },
  { name: "tmpdir", about: "TMPDIR elsewhere", folder: "tree", env: { TMPDIR: "@own" } },
  {
    name: "language",
    about: "a locale that is not English, far from UTC",
    folder: "tree",
    env: { LC_ALL: "de_DE.UTF-8", LANG: "de_DE.UTF-8", LANGUAGE: "de", TZ: "Asia/Kathmandu" },
  },
  {
    name: "su",
    about: "root by su: the user's PATH and name",
    folder: "tree",
    env: { PATH: userPath, USER: "dora", LOGNAME: "dora", HOME: "/root", CI: undefined },
  },
  {
    name: "sudo",
    about: "root by sudo",
    folder: "tree",
    env: { PATH: systemPath, SUDO_USER: "dora", SUDO_UID: "1000", SUDO_GID: "1000", CI: undefined },
  },
  { name: "login", about: "a login: nothing inherited, no CI", folder: "tree", bare: true },
  { name: "ci", about: "CI=true", folder: "tree", env: { CI: "true" } },
];

const root = join(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    place: { type: "string", multiple: true, default: [] },
    only: { type: "string", multiple: true, default: [] },
    list: { type: "boolean", default: false },
  },
});
const unknown = values.place.find((name) => !places.some((place) => place.name === name));
if (values.list || unknown !== undefined) {
  for (const { name, about } of places) console.log(`${name.padEnd(10)} ${about}`);
  if (unknown !== undefined) console.error(`error: there is no place ${unknown} (usage)`);
  process.exit(unknown === undefined ? 0 : 64);
}
if (process.getuid?.() !== 0) {
  console.error("error: mounts and other users need root (not-root)");
  process.exit(77);
}
/** A suite and its files; all of them where none are named. */
const runs: readonly (readonly [suite: string, files: readonly string[]])[] =
  values.only.length > 0
    ? values.only.map((suite) => [suite, positionals] as const)
    : [
        ["pure", []],
        ["scenarios", ["errors", "api-server", "lease-command"]],
      ];

const chosen = places.filter(
  ({ name }) => values.place.length === 0 || values.place.includes(name),
);
let failed = 0;
for (const place of chosen) {
  const began = performance.now();
  const wrong = await tryPlace(place);
  const seconds = ((performance.now() - began) / 1_000).toFixed(0);
  console.log(`${wrong === 0 ? "ok    " : "FAILED"} ${place.name.padEnd(10)} ${seconds} s`);
  failed += wrong;
}
process.exitCode = failed === 0 ? 0 : 1;

/** How many suites failed. */
async function tryPlace(place: Place): Promise<number> {
  const base = await mkdtemp("/var/tmp/rackyard-places-");
  try {
    await must("chmod", ["0755", base]);
    const clone = join(base, place.folder);
    const above = dirname(clone);
    if (above !== base) await mkdir(above, { recursive: true, mode: place.mode ?? 0o755 });
    await makeClone(clone, place);
    const own = join(base, "temporary");
    await mkdir(own, { mode: 0o700 });
    const env = environment(place, own);
    let wrong = await within(place, clone, env, [join(clone, "rackyard"), "version"]);
    for (const [suite, files] of runs) {
      const words = ["node_modules/vitest/vitest.mjs", "run", "--project", suite, ...files];
      wrong += await within(place, clone, env, [process.execPath, ...words]);
    }
    return wrong;
  } finally {
    await rm(base, { recursive: true, force: true });
  }
}

/** The last commit, with the packages that this tree has. */
async function makeClone(clone: string, place: Place): Promise<void> {
  const mask = place.umask === undefined ? "" : `umask ${place.umask.toString(8)}; `;
  await must("sh", ["-c", `${mask}git clone --quiet --no-hardlinks "$0" "$1"`, root, clone]);
  for (const packages of ["node_modules", ".tools/node_modules", ".tools/stamps"]) {
    const from = join(root, packages);
    const there = await readFile(join(from, ".rackyard-stamp")).then(
      () => true,
      () => packages.endsWith("stamps"),
    );
    if (!there) continue;
    const copied = cp(from, join(clone, packages), { recursive: true, verbatimSymlinks: true });
    await copied.catch(() => undefined); // no stamps here: the program looks itself
    if (place.umask !== undefined) await must("chmod", ["-R", "go-rwx", join(clone, packages)]);
  }
}

function environment(place: Place, own: string): Record<string, string> {
  const env: Record<string, string> = {};
  const inherited = place.bare ? { HOME: "/root", TERM: "dumb", PATH: systemPath } : process.env;
  for (const [name, value] of Object.entries({ ...inherited, ...place.env })) {
    if (value !== undefined) env[name] = value === "@own" ? own : value;
  }
  // The Node that runs this, whatever the PATH of the place has.
  env["PATH"] = `${dirname(process.execPath)}:${env["PATH"] ?? systemPath}`;
  return env;
}

/** Runs it there; 0 or 1. What it says is shown only when it fails. */
async function within(
  place: Place,
  cwd: string,
  env: Record<string, string>,
  words: readonly string[],
): Promise<number> {
  const mask = place.umask === undefined ? "" : `umask ${place.umask.toString(8)}; `;
  const script = `${place.mounts ?? ":"} && ${mask}exec "$@"`;
  const args = ["--mount", "--propagation", "private", "sh", "-c", script, "sh", ...words];
  const child = spawn("unshare", args, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  const keep = (chunk: Buffer): void => void (said = (said + chunk.toString()).slice(-20_000));
  child.stdout.on("data", keep);
  child.stderr.on("data", keep);
  const [code] = (await once(child, "close")) as [number | null];
  if (code === 0) return 0;
  console.error(
    `--- ${place.name}: ${words.slice(0, 5).join(" ")} (exit ${String(code)})\n${said}`,
  );
  return 1;
}

async function must(command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}: exit ${String(code)}`);
}

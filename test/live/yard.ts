/**
 * An installation of its own for live tests, used as people use it: the command line, git, HTTP.
 * The node image is shared between tests through a cache of the machine's, so that it is built
 * once; everything else lies in a state directory that goes with the yard.
 */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { plainEnv, run } from "../../src/base/command.ts";
import type { CommandResult } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import type { BuildView } from "../../src/model/build.ts";
import type { ChangeView } from "../../src/model/change.ts";
import { calibrateBoot } from "./calibrate.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));
const node = ["--disable-sigusr1", "--disable-warning=ExperimentalWarning", entry];
const imageCache = "/var/cache/rackyard-test/images";

export type YardStatus = {
  readonly event: string;
  readonly pid: number;
  readonly api: string;
  readonly git: string;
  readonly tokenFile: string;
  readonly hosts: readonly {
    readonly name: string;
    readonly testNetwork: { readonly cidr: string; readonly hostIp: string };
    readonly cell: { readonly netns: string };
    readonly testenvs: readonly { readonly id: string; readonly state: string; epoch: string }[];
  }[];
  readonly nodes: readonly { readonly id: string; readonly state: string }[];
  readonly builds: readonly {
    readonly id: string;
    readonly state: string;
    readonly pids: { readonly ssh: readonly number[] };
  }[];
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  readonly health: string;
};

export type Yard = AsyncDisposable & {
  readonly state: string;
  readonly ready: YardStatus;
  /** What Node runs for `rackyard …` on this yard. */
  argv(...words: string[]): string[];
  /** Runs `rackyard …` on this yard; any exit code. */
  cli(...words: string[]): Promise<CommandResult>;
  /** The same with `--json`: the one value it printed. */
  json<T>(...words: string[]): Promise<T>;
  status(): Promise<YardStatus>;
  /** What `doctor --leaks` tells that was not there before this yard: others' leaks are theirs. */
  leaks(): Promise<readonly string[]>;
  /** Writes a file of the layout and has it read. */
  layout(name: string, yaml: string): Promise<CommandResult>;
  /** A project's first content on its branch: files by name, executable where they begin `#!`. */
  content(project: string, files: Readonly<Record<string, string>> | string): Promise<void>;
  /** Pushes a change for review, on top of the branch; `id` makes it a patchset of that change. */
  push(
    project: string,
    change: {
      files?: Readonly<Record<string, string>>;
      patch?: string;
      subject?: string;
      id?: string;
    },
  ): Promise<{ number: number; patchset: number; id: string }>;
  /** A clone for the time of `work`, with another token where one is given. */
  clone<T>(
    project: string,
    work: (git: Git, folder: string) => Promise<T>,
    token?: string,
  ): Promise<T>;
  change(number: number): Promise<ChangeView>;
  builds(change: number): Promise<BuildView[]>;
  /** Waits until the change has a vote of the CI on its present patchset. */
  voted(number: number, times?: number): Promise<ChangeView>;
  /** Waits until the last comment begins so. */
  commented(number: number, text: string): Promise<ChangeView>;
  read(path: string): Promise<Response>;
};

export async function openYard(options: { set?: readonly string[] } = {}): Promise<Yard> {
  const state = await mkdtemp(join(tmpdir(), "yard-"));
  const boot = await calibrateBoot();
  const settings = [`teHost.images.cache=${imageCache}`, ...(options.set ?? [])];
  const always = ["--state", state, ...settings.flatMap((one) => ["--set", one])];
  const argv = (...words: string[]): string[] => {
    const at = words.includes("--") ? words.indexOf("--") : words.length;
    return [...node, ...words.slice(0, at), ...always, ...words.slice(at)];
  };
  const cli = (...words: string[]): Promise<CommandResult> =>
    run(process.execPath, argv(...words), {
      env: plainEnv(),
      accept: "any",
      timeoutMs: 540_000,
    });
  const json = async <T>(...words: string[]): Promise<T> => {
    const done = await cli(...words, "--json");
    if (done.stdout.trim() === "") throw new Error(`${words.join(" ")}: ${done.stderr}`);
    return JSON.parse(done.stdout) as T;
  };
  const leaks = async (): Promise<string[]> => {
    const { left } = await json<{ left: Record<string, string>[] }>("doctor", "--leaks");
    return left.map(({ kind, name, why }) => `${kind} ${name}: ${why}`);
  };
  const leaked = new Set(await leaks());
  const ready = await json<YardStatus>("up", "--detach");
  const token = (await readFile(ready.tokenFile, "utf8")).trim();
  const clone = <T>(
    project: string,
    work: (git: Git, folder: string) => Promise<T>,
    other = token,
  ): Promise<T> => cloneOf(`${ready.git}/${project}`, other, work);
  const read = (path: string): Promise<Response> => fetch(new URL(path, ready.api));
  const change = (number: number): Promise<ChangeView> =>
    json<ChangeView>("change", "show", String(number));

  return {
    state,
    ready,
    argv,
    cli,
    json,
    status: () => json<YardStatus>("status"),
    leaks: async () => (await leaks()).filter((leak) => !leaked.has(leak)),
    async layout(name, yaml) {
      await writeFile(join(state, "layout", name), yaml);
      return cli("reload");
    },
    clone,
    content: (project, files) =>
      clone(project, async (run_, folder) => {
        await put(folder, files);
        await run_("add", "--all");
        await run_("commit", "--quiet", "-m", "First content");
        await run_("push", "--quiet", "origin", "HEAD:refs/heads/master");
      }),
    push: (project, what) =>
      clone(project, async (run_, folder) => {
        if (what.patch !== undefined) await run_("apply", "--index", what.patch);
        if (what.files) await put(folder, what.files);
        await run_("add", "--all");
        const id = what.id ?? newChangeId();
        await run_("commit", "--quiet", "-m", what.subject ?? "Change", "-m", `Change-Id: ${id}`);
        const said = stripVTControlCharacters(await run_("push", "origin", "HEAD:refs/for/master"));
        const found = /remote: change (\d+) patchset (\d+): /.exec(said);
        if (!found) throw new Error(`the push was not understood: ${said}`);
        return { number: Number(found[1]), patchset: Number(found[2]), id };
      }),
    change,
    builds: async (number) =>
      (await json<{ items: BuildView[] }>("build", "list", "--change", String(number))).items,
    voted: (number, times = 60) =>
      until(
        async () => {
          const seen = await change(number);
          return seen.votes.some(({ label }) => label === "Verified") && seen;
        },
        { timeoutMs: boot * times, everyMs: 500, what: `a vote on change ${number}` },
      ),
    commented: (number, text) =>
      until(
        async () => {
          const seen = await change(number);
          return seen.comments.at(-1)?.text.startsWith(text) && seen;
        },
        { timeoutMs: boot * 60, everyMs: 500, what: `"${text}" on change ${number}` },
      ),
    read,
    async [Symbol.asyncDispose]() {
      await cli("down", "--purge");
      await rm(state, { recursive: true, force: true });
    },
  };
}

export type Git = (...words: string[]) => Promise<string>;

/** A clone of a project for the time of `work`; git's stderr is what each call gives. */
async function cloneOf<T>(
  url: string,
  token: string,
  work: (git: Git, folder: string) => Promise<T>,
): Promise<T> {
  const home = await mkdtemp(join(tmpdir(), "yard-git-"));
  const folder = join(home, "work");
  const env = plainEnv({
    HOME: home,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_TERMINAL_PROMPT: "0",
    GIT_AUTHOR_NAME: "Ada",
    GIT_AUTHOR_EMAIL: "ada@example.org",
    GIT_COMMITTER_NAME: "Ada",
    GIT_COMMITTER_EMAIL: "ada@example.org",
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "http.extraHeader",
    GIT_CONFIG_VALUE_0: `Authorization: Bearer ${token}`,
  });
  const git: Git = async (...words) => {
    const options = { env, timeoutMs: 60_000, accept: "any" } as const;
    const { exitCode, stderr } = await run("git", ["-C", folder, ...words], options);
    if (exitCode !== 0) throw new Error(stripVTControlCharacters(stderr));
    return stderr;
  };
  try {
    await mkdir(folder);
    await git("init", "--quiet", "-b", "master");
    await git("remote", "add", "origin", url);
    await git("fetch", "--quiet", "origin");
    const heads = await run("git", ["-C", folder, "branch", "--remotes"], { env });
    if (heads.stdout.includes("origin/master")) await git("reset", "-q", "--hard", "origin/master");
    return await work(git, folder);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function put(
  folder: string,
  files: Readonly<Record<string, string>> | string,
): Promise<void> {
  if (typeof files === "string") return cp(files, folder, { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
  }
}

let changes = 0;
function newChangeId(): string {
  changes++;
  return `I${(BigInt(Date.now()) * 1000n + BigInt(changes)).toString(16).padStart(40, "0")}`;
}

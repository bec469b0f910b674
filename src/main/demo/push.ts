/**
 * The author's side of the demo: first contents of the projects, then a change, all with git as
 * anybody would push them. The token goes to git by its environment, never in arguments or URLs.
 */
import { cp, readdir, rm } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { plainEnv, run } from "../../base/command.ts";
import type { CommandResult } from "../../base/command.ts";
import { fail } from "../../base/errors.ts";
import { temporaryFolder } from "../../base/files.ts";
import { limits } from "../../base/limits.ts";
import type { DemoChange, DemoManifest } from "./manifest.ts";

export type Remote = { readonly url: string; readonly token: string; readonly signal: AbortSignal };
export type Pushed = {
  readonly number: number;
  readonly patchset: number;
  readonly url: string;
  /** Wall time at which git began to push. */
  readonly atMs: number;
};

const branch = "master";
const author = { name: "Rackyard Demo", email: "demo@rackyard.invalid" };

/** Brings each project's branch to what lies in the example's folder; content when it is there. */
export async function pushContents(manifest: DemoManifest, remote: Remote): Promise<void> {
  for (const project of manifest.projects) {
    await withClone(project.name, remote, async (git, folder) => {
      for (const name of await readdir(folder)) {
        if (name !== ".git") await rm(join(folder, name), { recursive: true });
      }
      await cp(project.path, folder, { recursive: true, verbatimSymlinks: true });
      await git(["add", "--all"]);
      const changed = await git(["status", "--porcelain"]);
      if (changed.stdout === "") return;
      await git(["commit", "--quiet", "-m", "Bring the demo's contents"]);
      const pushed = await git(["push", "--quiet", "origin", `HEAD:refs/heads/${branch}`], "any");
      // Another demo may have been faster with the same contents.
      if (
        pushed.exitCode !== 0 &&
        !/fetch first|non-fast-forward|cannot lock/.test(pushed.stderr)
      ) {
        fail("push-refused", `${project.name}: ${lastLine(pushed.stderr)}`);
      }
    });
  }
}

/** Makes a change of the patch and pushes it for review. */
export async function pushChange(change: DemoChange, remote: Remote): Promise<Pushed> {
  return withClone(change.project, remote, async (git) => {
    await git(["apply", "--index", change.patch]);
    const changeId = `I${randomBytes(20).toString("hex")}`;
    await git(["commit", "--quiet", "-m", change.subject, "-m", `Change-Id: ${changeId}`]);
    const atMs = Date.now();
    const { stderr } = await git(["push", "origin", `HEAD:refs/for/${branch}`]);
    const said = stripVTControlCharacters(stderr);
    const found = /remote: change (\d+) patchset (\d+): .*\n *remote: +(\S+)/.exec(said);
    if (!found) return fail("push-refused", `the push was not understood: ${lastLine(stderr)}`);
    return { number: Number(found[1]), patchset: Number(found[2]), url: found[3]!, atMs };
  });
}

type RunGit = (args: readonly string[], accept?: "any") => Promise<CommandResult>;

async function withClone<T>(
  project: string,
  remote: Remote,
  work: (git: RunGit, folder: string) => Promise<T>,
): Promise<T> {
  const home = await temporaryFolder("rackyard-demo-");
  const folder = join(home, "work");
  try {
    const env = gitEnv(home, remote);
    const options = { env, timeoutMs: limits.gitMs, signal: remote.signal };
    const git: RunGit = (args, accept) =>
      run("git", ["-C", folder, ...args], { ...options, ...(accept ? { accept } : {}) });
    await run("git", ["init", "--quiet", "-b", branch, folder], options);
    await git(["remote", "add", "origin", `${remote.url}/${project}`]);
    await git(["fetch", "--quiet", "origin"]);
    const there = await git(["rev-parse", "--verify", "--quiet", `origin/${branch}`], "any");
    if (there.exitCode === 0) await git(["reset", "--quiet", "--hard", `origin/${branch}`]);
    return await work(git, folder);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

function gitEnv(home: string, remote: Remote): Record<string, string> {
  return plainEnv({
    HOME: home,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_TERMINAL_PROMPT: "0",
    GIT_AUTHOR_NAME: author.name,
    GIT_AUTHOR_EMAIL: author.email,
    GIT_COMMITTER_NAME: author.name,
    GIT_COMMITTER_EMAIL: author.email,
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "http.extraHeader",
    GIT_CONFIG_VALUE_0: `Authorization: Bearer ${remote.token}`,
  });
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}

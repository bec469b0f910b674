/**
 * Freezes one project for an item: fetches branches and the item's changes into the merger's own
 * repository, and says what all branches are at that moment (ci.md M-5, M-7). A fetch is tried
 * three times; a broken cache is cloned again.
 */
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { retry } from "../../base/retry.ts";
import type { Git } from "../../git/git-command.ts";
import type { Repositories } from "../../git/repositories.ts";
import { readBranches, readRefs } from "../../git/repository.ts";
import { zuulName } from "./plan.ts";

export type MergeItem = {
  readonly project: string;
  readonly branch: string;
  readonly change: number;
  readonly patchset: number;
  /** `refs/changes/NN/NUMBER/PS` in the project's source, and the commit it must name. */
  readonly ref: string;
  readonly commit: string;
};

export type Frozen = {
  readonly branches: ReadonlyMap<string, string>;
  readonly defaultBranch: string;
  /** Branch → result so far. */
  readonly merged: Map<string, string>;
  /** Branch → result before the tested item (M-6). */
  readonly ahead: Map<string, string>;
};

export type FreezeParts = {
  readonly git: Git;
  readonly source: (project: string) => string | undefined;
  readonly log: Log;
};

/** Fetches what the item needs, and reads what all branches are now (M-5, M-7). */
export async function freezeProject(
  parts: FreezeParts,
  repositories: Repositories,
  what: { project: string; items: readonly MergeItem[]; buildset: string },
  signal: AbortSignal,
): Promise<Frozen> {
  const { git, log } = parts;
  const { project, items } = what;
  const source = parts.source(project);
  if (source === undefined) fail("unknown-project", `there is no project ${project}`);
  const fetched = (item: MergeItem): string =>
    `refs/frozen/${zuulName(what.buildset)}/changes/${item.change}/${item.patchset}`;
  const refspecs = items.map((item) => `+${item.ref}:${fetched(item)}`);
  await retry(
    async (attempt) => {
      const repository = await repositories.ensure(project);
      try {
        await fetchInto(
          git,
          repository,
          source,
          ["+refs/heads/*:refs/heads/*", ...refspecs],
          signal,
        );
      } catch (error) {
        signal.throwIfAborted();
        log.warn({ err: error, project, attempt }, "merger: a fetch failed");
        if (!(await isHealthy(git, repository, signal))) await repositories.remove(project);
        throw error;
      }
    },
    { tries: limits.gitTries, firstMs: limits.backoffFirstMs, signal },
  );
  const repository = repositories.path(project);
  const refs = await readRefs(git, repository, [`refs/frozen/${zuulName(what.buildset)}/`]);
  for (const item of items) {
    if (refs.get(fetched(item)) === item.commit) continue;
    fail("not-found", `${project}: ${item.ref} is not commit ${item.commit} (any more)`);
  }
  const branches = await readBranches(git, repository, { signal });
  const defaultBranch = await readSourceHead(git, repository, source, branches, signal);
  if (defaultBranch === undefined) fail("not-found", `project ${project} has no branches yet`);
  await git.run(repository, ["symbolic-ref", "HEAD", `refs/heads/${defaultBranch}`], { signal });
  return { branches, defaultBranch, merged: new Map(), ahead: new Map() };
}

async function fetchInto(
  git: Git,
  repository: string,
  source: string,
  refspecs: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const options = ["--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--no-auto-gc"];
  await git.run(repository, ["fetch", ...options, "--", source, ...refspecs], { signal });
}

/** M-7: a broken cache is cloned again. */
async function isHealthy(git: Git, repository: string, signal: AbortSignal): Promise<boolean> {
  const check = await git
    .run(repository, ["fsck", "--connectivity-only", "--no-dangling"], { signal, accept: "any" })
    .catch(() => undefined);
  signal.throwIfAborted();
  return check?.exitCode === 0;
}

/** V-3: the default branch is what the server says, or the one branch there is. */
async function readSourceHead(
  git: Git,
  repository: string,
  source: string,
  branches: ReadonlyMap<string, string>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { stdout } = await git.run(repository, ["ls-remote", "--symref", "--", source, "HEAD"], {
    signal,
  });
  const named = /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(stdout)?.[1];
  if (named !== undefined && branches.has(named)) return named;
  return [...branches.keys()][0];
}

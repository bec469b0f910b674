/**
 * Freezes one project for an item: fetches branches, tags and the item's changes into the merger's
 * own repository, and says what all refs are at that moment (ci.md M-5, M-7). The project's turn
 * is the caller's: nothing else writes there meanwhile, so that a lock that is found is of a git
 * that has died. A fetch is tried three times; what does not heal is cloned again.
 */
import { readFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { retry } from "../../base/retry.ts";
import type { Git } from "../../git/git-command.ts";
import type { Repositories } from "../../git/repositories.ts";
import { missingCommits, keepState, readState } from "../../git/repository-state.ts";
import type { RefState } from "../../git/repository-state.ts";
import { removeLocks } from "../../git/strays.ts";

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
  /** A commit whose text lists branches and tags as frozen, and which keeps all of them. */
  readonly state: string;
  /** Branch → result so far. */
  readonly merged: Map<string, string>;
  /** Branch → result before the tested item (M-6). */
  readonly ahead: Map<string, string>;
};

export type FreezeParts = {
  readonly git: Git;
  readonly repositories: Repositories;
  readonly source: (project: string) => string | undefined;
  readonly log: Log;
};

export type Freezer = {
  /** Within the project's turn. */
  freeze(project: string, items: readonly MergeItem[], signal: AbortSignal): Promise<Frozen>;
  /** What is known of the project's copy is no longer so. */
  forget(project: string): void;
};

/** What a copy is known to hold, so that an unchanged project costs one look at its source. */
type Copy = { readonly refs: RefState; readonly state: string };

export function openFreezer(parts: FreezeParts): Freezer {
  const { git, repositories, log } = parts;
  const copies = new Map<string, Copy>();
  const opened = new Set<string>();

  /** The copy with all it takes; a git that died there in an earlier life leaves no lock. */
  async function fetchAll(
    project: string,
    source: string,
    refs: readonly string[],
    signal: AbortSignal,
  ): Promise<{ remade: boolean }> {
    let remade = false;
    await retry(
      async (attempt) => {
        const repository = await repositories.ensure(project);
        if (attempt > 1 || !opened.has(project)) {
          const locks = await removeLocks(repository);
          if (locks.length > 0) log.warn({ project, locks }, "merger: locks of a dead git removed");
          opened.add(project);
        }
        try {
          await fetchInto(git, repository, source, refs, signal);
        } catch (error) {
          signal.throwIfAborted();
          log.warn({ err: error, project, attempt }, "merger: a fetch failed");
          if (!(await isHealthy(git, repository, signal))) {
            await repositories.remove(project);
            remade = true;
          }
          throw error;
        }
      },
      { tries: limits.gitTries, firstMs: limits.backoffFirstMs, signal },
    );
    return { remade };
  }

  async function current(
    project: string,
    source: string,
    items: readonly MergeItem[],
    signal: AbortSignal,
  ): Promise<Copy> {
    const known = repositories.has(project) ? copies.get(project) : undefined;
    if (known && items.length === 0) {
      const there = await readState(git, repositories.path(project), source, { signal });
      if (there.digest === known.refs.digest) return known;
    }
    copies.delete(project);
    const wanted = items.map((item) => item.ref);
    const { remade } = await fetchAll(project, source, wanted, signal);
    const repository = repositories.path(project);
    const refs = await readState(git, repository, undefined, { signal });
    const state =
      known?.refs.digest === refs.digest && !remade
        ? known.state
        : await keepState(git, repository, refs, { signal });
    const copy = { refs, state };
    copies.set(project, copy);
    return copy;
  }

  return {
    forget: (project) => void copies.delete(project),
    async freeze(project, items, signal) {
      const source = parts.source(project);
      if (source === undefined) fail("unknown-project", `there is no project ${project}`);
      const { refs, state } = await current(project, source, items, signal);
      const repository = repositories.path(project);
      const missing = await missingCommits(
        git,
        repository,
        items.map((item) => item.commit),
        { signal },
      );
      const lost = items.find((item) => missing.has(item.commit));
      if (lost)
        fail("not-found", `${project}: ${lost.ref} is not commit ${lost.commit} (any more)`);
      const { branches } = refs;
      const named = await readSourceHead(git, repository, source, signal);
      const defaultBranch = branches.has(named ?? "") ? named : [...branches.keys()][0];
      if (defaultBranch === undefined) fail("not-found", `project ${project} has no branches yet`);
      return { branches, defaultBranch, state, merged: new Map(), ahead: new Map() };
    },
  };
}

async function fetchInto(
  git: Git,
  repository: string,
  source: string,
  refs: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const options = ["--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--no-auto-gc"];
  const all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", ...refs];
  await git.run(repository, ["fetch", ...options, "--", source, ...all], { signal });
}

/** M-7: a broken cache is cloned again. */
async function isHealthy(git: Git, repository: string, signal: AbortSignal): Promise<boolean> {
  const check = await git
    .run(repository, ["fsck", "--connectivity-only", "--no-dangling"], { signal, accept: "any" })
    .catch(() => undefined);
  signal.throwIfAborted();
  return check?.exitCode === 0;
}

/** V-3: the default branch as the server says: HEAD of a repository on this machine, or asked. */
async function readSourceHead(
  git: Git,
  repository: string,
  source: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (isAbsolute(source)) {
    const text = await readFile(join(source, "HEAD"), "utf8").catch(() => "");
    return /^ref: refs\/heads\/(.+)$/m.exec(text)?.[1]?.trim();
  }
  const args = ["ls-remote", "--symref", "--", source, "HEAD"];
  const { stdout } = await git.run(repository, args, { signal });
  return /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(stdout)?.[1];
}

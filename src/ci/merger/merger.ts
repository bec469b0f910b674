/**
 * The merger (ci.md §12): makes the exact state of every repository that an item is tested on,
 * in repositories of its own, which the nodes fetch from. Fetches, merges without a working
 * tree, publishes refs, and remembers what it froze, so that asked again it answers the same.
 * A conflict is the author's; an error is ours or the world's, and is tried again by the caller.
 */
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { describeError, fail, isRackyardError } from "../../base/errors.ts";
import { readTextIfAny, writeFileAtomic } from "../../base/files.ts";
import type { Log } from "../../base/log.ts";
import type { Git, GitOptions } from "../../git/git-command.ts";
import { openRepositories } from "../../git/repositories.ts";
import type { Repositories } from "../../git/repositories.ts";
import {
  areRelated,
  changedFiles,
  commitTree,
  isAncestor,
  mergeTrees,
  readCommit,
  readRefs,
  setRefs,
} from "../../git/repository.ts";
import { openTurns } from "../../git/turns.ts";
import type { PreparedRepo } from "../../model/job.ts";
import { freezeProject } from "./freeze.ts";
import type { Frozen, MergeItem } from "./freeze.ts";
import { planRevision, zuulName, zuulRef } from "./plan.ts";

export type MergeRequest = {
  /** Names the state: the buildset's id. */
  readonly buildset: string;
  /** Oldest first; the tested one last. */
  readonly items: readonly MergeItem[];
  /** Of all its jobs; the items' own are always among them. */
  readonly requiredProjects: readonly string[];
};

export type MergeResult =
  | {
      readonly kind: "merged";
      readonly repos: readonly PreparedRepo[];
      /** Of the tested item. */
      readonly zuulRef: string;
      readonly zuulCommit: string;
      /** M-7: what the tested commit itself changes. */
      readonly files: readonly string[];
    }
  | { readonly kind: "conflict"; readonly files: readonly string[]; readonly message: string }
  /** `retryable` false: it will not be otherwise the next time (an unknown project). */
  | { readonly kind: "error"; readonly detail: string; readonly retryable: boolean };

export type Merger = {
  /** For the nodes' door. */
  readonly repositories: Repositories;
  /** Throws only the signal's reason, and for mistakes of ours. */
  prepare(request: MergeRequest, signal: AbortSignal): Promise<MergeResult>;
  /** M-4: forgets the states of all buildsets but these, and packs. */
  sweep(live: ReadonlySet<string>, signal: AbortSignal): Promise<{ forgotten: number }>;
};

export type MergerOptions = {
  /** `<state>/server/merger` */
  readonly directory: string;
  readonly git: Git;
  /** Where a project is fetched from; undefined: there is no such project. */
  readonly source: (project: string) => string | undefined;
  readonly log: Log;
};

/** No project can be called so. */
const PREPARED = ".prepared";

type Conflict = Extract<MergeResult, { kind: "conflict" }>;

export function openMerger(options: MergerOptions): Merger {
  const { git, log } = options;
  const repositories = openRepositories(git, options.directory);
  const turns = openTurns();
  const underway = new Map<string, number>();
  const remembered = (buildset: string): string =>
    join(options.directory, PREPARED, `${zuulName(buildset)}.json`);

  async function prepareOnce(request: MergeRequest, signal: AbortSignal): Promise<MergeResult> {
    const known = await recall(remembered(request.buildset), request);
    if (known) return known;
    const projects = [
      ...new Set([...request.items.map((one) => one.project), ...request.requiredProjects]),
    ];
    const freezing = projects.map(async (project) => {
      const items = request.items.filter((item) => item.project === project);
      const freeze = () =>
        freezeProject(
          options,
          repositories,
          { project, items, buildset: request.buildset },
          signal,
        );
      return [project, await turns.inTurn(project, freeze)] as const;
    });
    await Promise.allSettled(freezing);
    const frozen = new Map(await Promise.all(freezing));
    for (const item of request.items) {
      if (item === request.items.at(-1)) keepAhead(frozen);
      const conflict = await mergeItem(git, repositories, frozen.get(item.project)!, item, signal);
      if (conflict) return conflict;
    }
    await publish(git, repositories, frozen, request, signal);
    const result = await describe(git, repositories, frozen, request, signal);
    await remember(remembered(request.buildset), request, result);
    return result;
  }

  return {
    repositories,
    async prepare(request, signal) {
      const name = zuulName(request.buildset);
      underway.set(name, (underway.get(name) ?? 0) + 1);
      try {
        return await prepareOnce(request, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!isRefusal(error)) throw error;
        log.warn({ err: error, buildset: request.buildset }, "merger: cannot prepare");
        const retryable =
          !isRackyardError(error, "unknown-project") && !isRackyardError(error, "not-found");
        return { kind: "error", detail: describeError(error), retryable };
      } finally {
        const left = underway.get(name)! - 1;
        if (left === 0) underway.delete(name);
        else underway.set(name, left);
      }
    },
    async sweep(live, signal) {
      const keep = new Set([...live].map(zuulName));
      const over = (name: string): boolean => !keep.has(name) && !underway.has(name);
      let forgotten = 0;
      await mkdir(join(options.directory, PREPARED), { recursive: true });
      for (const file of await readdir(join(options.directory, PREPARED))) {
        if (!over(file.replace(/\.json$/, ""))) continue;
        await rm(join(options.directory, PREPARED, file), { force: true });
        forgotten++;
      }
      for (const project of await repositories.list()) {
        signal.throwIfAborted();
        const repository = repositories.path(project);
        const refs = await readRefs(git, repository, ["refs/zuul/", "refs/frozen/"], { signal });
        const dead = [...refs.keys()].filter((ref) =>
          over(/\/(Z[0-9a-f]{32})(?:\/|$)/.exec(ref)?.[1] ?? ""),
        );
        await setRefs(git, repository, new Map(dead.map((ref) => [ref, null])), { signal });
        await turns.inTurn(project, () => repositories.maintain(project, signal));
      }
      return { forgotten };
    },
  };
}

/** What the world refuses, or the machine: not our own mistakes. */
function isRefusal(error: unknown): boolean {
  if (isRackyardError(error)) return true;
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === "string";
}

/** M-1, M-2 merge-resolve: onto the branch's tip, or the previous item's result. */
async function mergeItem(
  git: Git,
  repositories: Repositories,
  frozen: Frozen,
  item: MergeItem,
  signal: AbortSignal,
): Promise<Conflict | undefined> {
  const options: GitOptions = { signal };
  const repository = repositories.path(item.project);
  const onto = frozen.merged.get(item.branch) ?? frozen.branches.get(item.branch);
  if (onto === undefined)
    fail("not-found", `${item.project} has no branch ${item.branch} any more`);
  if (await isAncestor(git, repository, item.commit, onto, options)) {
    frozen.merged.set(item.branch, onto);
    return undefined;
  }
  if (await isAncestor(git, repository, onto, item.commit, options)) {
    frozen.merged.set(item.branch, item.commit);
    return undefined;
  }
  const name = `change ${item.change} patchset ${item.patchset}`;
  if (!(await areRelated(git, repository, onto, item.commit, options))) {
    const message = `${name} shares no history with branch ${item.branch} of ${item.project}`;
    return { kind: "conflict", files: [], message };
  }
  const outcome = await mergeTrees(git, repository, onto, item.commit, options);
  if (outcome.kind === "conflict") {
    const where = `${item.project} ${item.branch}`;
    const message = `${name} does not merge into ${where}:\n${outcome.message}`;
    return { kind: "conflict", files: outcome.files, message };
  }
  const parents = [onto, item.commit];
  const dates = [];
  for (const id of parents)
    dates.push((await readCommit(git, repository, id, options)).committedAt);
  const merged = await commitTree(
    git,
    repository,
    {
      tree: outcome.tree,
      parents,
      message: `Merge ${name} into ${item.branch}\n`,
      atSeconds: Math.max(...dates),
    },
    options,
  );
  frozen.merged.set(item.branch, merged);
  return undefined;
}

/** M-6: the state before the tested item is what the workspace's origin shows. */
function keepAhead(frozen: ReadonlyMap<string, Frozen>): void {
  for (const { merged, ahead } of frozen.values()) {
    for (const [branch, commit] of merged) ahead.set(branch, commit);
  }
}

/** M-4, M-5: the item's refs where it changes something, and all branches as frozen. */
async function publish(
  git: Git,
  repositories: Repositories,
  frozen: ReadonlyMap<string, Frozen>,
  request: MergeRequest,
  signal: AbortSignal,
): Promise<void> {
  for (const [project, state] of frozen) {
    const refs = new Map<string, string>();
    for (const [branch, commit] of state.branches) {
      refs.set(`refs/frozen/${zuulName(request.buildset)}/heads/${branch}`, commit);
    }
    for (const [branch, commit] of state.merged)
      refs.set(zuulRef(branch, request.buildset), commit);
    await setRefs(git, repositories.path(project), refs, { signal });
  }
}

async function describe(
  git: Git,
  repositories: Repositories,
  frozen: ReadonlyMap<string, Frozen>,
  request: MergeRequest,
  signal: AbortSignal,
): Promise<Extract<MergeResult, { kind: "merged" }>> {
  const tested = request.items.at(-1)!;
  const repos: PreparedRepo[] = [];
  for (const [project, state] of frozen) {
    const revision = planRevision({ project, ...state }, tested.branch, request.buildset);
    if (revision.kind === "impossible") fail("not-found", revision.detail);
    repos.push(revision.repo);
  }
  const repository = repositories.path(tested.project);
  const commit = await readCommit(git, repository, tested.commit, { signal });
  return {
    kind: "merged",
    repos,
    zuulRef: zuulRef(tested.branch, request.buildset),
    zuulCommit: frozen.get(tested.project)!.merged.get(tested.branch)!,
    files: await changedFiles(git, repository, commit, { signal }),
  };
}

/** M-4: an item that was prepared is not merged again; a changed request is another one. */
async function recall(path: string, request: MergeRequest): Promise<MergeResult | undefined> {
  const text = await readTextIfAny(path);
  if (text === undefined) return undefined;
  const kept = JSON.parse(text) as { asked: string; result: MergeResult };
  return kept.asked === keyOf(request) ? kept.result : undefined;
}

async function remember(path: string, request: MergeRequest, result: MergeResult): Promise<void> {
  await writeFileAtomic(path, JSON.stringify({ asked: keyOf(request), result }));
}

function keyOf(request: MergeRequest): string {
  const items = request.items.map((item) => `${item.project} ${item.branch} ${item.commit}`);
  return JSON.stringify([items, [...request.requiredProjects].sort()]);
}

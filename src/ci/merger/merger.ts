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
import type { Git } from "../../git/git-command.ts";
import { withAttributes } from "../../git/merge-attributes.ts";
import { openRepositories } from "../../git/repositories.ts";
import type { Repositories } from "../../git/repositories.ts";
import { stateRef } from "../../git/repository-state.ts";
import {
  changedFiles,
  commitTimes,
  commitTree,
  isOutOfBounds,
  mergeTrees,
  readRefs,
  relationOf,
  setRefs,
} from "../../git/repository.ts";
import type { ChangedFiles } from "../../git/repository.ts";
import { openTurns } from "../../git/turns.ts";
import type { PreparedRepo } from "../../model/job.ts";
import { openFreezer } from "./freeze.ts";
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
      readonly files: ChangedFiles;
    }
  | { readonly kind: "conflict"; readonly files: readonly string[]; readonly message: string }
  /**
   * Neither the author's nor another change's doing, or not known to be. `request`: what is asked
   * for is not there (an unknown project); `limit`: git met a limit of ours, and would again;
   * `machine`: another try may succeed.
   */
  | {
      readonly kind: "error";
      readonly detail: string;
      readonly cause: "request" | "limit" | "machine";
    };

export type Merger = {
  /** For the nodes' door. */
  readonly repositories: Repositories;
  /** Throws only the signal's reason, and for mistakes of ours. */
  prepare(request: MergeRequest, signal: AbortSignal): Promise<MergeResult>;
  /**
   * M-4: forgets the states of all buildsets but the living, and packs. `live` is asked in each
   * project's turn: what was prepared since the sweep began is among them.
   */
  sweep(live: () => ReadonlySet<string>, signal: AbortSignal): Promise<{ forgotten: number }>;
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
  const freezer = openFreezer({ ...options, repositories });
  const underway = new Map<string, number>();
  const prepared = join(options.directory, PREPARED);
  const remembered = (buildset: string): string => join(prepared, `${zuulName(buildset)}.json`);

  /** One project, whole, in its turn: frozen, merged, and named by refs. */
  function prepareProject(project: string, request: MergeRequest, signal: AbortSignal) {
    return turns.inTurn(project, async (): Promise<Frozen | Conflict> => {
      const items = request.items.filter((item) => item.project === project);
      const frozen = await freezer.freeze(project, items, signal);
      const repository = repositories.path(project);
      for (const item of request.items) {
        // M-6: the state before the tested item is what the workspace's origin shows
        if (item === request.items.at(-1)) {
          for (const [branch, commit] of frozen.merged) frozen.ahead.set(branch, commit);
        }
        if (item.project !== project) continue;
        const conflict = await mergeItem(git, repository, frozen, item, signal);
        if (conflict) return conflict;
      }
      const refs = new Map([[stateRef(frozen.state), frozen.state]]);
      for (const [branch, commit] of frozen.merged) {
        refs.set(zuulRef(branch, request.buildset), commit);
      }
      await setRefs(git, repository, refs, { signal });
      return frozen;
    });
  }

  async function prepareOnce(request: MergeRequest, signal: AbortSignal): Promise<MergeResult> {
    const known = await recall(git, repositories, remembered(request.buildset), request);
    if (known) return known;
    const projects = [
      ...new Set([...request.items.map((one) => one.project), ...request.requiredProjects]),
    ];
    const preparing = projects.map(
      async (project) => [project, await prepareProject(project, request, signal)] as const,
    );
    await Promise.allSettled(preparing);
    const frozen = new Map<string, Frozen>();
    for (const [project, one] of await Promise.all(preparing)) {
      if ("kind" in one) return one;
      frozen.set(project, one);
    }
    const result = await describe(git, repositories, frozen, request, signal);
    await writeFileAtomic(
      remembered(request.buildset),
      JSON.stringify({ asked: keyOf(request), result }),
    );
    return result;
  }

  /** In the project's turn. What lives keeps its own refs and the state it was frozen in. */
  async function sweepProject(
    project: string,
    isLive: (name: string) => boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const repository = repositories.path(project);
    const refs = await readRefs(git, repository, ["refs/zuul/", "refs/frozen/"], { signal });
    const states = await statesInUse(prepared, isLive);
    const dead = [...refs.keys()].filter((ref) => {
      const state = /^refs\/frozen\/([0-9a-f]{40,64})$/.exec(ref)?.[1];
      if (state !== undefined) return underway.size === 0 && !states.has(state);
      return !isLive(/\/(Z[0-9a-f]{32})(?:\/|$)/.exec(ref)?.[1] ?? "");
    });
    if (dead.some((ref) => ref.startsWith("refs/frozen/"))) freezer.forget(project);
    await setRefs(git, repository, new Map(dead.map((ref) => [ref, null])), { signal });
    await repositories.maintain(project, signal);
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
        return { kind: "error", detail: describeError(error), cause: causeOf(error) };
      } finally {
        const left = underway.get(name)! - 1;
        if (left === 0) underway.delete(name);
        else underway.set(name, left);
      }
    },
    async sweep(live, signal) {
      const isLive = (name: string): boolean =>
        underway.has(name) || [...live()].some((buildset) => zuulName(buildset) === name);
      let forgotten = 0;
      await mkdir(prepared, { recursive: true });
      for (const file of await readdir(prepared)) {
        if (isLive(file.replace(/\.json$/, ""))) continue;
        await rm(join(prepared, file), { force: true });
        forgotten++;
      }
      for (const project of await repositories.list()) {
        signal.throwIfAborted();
        await turns.inTurn(project, async () => {
          const names = new Set([...live()].map(zuulName));
          await sweepProject(project, (name) => names.has(name) || underway.has(name), signal);
        });
      }
      return { forgotten };
    },
  };
}

/** States that living buildsets were frozen in. */
async function statesInUse(
  prepared: string,
  isLive: (name: string) => boolean,
): Promise<ReadonlySet<string>> {
  const states = new Set<string>();
  for (const file of await readdir(prepared)) {
    if (!isLive(file.replace(/\.json$/, ""))) continue;
    const kept = await readKept(join(prepared, file));
    for (const repo of kept?.result.repos ?? []) states.add(repo.state ?? "");
  }
  return states;
}

/** What the world refuses, or the machine: not our own mistakes. */
function isRefusal(error: unknown): boolean {
  if (isRackyardError(error)) return true;
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === "string";
}

function causeOf(error: unknown): "request" | "limit" | "machine" {
  if (isRackyardError(error, "unknown-project") || isRackyardError(error, "not-found")) {
    return "request";
  }
  // a limit of time is met on a busy machine too
  return isOutOfBounds(error) && !isRackyardError(error, "timed-out") ? "limit" : "machine";
}

/** A merge that met a limit of time or memory would meet it again: its trees are made for that. */
async function mergeOrLimit<T>(name: string, merge: () => Promise<T>): Promise<T> {
  try {
    return await merge();
  } catch (cause) {
    if (!isOutOfBounds(cause)) throw cause;
    return fail("too-large", `${name}: its merge takes more time or memory than git may use`, {
      cause,
    });
  }
}

/** M-1, M-2 merge-resolve: onto the branch's tip, or the previous item's result. */
async function mergeItem(
  git: Git,
  repository: string,
  frozen: Frozen,
  item: MergeItem,
  signal: AbortSignal,
): Promise<Conflict | undefined> {
  const options = { signal };
  const onto = frozen.merged.get(item.branch) ?? frozen.branches.get(item.branch);
  if (onto === undefined)
    fail("not-found", `${item.project} has no branch ${item.branch} any more`);
  const name = `change ${item.change} patchset ${item.patchset}`;
  const relation = await relationOf(git, repository, onto, item.commit, options);
  if (relation === "contains" || relation === "contained") {
    frozen.merged.set(item.branch, relation === "contains" ? onto : item.commit);
    return undefined;
  }
  if (relation === "unrelated") {
    const message = `${name} shares no history with branch ${item.branch} of ${item.project}`;
    return { kind: "conflict", files: [], message };
  }
  const outcome = await mergeOrLimit(name, () =>
    withAttributes(
      git,
      repository,
      onto,
      (workTree) =>
        mergeTrees(git, repository, { ours: onto, theirs: item.commit, workTree }, options),
      options,
    ),
  );
  if (outcome.kind === "conflict") {
    const where = `${item.project} ${item.branch}`;
    const message = `${name} does not merge into ${where}:\n${outcome.message}`;
    return { kind: "conflict", files: outcome.files, message };
  }
  const parents = [onto, item.commit];
  const dates = await commitTimes(git, repository, parents, options);
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

async function describe(
  git: Git,
  repositories: Repositories,
  frozen: ReadonlyMap<string, Frozen>,
  request: MergeRequest,
  signal: AbortSignal,
): Promise<Merged> {
  const tested = request.items.at(-1)!;
  const repos: PreparedRepo[] = [];
  for (const [project, state] of frozen) {
    const revision = planRevision({ project, ...state }, tested.branch, request.buildset);
    if (revision.kind === "impossible") fail("not-found", revision.detail);
    repos.push(revision.repo);
  }
  const repository = repositories.path(tested.project);
  return {
    kind: "merged",
    repos,
    zuulRef: zuulRef(tested.branch, request.buildset),
    zuulCommit: frozen.get(tested.project)!.merged.get(tested.branch)!,
    files: await changedFiles(git, repository, tested.commit, { signal }),
  };
}

type Merged = Extract<MergeResult, { kind: "merged" }>;
type Kept = { readonly asked: string; readonly result: Merged };

/**
 * M-4: an item that was prepared is not merged again; a changed request is another one, and so is
 * one whose refs are gone (a copy that was made anew).
 */
async function recall(
  git: Git,
  repositories: Repositories,
  path: string,
  request: MergeRequest,
): Promise<Merged | undefined> {
  const kept = await readKept(path);
  if (kept?.asked !== keyOf(request)) return undefined;
  for (const repo of kept.result.repos) {
    if (repo.state === undefined || !repositories.has(repo.project)) return undefined;
    const wanted = new Map([[stateRef(repo.state), repo.state]]);
    if (repo.zuulRef !== null) wanted.set(repo.zuulRef, repo.commit);
    const refs = await readRefs(git, repositories.path(repo.project), [...wanted.keys()]);
    if ([...wanted].some(([ref, commit]) => refs.get(ref) !== commit)) return undefined;
  }
  return kept.result;
}

/** A file of an earlier version, or half of one, is none. */
async function readKept(path: string): Promise<Kept | undefined> {
  const text = await readTextIfAny(path);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Kept);
  } catch {
    return undefined;
  }
}

function keyOf(request: MergeRequest): string {
  const items = request.items.map((item) => `${item.project} ${item.branch} ${item.commit}`);
  return JSON.stringify([items, [...request.requiredProjects].sort()]);
}

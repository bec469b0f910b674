/**
 * What is read from a repository and written to it, as typed calls over the git program: refs,
 * commits, ancestry, merges. Arguments are checked names and object ids, never raw text.
 */
import { assert } from "../base/assert.ts";
import { fail, isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { commitDate } from "./git-command.ts";
import type { Git, GitOptions } from "./git-command.ts";
import { isObjectId } from "./project-name.ts";

export type Commit = {
  readonly id: string;
  readonly parents: readonly string[];
  /** Seconds since 1970. */
  readonly committedAt: number;
  readonly author: string;
  readonly message: string;
};

/** Refs below the prefixes, name → object id. */
export async function readRefs(
  git: Git,
  repository: string,
  prefixes: readonly string[],
  options: GitOptions = {},
): Promise<Map<string, string>> {
  const { stdout } = await git.run(
    repository,
    ["for-each-ref", "--format=%(objectname) %(refname)", ...prefixes],
    options,
  );
  const refs = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const space = line.indexOf(" ");
    if (space > 0) refs.set(line.slice(space + 1), line.slice(0, space));
  }
  return refs;
}

/** Branches, name → commit. */
export async function readBranches(
  git: Git,
  repository: string,
  options: GitOptions = {},
): Promise<Map<string, string>> {
  const refs = await readRefs(git, repository, ["refs/heads/"], options);
  return new Map([...refs].map(([name, id]) => [name.slice("refs/heads/".length), id]));
}

/** The branch that HEAD names, there or not yet. */
export async function readDefaultBranch(
  git: Git,
  repository: string,
  options: GitOptions = {},
): Promise<string> {
  const { stdout } = await git.run(repository, ["symbolic-ref", "HEAD"], options);
  return stdout.trim().replace(/^refs\/heads\//, "");
}

/**
 * Commits that are new for a branch with this base: `tip`, and what it has that neither the
 * branch nor another one has, parents before children. What another branch has was reviewed or
 * brought in there: a merge of a branch is one new commit. At most `most`, else `push-refused`.
 */
export async function newCommits(
  git: Git,
  repository: string,
  query: { base: string; tip: string; most: number },
  options: GitOptions = {},
): Promise<Commit[]> {
  const range = [checked(query.tip), `^${checked(query.base)}`, "--not", "--branches"];
  const count = await git.run(
    repository,
    ["rev-list", "--count", `--max-count=${query.most + 1}`, ...range],
    options,
  );
  if (Number(count.stdout) > query.most) {
    fail("push-refused", `more than ${query.most} new commits`, {
      remedy: "rebase onto the branch, or push fewer commits at a time",
    });
  }
  const log = await git.run(
    repository,
    ["log", "-z", "--topo-order", "--reverse", `--format=${FORMAT}`, ...range],
    options,
  );
  const commits = log.stdout.split("\0").filter(Boolean).map(parseCommit);
  if (commits.length > 0) return commits;
  // the tip of another branch, for this one
  const contained = await isAncestor(git, repository, query.tip, query.base, options);
  return contained ? [] : [await readCommit(git, repository, query.tip, options)];
}

/** One commit; throws `not-found`. */
export async function readCommit(
  git: Git,
  repository: string,
  id: string,
  options: GitOptions = {},
): Promise<Commit> {
  const result = await git.run(
    repository,
    ["log", "-z", "-1", `--format=${FORMAT}`, checked(id), "--"],
    { ...options, accept: "any" },
  );
  if (result.exitCode !== 0) fail("not-found", `no commit ${id} in ${repository}`);
  return parseCommit(result.stdout.replace(/\0$/, ""));
}

const FORMAT = "%H%n%P%n%ct%n%an <%ae>%n%B";

function parseCommit(text: string): Commit {
  const [id = "", parents = "", committedAt = "", author = "", ...message] = text.split("\n");
  assert(isObjectId(id), `git log gave no commit: ${text.slice(0, 100)}`);
  return {
    id,
    parents: parents.split(" ").filter(Boolean),
    committedAt: Number(committedAt),
    author,
    message: message.join("\n"),
  };
}

/** Whether `ancestor` is `descendant` or one of its ancestors. */
export async function isAncestor(
  git: Git,
  repository: string,
  ancestor: string,
  descendant: string,
  options: GitOptions = {},
): Promise<boolean> {
  const result = await git.run(
    repository,
    ["merge-base", "--is-ancestor", checked(ancestor), checked(descendant)],
    { ...options, accept: [0, 1] },
  );
  return result.exitCode === 0;
}

/**
 * How two commits stand to each other, by one look: `contains`: `one` has all of `other`;
 * `contained`: the other way round; `diverged`: both have what the other has not.
 */
export type Relation = "contains" | "contained" | "diverged" | "unrelated";

export async function relationOf(
  git: Git,
  repository: string,
  one: string,
  other: string,
  options: GitOptions = {},
): Promise<Relation> {
  const result = await git.run(repository, ["merge-base", checked(one), checked(other)], {
    ...options,
    accept: [0, 1],
  });
  if (result.exitCode !== 0) return "unrelated";
  const base = result.stdout.trim();
  if (base === other) return "contains";
  return base === one ? "contained" : "diverged";
}

/** When commits were made, seconds since 1970, in the given order. */
export async function commitTimes(
  git: Git,
  repository: string,
  ids: readonly string[],
  options: GitOptions = {},
): Promise<number[]> {
  const { stdout } = await git.run(
    repository,
    ["log", "--no-walk=unsorted", "--format=%ct", ...ids.map(checked), "--"],
    options,
  );
  return stdout.split("\n").filter(Boolean).map(Number);
}

/** Paths that a commit changes; `more` when there are others, too many or too costly to list. */
export type ChangedFiles = { readonly files: readonly string[]; readonly more: boolean };

/**
 * Files that a commit changes against its first parent; all of a root's. git gathers all before
 * it prints the first, so that what trees that name each other would list has no end: it is ended
 * at limits of its own, and then the list is empty and told to be cut.
 */
export async function changedFiles(
  git: Git,
  repository: string,
  commit: string,
  options: GitOptions = {},
): Promise<ChangedFiles> {
  try {
    const { stdout } = await git.run(
      repository,
      [
        "diff-tree",
        "-r",
        "-z",
        "--root",
        "--name-only",
        "--no-commit-id",
        "--no-renames",
        "--diff-merges=first-parent",
        checked(commit),
      ],
      { ...options, timeoutMs: limits.gitWalkMs, addressBytes: limits.gitWalkAddressBytes },
    );
    const files = stdout.split("\0").filter(Boolean);
    const most = limits.changedPaths;
    return { files: files.slice(0, most), more: files.length > most };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (!isOutOfBounds(error)) throw error;
    return { files: [], more: true };
  }
}

/** git met a limit of ours: of time, output or memory. Another try would meet it again. */
export function isOutOfBounds(error: unknown): boolean {
  if (isRackyardError(error, "timed-out") || isRackyardError(error, "too-large")) return true;
  return (
    isRackyardError(error, "command-failed") &&
    /out of memory|cannot allocate memory|exit (?:134|137|139)\b|mmap failed/i.test(error.message)
  );
}

export type MergeOutcome =
  | { readonly kind: "merged"; readonly tree: string }
  | { readonly kind: "conflict"; readonly files: readonly string[]; readonly message: string };

/**
 * Merges two commits into a tree as git does in a checkout of `ours` (git-merge-tree(1),
 * `--write-tree`). `workTree`: a folder that holds the `.gitattributes` of `ours`, which say how
 * files merge (`merge=union`, `binary`); git reads them from a work tree alone.
 */
export async function mergeTrees(
  git: Git,
  repository: string,
  what: { ours: string; theirs: string; workTree?: string | undefined },
  options: GitOptions = {},
): Promise<MergeOutcome> {
  const { workTree } = what;
  const result = await git.run(
    repository,
    [
      ...(workTree === undefined ? [] : ["-c", "core.bare=false", `--work-tree=${workTree}`]),
      "merge-tree",
      "--write-tree",
      "-z",
      "--name-only",
      "--messages",
      checked(what.ours),
      checked(what.theirs),
    ],
    {
      ...options,
      timeoutMs: limits.gitMergeMs,
      accept: [0, 1],
      ...(workTree === undefined ? {} : { cwd: workTree }),
    },
  );
  const fields = result.stdout.split("\0");
  const tree = fields[0] ?? "";
  if (!isObjectId(tree)) fail("command-failed", `git merge-tree: ${result.stderr.trim()}`);
  if (result.exitCode === 0) return { kind: "merged", tree };
  const end = fields.indexOf("", 1);
  return {
    kind: "conflict",
    files: [...new Set(fields.slice(1, end))].sort(),
    message: conflictMessages(fields.slice(end + 1)).join("\n"),
  };
}

/** Records of `count, path…, type, text`; the texts of those that tell of a conflict. */
function conflictMessages(fields: readonly string[]): string[] {
  const messages: string[] = [];
  for (let at = 0; at < fields.length;) {
    const paths = Number.parseInt(fields[at] ?? "", 10);
    if (!Number.isInteger(paths)) break;
    const type = fields[at + paths + 1] ?? "";
    if (type.startsWith("CONFLICT")) messages.push((fields[at + paths + 2] ?? "").trim());
    at += paths + 3;
  }
  return messages;
}

/** Makes a commit of ours; the same arguments give the same name (M-5). */
export async function commitTree(
  git: Git,
  repository: string,
  commit: { tree: string; parents: readonly string[]; message: string; atSeconds: number },
  options: GitOptions = {},
): Promise<string> {
  const { stdout } = await git.run(
    repository,
    ["commit-tree", checked(commit.tree), ...commit.parents.flatMap((id) => ["-p", checked(id)])],
    { ...options, stdin: commit.message, env: commitDate(commit.atSeconds) },
  );
  return stdout.trim();
}

/** Sets refs (null: deletes them), all or none. */
export async function setRefs(
  git: Git,
  repository: string,
  refs: ReadonlyMap<string, string | null>,
  options: GitOptions = {},
): Promise<void> {
  if (refs.size === 0) return;
  const commands = [...refs].map(([name, id]) =>
    id === null ? `delete ${name}\0\0` : `update ${name}\0${checked(id)}\0\0`,
  );
  await git.run(repository, ["update-ref", "-z", "--stdin"], {
    ...options,
    stdin: commands.join(""),
  });
}

/** Sets a ref that is `from` now; false, and nothing set, when somebody else was faster. */
export async function moveRef(
  git: Git,
  repository: string,
  ref: string,
  move: { readonly from: string; readonly to: string },
  options: GitOptions = {},
): Promise<boolean> {
  const args = ["update-ref", ref, checked(move.to), checked(move.from)];
  const result = await git.run(repository, args, { ...options, accept: "any" });
  if (result.exitCode === 0) return true;
  const now = await readRefs(git, repository, [ref], options);
  if (now.get(ref) !== move.from) return false;
  return fail("command-failed", `git update-ref ${ref}: ${result.stderr.trim()}`);
}

function checked(id: string): string {
  assert(isObjectId(id), `not an object id: ${id}`);
  return id;
}

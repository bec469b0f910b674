/**
 * What is read from a repository and written to it, as typed calls over the git program: refs,
 * commits, ancestry, merges. Arguments are checked names and object ids, never raw text.
 */
import { assert } from "../base/assert.ts";
import { fail } from "../base/errors.ts";
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
 * Commits that `tip` has and `base` has not, parents before children; with `most`, at most that
 * many plus one, so that the caller sees that there are more.
 */
export async function commitsBetween(
  git: Git,
  repository: string,
  query: { base: string; tip: string; most: number },
  options: GitOptions = {},
): Promise<Commit[]> {
  const range = [checked(query.tip), `^${checked(query.base)}`];
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
  return log.stdout.split("\0").filter(Boolean).map(parseCommit);
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

/** Whether two commits share any history. */
export async function areRelated(
  git: Git,
  repository: string,
  one: string,
  other: string,
  options: GitOptions = {},
): Promise<boolean> {
  const result = await git.run(repository, ["merge-base", checked(one), checked(other)], {
    ...options,
    accept: [0, 1],
  });
  return result.exitCode === 0;
}

/** Files that a commit changes against its first parent; all of a root's. */
export async function changedFiles(
  git: Git,
  repository: string,
  commit: Commit,
  options: GitOptions = {},
): Promise<string[]> {
  const parent = commit.parents[0];
  const { stdout } = await git.run(
    repository,
    parent === undefined
      ? ["ls-tree", "-r", "-z", "--name-only", checked(commit.id)]
      : ["diff-tree", "-r", "-z", "--name-only", "--no-renames", parent, checked(commit.id)],
    options,
  );
  return stdout.split("\0").filter(Boolean);
}

export type MergeOutcome =
  | { readonly kind: "merged"; readonly tree: string }
  | { readonly kind: "conflict"; readonly files: readonly string[]; readonly message: string };

/** Merges two commits into a tree, without a working tree (git-merge-tree(1), `--write-tree`). */
export async function mergeTrees(
  git: Git,
  repository: string,
  ours: string,
  theirs: string,
  options: GitOptions = {},
): Promise<MergeOutcome> {
  const result = await git.run(
    repository,
    [
      "merge-tree",
      "--write-tree",
      "-z",
      "--name-only",
      "--messages",
      checked(ours),
      checked(theirs),
    ],
    { ...options, accept: [0, 1] },
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

function checked(id: string): string {
  assert(isObjectId(id), `not an object id: ${id}`);
  return id;
}

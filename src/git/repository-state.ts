/**
 * All branches and tags of a repository at one moment, as one value: its digest, and a commit
 * whose text lists them and whose parents keep them from being packed away. One ref a state, and
 * items prepared on the same state share it (ci.md M-5): a ref for each branch and each item was
 * 10⁶ refs in a day.
 */
import { createHash } from "node:crypto";
import type { Git, GitOptions } from "./git-command.ts";
import { ownIdentity } from "./git-command.ts";

export type RefState = {
  /** Branch → commit. */
  readonly branches: ReadonlyMap<string, string>;
  /** Tag → its object, and the commit it leads to (or another object, of an odd tag). */
  readonly tags: ReadonlyMap<string, { readonly id: string; readonly peeled: string }>;
  readonly digest: string;
};

/** One look: at a repository of ours or, with `source`, at the one from which it fetches. */
export async function readState(
  git: Git,
  repository: string,
  source: string | undefined,
  options: GitOptions = {},
): Promise<RefState> {
  const args =
    source === undefined
      ? ["show-ref", "--heads", "--tags", "--dereference"]
      : ["ls-remote", "--heads", "--tags", "--", source];
  const accept = source === undefined ? [0, 1] : [0];
  const { stdout } = await git.run(repository, args, { ...options, accept });
  const branches = new Map<string, string>();
  const tags = new Map<string, { id: string; peeled: string }>();
  for (const line of stdout.split("\n")) {
    const [, id, space, name] = /^([0-9a-f]+)\s+refs\/(heads|tags)\/(.+)$/.exec(line) ?? [];
    if (id === undefined || name === undefined) continue;
    if (space === "heads") branches.set(name, id);
    else if (name.endsWith("^{}")) {
      const tag = name.slice(0, -3);
      tags.set(tag, { id: tags.get(tag)?.id ?? id, peeled: id });
    } else tags.set(name, { id, peeled: tags.get(name)?.peeled ?? id });
  }
  const digest = createHash("sha256").update(listed({ branches, tags })).digest("hex");
  return { branches, tags, digest };
}

/** `<id> refs/heads/<branch>` and `<id> refs/tags/<tag>`, a line each, sorted. */
function listed(state: Pick<RefState, "branches" | "tags">): string {
  const lines = [
    ...[...state.branches].map(([name, id]) => `refs/heads/${name} ${id}`),
    ...[...state.tags].map(([name, { id }]) => `refs/tags/${name} ${id}`),
  ].sort();
  return lines
    .map((line) => {
      const space = line.lastIndexOf(" ");
      return `${line.slice(space + 1)} ${line.slice(0, space)}\n`;
    })
    .join("");
}

export function stateRef(commit: string): string {
  return `refs/frozen/${commit}`;
}

/** Makes the state's commit; the same state has the same name everywhere. The caller names it. */
export async function keepState(
  git: Git,
  repository: string,
  state: RefState,
  options: GitOptions = {},
): Promise<string> {
  const tips = [...state.branches.values(), ...[...state.tags.values()].map((tag) => tag.peeled)];
  const kinds = await objectKinds(git, repository, tips, options);
  const parents = [...new Set(tips)].filter((id) => kinds.get(id) === "commit").sort();
  const tree = await git.run(repository, ["mktree"], { ...options, stdin: "" });
  const who = `${ownIdentity.name} <${ownIdentity.email}> 0 +0000`;
  const text = [
    `tree ${tree.stdout.trim()}`,
    ...parents.map((id) => `parent ${id}`),
    `author ${who}`,
    `committer ${who}`,
    "",
    listed(state),
  ].join("\n");
  // as text on stdin: a thousand parents are too much for a command line
  const made = await git.run(repository, ["hash-object", "-t", "commit", "-w", "--stdin"], {
    ...options,
    stdin: text,
  });
  return made.stdout.trim();
}

/** Those of these commits that the repository has not. */
export async function missingCommits(
  git: Git,
  repository: string,
  ids: readonly string[],
  options: GitOptions = {},
): Promise<ReadonlySet<string>> {
  if (ids.length === 0) return new Set();
  const kinds = await objectKinds(git, repository, ids, options);
  return new Set(ids.filter((id) => kinds.get(id) !== "commit"));
}

async function objectKinds(
  git: Git,
  repository: string,
  ids: readonly string[],
  options: GitOptions,
): Promise<Map<string, string>> {
  const { stdout } = await git.run(
    repository,
    ["cat-file", "--batch-check=%(objectname) %(objecttype)"],
    { ...options, stdin: [...new Set(ids)].map((id) => `${id}\n`).join("") },
  );
  return new Map(
    stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => line.split(" ") as [string, string]),
  );
}

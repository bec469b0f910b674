import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openGit } from "./git-command.ts";
import type { Git } from "./git-command.ts";
import { withAttributes } from "./merge-attributes.ts";
import { keepState, readState } from "./repository-state.ts";
import { commitTimes, commitTree, mergeTrees, setRefs } from "./repository.ts";

let directory: string;
let repository: string;
let git: Git;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-attributes-"));
  repository = join(directory, "app.git");
  git = await openGit(directory);
  await git.run(repository, ["init", "-q", "--bare"]);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** A commit of these files, made without a working tree. */
async function commit(files: Record<string, string>, parents: string[] = [], atSeconds = 1) {
  const index = { GIT_INDEX_FILE: join(directory, "index") };
  await rm(index.GIT_INDEX_FILE, { force: true });
  for (const [path, stdin] of Object.entries(files)) {
    const blob = await git.run(repository, ["hash-object", "-w", "--stdin"], { stdin });
    const entry = `100644,${blob.stdout.trim()},${path}`;
    const args = ["update-index", "--add", "--cacheinfo", entry];
    await git.run(repository, args, { env: index });
  }
  const tree = await git.run(repository, ["write-tree"], { env: index });
  const one = { tree: tree.stdout.trim(), parents, message: "x\n", atSeconds };
  return commitTree(git, repository, one);
}

const lines = (first: string, last: string): string =>
  [first, ...Array.from({ length: 9 }, (_, n) => `line ${n}`), last, ""].join("\n");

async function merge(attributes: Record<string, string>, path: string, texts: string[]) {
  const base = await commit({ ...attributes, [path]: texts[0]! });
  const ours = await commit({ ...attributes, [path]: texts[1]! }, [base]);
  const theirs = await commit({ ...attributes, [path]: texts[2]! }, [base]);
  return withAttributes(git, repository, ours, (workTree) =>
    mergeTrees(git, repository, { ours, theirs, workTree }),
  );
}

const entries = ["= Changes\n", "= Changes\n- one\n", "= Changes\n- two\n"];
const binary = [lines("a", "z"), lines("A", "z"), lines("a", "Z")];

test("M-2 merge=union makes one of two entries; without it they are a conflict", async () => {
  const union = { ".gitattributes": "CHANGES merge=union\n" };
  const outcome = await merge(union, "CHANGES", entries);
  expect(outcome.kind).toBe("merged");
  const tree = outcome.kind === "merged" ? outcome.tree : "";
  const { stdout } = await git.run(repository, ["show", `${tree}:CHANGES`]);
  expect(stdout.split("\n").sort()).toEqual(["", "- one", "- two", "= Changes"]);
  expect(await merge({}, "CHANGES", entries)).toMatchObject({ kind: "conflict" });
});

test("M-2 attributes of a folder count too: what they call binary is never merged as text", async () => {
  expect(await merge({}, "sub/x.bin", binary)).toMatchObject({ kind: "merged" });
  const outcome = await merge({ "sub/.gitattributes": "*.bin binary\n" }, "sub/x.bin", binary);
  expect(outcome).toMatchObject({ kind: "conflict", files: ["sub/x.bin"] });
});

test("M-5 dates of 1970, 2106 and beyond are dates of merges", async () => {
  for (const atSeconds of [0, 4_294_967_296, 99_999_999_999_999, Number.NaN]) {
    const id = await commit({ a: "a\n" }, [], atSeconds);
    const [time] = await commitTimes(git, repository, [id]);
    const expected = Number.isNaN(atSeconds) ? 0 : Math.min(atSeconds, 253_402_300_799);
    expect(time).toBe(expected);
  }
});

test("M-5 a state is one commit, the same each time, that lists and keeps all refs", async () => {
  const one = await commit({ a: "1\n" });
  const two = await commit({ a: "2\n" }, [one]);
  const mktag = `object ${one}\ntype commit\ntag v1\ntagger T <t@x> 1 +0000\n\nOne\n`;
  const tag = (await git.run(repository, ["mktag"], { stdin: mktag })).stdout.trim();
  const refs = [
    ["refs/heads/ünï", two],
    ["refs/tags/v1", tag],
    ["refs/tags/light", two],
  ] as const;
  await setRefs(git, repository, new Map(refs));
  const state = await readState(git, repository, undefined);
  expect(state.branches).toEqual(new Map([["ünï", two]]));
  expect(state.tags.get("v1")).toEqual({ id: tag, peeled: one });
  expect(await readState(git, repository, repository)).toEqual(state);
  const kept = await keepState(git, repository, state);
  expect(await keepState(git, repository, state)).toBe(kept);
  const { stdout } = await git.run(repository, ["cat-file", "commit", kept]);
  const [head, text] = stdout.split("\n\n");
  expect(head?.match(/^parent .*/gm)).toEqual([one, two].sort().map((id) => `parent ${id}`));
  expect(text?.trim().split("\n").sort()).toEqual(refs.map(([ref, id]) => `${id} ${ref}`).sort());
});

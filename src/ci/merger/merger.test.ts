import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../base/log.ts";
import { systemRandom } from "../../base/random.ts";
import { openGit } from "../../git/git-command.ts";
import type { Git } from "../../git/git-command.ts";
import { commitTree, readRefs, setRefs } from "../../git/repository.ts";
import { changeRef } from "../../model/change.ts";
import { openMerger } from "./merger.ts";
import type { MergeResult, Merger } from "./merger.ts";

let directory: string;
let source: string;
let git: Git;
let merger: Merger;
let calls: string[];
/** What stands on the branch. */
let there: Record<string, string>;
const signal = new AbortController().signal;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-merger-"));
  source = join(directory, "app.git");
  const real = await openGit(directory);
  calls = [];
  there = { a: "a\n" };
  git = {
    ...real,
    run(repository, args, options) {
      if (repository !== source) calls.push(args.find((word) => /^[a-z]+-?[a-z]+$/.test(word))!);
      return real.run(repository, args, options);
    },
  };
  await git.run(source, ["init", "-q", "--bare"]);
  await setRefs(git, source, new Map([["refs/heads/master", await commit(there)]]));
  merger = mergerNow();
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const mergerNow = (): Merger =>
  openMerger({
    directory: join(directory, "merger"),
    git,
    source: (project) => (project === "app" ? source : undefined),
    log: silentLog,
  });

async function commit(files: Record<string, string>, parents: string[] = []): Promise<string> {
  const entries: string[] = [];
  for (const [path, stdin] of Object.entries(files)) {
    const blob = await git.run(source, ["hash-object", "-w", "--stdin"], { stdin });
    entries.push(`100644 blob ${blob.stdout.trim()}\t${path}\n`);
  }
  const tree = await git.run(source, ["mktree"], { stdin: entries.join("") });
  const one = { tree: tree.stdout.trim(), parents, message: "x\n", atSeconds: 1 };
  return commitTree(git, source, one);
}

const tip = async (): Promise<string> =>
  (await readRefs(git, source, ["refs/heads/master"])).get("refs/heads/master")!;

/** A change upon the tip, and the branch moves on beside it. */
async function diverged(number: number) {
  const base = await tip();
  const one = await commit({ ...there, [`f${number}`]: "f\n" }, [base]);
  there = { ...there, b: `${number}\n` };
  const refs = new Map([[changeRef(number, 1), one]]);
  refs.set("refs/heads/master", await commit(there, [base]));
  await setRefs(git, source, refs);
  return requestOf(number, one);
}

function requestOf(number: number, of: string) {
  const ref = changeRef(number, 1);
  const item = { project: "app", branch: "master", change: number, patchset: 1, ref, commit: of };
  return { buildset: systemRandom.uuid4(), items: [item], requiredProjects: ["app"] };
}

function merged(result: MergeResult): Extract<MergeResult, { kind: "merged" }> {
  expect(result).toMatchObject({ kind: "merged" });
  return result as Extract<MergeResult, { kind: "merged" }>;
}

const refsOf = async (): Promise<string[]> =>
  [
    ...(
      await readRefs(git, merger.repositories.path("app"), ["refs/zuul/", "refs/frozen/"])
    ).keys(),
  ].sort();

test("M-5 a change costs ten git processes at most, however many branches and tags there are", async () => {
  const branches = Array.from({ length: 50 }, (_, n) => `refs/heads/b${n}`);
  const id = await tip();
  await setRefs(git, source, new Map(branches.map((name) => [name, id])));
  merged(await merger.prepare(await diverged(1), signal));
  const request = await diverged(2);
  calls = [];
  merged(await merger.prepare(request, signal));
  // the branch moved: its new state is a commit more
  expect(calls.length).toBeLessThanOrEqual(14);
  calls = [];
  merged(await merger.prepare({ ...request, buildset: systemRandom.uuid4() }, signal));
  expect(calls.length).toBeLessThanOrEqual(10);
});

test("M-5 one ref keeps a state for all items of it, tags among it", async () => {
  const base = await tip();
  await setRefs(git, source, new Map([["refs/tags/light", base]]));
  const request = await diverged(1);
  const first = merged(await merger.prepare(request, signal));
  const other = { ...request, buildset: systemRandom.uuid4() };
  const second = merged(await merger.prepare(other, signal));
  const { state } = first.repos[0]!;
  expect(await refsOf()).toEqual([`refs/frozen/${state}`, first.zuulRef, second.zuulRef].sort());
  const text = await git.run(merger.repositories.path("app"), ["cat-file", "commit", state!]);
  expect(text.stdout).toContain(`${base} refs/tags/light\n`);
  // asked again it answers as frozen, after a restart too; not when the copy lost its refs
  expect(await mergerNow().prepare(request, signal)).toEqual(first);
  await rm(merger.repositories.path("app"), { recursive: true });
  expect(merged(await mergerNow().prepare(request, signal)).zuulCommit).toBe(first.zuulCommit);
});

test("M-4 the sweep asks in the project's turn: what is prepared meanwhile stays", async () => {
  const over = await diverged(1);
  merged(await merger.prepare(over, signal));
  const request = await diverged(2);
  const live = new Set<string>();
  const sweeping = merger.sweep(() => live, signal);
  live.add(request.buildset);
  const late = merged(await merger.prepare(request, signal));
  await sweeping;
  const kept = [`refs/frozen/${late.repos[0]!.state}`, late.zuulRef].sort();
  expect(await refsOf()).toEqual(expect.arrayContaining(kept));
  await merger.sweep(() => live, signal);
  expect(await refsOf()).toEqual(kept);
  live.clear();
  await merger.sweep(() => live, signal);
  expect(await refsOf()).toEqual([]);
  // the state's commit is named again when it is needed again
  merged(await merger.prepare({ ...request, buildset: systemRandom.uuid4() }, signal));
  expect(await refsOf()).toContain(`refs/frozen/${late.repos[0]!.state}`);
});

test("M-7 locks of a git that died are removed, in the running server too", async () => {
  const first = await diverged(1);
  merged(await merger.prepare(first, signal));
  const copy = merger.repositories.path("app");
  await mkdir(join(copy, "refs/heads"), { recursive: true });
  const second = await diverged(2);
  for (const lock of ["packed-refs.lock", "refs/heads/master.lock", "HEAD.lock"]) {
    await writeFile(join(copy, lock), "");
  }
  merged(await merger.prepare(second, signal));
  expect((await readdir(copy)).filter((name) => name.endsWith(".lock"))).toEqual([]);
});

test("M-3 what cannot be there is the request's fault, what broke is the machine's", async () => {
  const request = await diverged(1);
  const lost = { ...request, requiredProjects: ["nowhere"] };
  expect(await merger.prepare(lost, signal)).toMatchObject({ kind: "error", cause: "request" });
  const other = { ...request.items[0]!, commit: "1".repeat(40) };
  const changed = await merger.prepare({ ...request, items: [other] }, signal);
  expect(changed).toMatchObject({ kind: "error", cause: "request" });
  await rm(source, { recursive: true });
  expect(await merger.prepare(request, signal)).toMatchObject({ kind: "error", cause: "machine" });
});

/**
 * Repositories as people have them and clients as they use them: tags, names of branches, old
 * histories, merges of branches, Gerrit's push options and queries, with the real git client.
 */
import { join } from "node:path";
import { writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readRefs } from "../../src/git/repository.ts";
import { commitMsgHook } from "../../src/review/builtin/commit-msg-hook.ts";
import { newChangeId, openBench, remoteLines } from "./git-bench.ts";
import type { Author, Bench } from "./git-bench.ts";

let bench: Bench;
let dora: Author;
let ada: Author;
beforeEach(async () => {
  bench = await openBench(["app"]);
  ada = await bench.seed("app");
  dora = await bench.author("dora");
});
afterEach(() => bench[Symbol.asyncDispose]());

const changes = async () => (await bench.review.views.list({ limit: 100 })).items;
const tags = async () => [
  ...(await readRefs(bench.git, bench.review.source("app")!, ["refs/tags/"])).keys(),
];

describe("tags", () => {
  test("an operator pushes and deletes them; a developer's own push of one is refused", async () => {
    await ada.ok("tag", "-a", "v1.0", "-m", "Release 1.0");
    await ada.ok("tag", "light");
    await ada.ok("push", "-q", "origin", "v1.0", "light");
    expect(await tags()).toEqual(["refs/tags/light", "refs/tags/v1.0"]);
    await ada.ok("push", "-q", "origin", ":refs/tags/light");
    expect(await tags()).toEqual(["refs/tags/v1.0"]);
    await dora.ok("tag", "mine");
    const refused = await dora.git("push", "origin", "mine");
    expect(refused.stderr).toContain("dora may not push to tag mine");
  });

  test("push.followTags does not spoil a push for review, whoever pushes", async () => {
    await dora.ok("tag", "-a", "v1.1", "-m", "Release 1.1");
    await dora.commit("a", "a\n", "After the release");
    const pushed = await dora.git(
      "-c",
      "push.followTags=true",
      "push",
      "origin",
      "HEAD:refs/for/master",
    );
    expect(remoteLines(pushed)[0]).toContain("change 1 patchset 1");
    expect(pushed.stderr).toMatch(/v1\.1 .*tags are an operator's/);
    expect(await changes()).toHaveLength(1);
    expect(await tags()).toEqual([]);
  });
});

test("names of branches as others have them are taken; one that cannot be tells the rule", async () => {
  const names = [
    "dependabot/npm_and_yarn/@types/node-18.0.1",
    "user@host",
    "fix(scope)",
    "a=b",
    "v1.0,rc",
    "it's",
    "ünï/cöde",
  ];
  await ada.ok("push", "-q", "origin", ...names.map((name) => `HEAD:refs/heads/${name}`));
  await dora.commit("a", "a\n", "On an odd branch");
  for (const name of names) {
    const pushed = await dora.push(`refs/for/${name}`);
    expect(pushed.exitCode, pushed.stderr).toBe(0);
  }
  expect((await changes()).map((change) => change.branch).sort()).toEqual([...names].sort());
  const refused = await ada.push("refs/heads/a\u200bb");
  expect(refused.stderr).toMatch(/is no name for a branch: no blanks, no invisible characters/);
});

test("old histories are taken with a warning; a .git in a tree is not", async () => {
  const tree = await ada.ok("rev-parse", "HEAD^{tree}");
  const old = async (author: string, name: string, of = tree) => {
    const file = join(ada.directory, ".git/old");
    const committer = "committer C <c@example.invalid> 1300000000 +0000";
    await writeFile(file, `tree ${of}\nauthor ${author}\n${committer}\n\nOld\n`);
    const id = await ada.ok("hash-object", "-t", "commit", "-w", "--literally", file);
    return ada.git("push", "origin", `${id}:refs/heads/${name}`);
  };
  const lines = {
    missingSpaceBeforeEmail: "Ann<ann@example.invalid> 1300000000 +0000",
    missingNameBeforeEmail: "<ann@example.invalid> 1300000000 +0000",
    zeroPaddedDate: "Ann <ann@example.invalid> 01300000000 +0000",
    badTimezone: "Ann <ann@example.invalid> 1300000000 -7:00",
    missingEmail: "Ann 1300000000 +0000",
    badDate: "Ann <ann@example.invalid> yesterday +0000",
  };
  for (const [fault, author] of Object.entries(lines)) {
    const pushed = await old(author, fault);
    expect(pushed.exitCode, pushed.stderr).toBe(0);
    expect(pushed.stderr).toMatch(/warning: object/);
  }
  const blob = await ada.ok("rev-parse", "HEAD:README.md");
  const file = join(ada.directory, ".git/tree");
  await writeFile(file, `100644 blob ${blob}\t.git\n`);
  const { stdout } = await ada.git("-c", `alias.mk=!git mktree <'${file}'`, "mk");
  const bad = await old("Ann <ann@example.invalid> 1300000000 +0000", "bad", stdout.trim());
  expect(bad.exitCode).not.toBe(0);
  expect(bad.stderr).toMatch(/hasDotgit/);
});

test("a branch that is merged is one change, however many commits it has", async () => {
  await ada.ok("checkout", "-q", "-b", "feature", "origin/master");
  for (let n = 1; n <= 25; n++) await ada.commit(`f${n}`, "x\n", `Part ${n}`, null);
  await ada.push("refs/heads/feature");
  await ada.ok("checkout", "-q", "-b", "main2", "origin/master");
  await ada.commit("b", "b\n", "Master moves", null);
  await ada.push("refs/heads/master");
  await dora.ok("fetch", "-q", "origin");
  await dora.ok("reset", "-q", "--hard", "origin/master");
  const message = `Merge feature\n\nChange-Id: ${newChangeId()}`;
  await dora.ok("merge", "-q", "--no-ff", "-m", message, "origin/feature");
  const pushed = await dora.push("refs/for/master");
  expect(pushed.exitCode, pushed.stderr).toBe(0);
  expect((await changes()).map((change) => change.subject)).toEqual(["Merge feature"]);
  // nor is another branch's tip nothing at all for this one
  await dora.ok("checkout", "-q", "--detach", "origin/feature");
  const id = newChangeId();
  await dora.ok("commit", "-q", "--amend", "-m", `Part 25\n\nChange-Id: ${id}`);
  const otto = await bench.author("otto");
  await otto.ok("fetch", "-q", dora.directory, "HEAD");
  await otto.ok("push", "-q", "-f", "origin", "FETCH_HEAD:refs/heads/feature");
  expect((await dora.push("refs/for/master")).exitCode).toBe(0);
});

describe("Gerrit's clients", () => {
  test("push options and full names of branches are taken with a word", async () => {
    await dora.commit("a", "a\n", "Add a");
    const first = await dora.push("refs/for/refs/heads/master%topic=fix,wip");
    expect(remoteLines(first)).toEqual([
      "remote: change 1 patchset 1: Add a",
      `remote:   ${bench.url}/changes/1`,
      "remote: note: topic, wip: without meaning here, left out",
    ]);
    await dora.commit("b", "b\n", "Add b");
    const second = await dora.git("push", "-o", "topic=x", "origin", "HEAD:refs/for/master");
    expect(second.exitCode, second.stderr).toBe(0);
    expect(remoteLines(second).at(-1)).toContain("note: topic");
    const third = await dora.git("push", "-o", "submit", "origin", "HEAD:refs/for/master");
    expect(third.stderr).toContain("a change is not merged by its push");
  });

  test("git review -d and -l: /changes/?q=… in Gerrit's JSON", async () => {
    const commit = await dora.commit("a", "a\n", "Add a");
    await dora.push("refs/for/master");
    await dora.ok("commit", "-q", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z");
    await dora.push("refs/for/master");
    const ask = async (query: string) => {
      const response = await fetch(`${bench.url}/changes/?${query}`);
      const text = await response.text();
      expect(text.slice(0, 5)).toBe(")]}'\n");
      return JSON.parse(text.slice(4)) as Record<string, unknown>[];
    };
    const [listed] = await ask("q=project%3Agit%2Fapp+status%3Aopen+branch%3Amaster");
    expect(listed).toMatchObject({ _number: 1, branch: "master", subject: "Add a" });
    expect(listed).not.toHaveProperty("revisions");
    const [all] = await ask("q=1&o=ALL_REVISIONS");
    expect(all?.["revisions"]).toMatchObject({
      [commit]: { _number: 1, fetch: { http: { ref: "refs/changes/01/1/1" } } },
    });
    const [current] = await ask("q=1&o=CURRENT_REVISION");
    expect(Object.keys(current?.["revisions"] as object)).toEqual([current?.["current_revision"]]);
    expect(await ask("q=99")).toEqual([]);
    expect(await ask("q=status:merged")).toEqual([]);
    const other = await fetch(`${bench.url}/changes/?q=label:Verified`);
    expect([other.status, await other.text()]).toEqual([
      400,
      expect.stringContaining('"label:Verified"'),
    ]);
  });

  test("the hook where Gerrit has it; one that is given up with commit -v makes no commit", async () => {
    const served = await fetch(`${bench.url}/tools/hooks/commit-msg`);
    expect(await served.text()).toBe(commitMsgHook);
    const hook = join(dora.directory, ".git/hooks/commit-msg");
    await writeFile(hook, commitMsgHook, { mode: 0o755 });
    const editor = join(dora.directory, ".git/editor");
    await writeFile(editor, '#!/bin/sh\nsed -i "/^#/,$!d" "$1"\n', { mode: 0o755 });
    await dora.write("README.md", "other\n");
    const given = await dora.git("-c", `core.editor=${editor}`, "commit", "-a", "-v");
    expect(given.exitCode).not.toBe(0);
    await dora.ok("commit", "-qa", "-m", "Notes", "-m", "Above\n---\nbelow");
    expect(await dora.ok("log", "-1", "--format=%B")).toMatch(/below\n\nChange-Id: I[0-9a-f]{40}$/);
  });

  test("a Change-Id above the last paragraph is pointed at, with what to do", async () => {
    const id = newChangeId();
    await dora.commit("a", "a\n", `Add a\n\nChange-Id: ${id}\n\nNote: by a tool`, null);
    const said = remoteLines(await dora.push("refs/for/master")).join("\n");
    expect(said).toMatch(/a Change-Id was found, but above the last paragraph/);
    expect(said).toContain(`  Change-Id: ${id}`);
  });
});

test("D-2 a line that is not understood is said on the change", async () => {
  const subject = `Add a\n\nDepends-On: https://example.com/7\n\nChange-Id: ${newChangeId()}`;
  await dora.commit("a", "a\n", subject, null);
  await dora.push("refs/for/master");
  const { comments } = await bench.review.views.get(1);
  expect(comments.map((one) => [one.by, one.text])).toEqual([
    ["Rackyard CI", expect.stringContaining("- Depends-On: https://example.com/7")],
  ]);
});

/**
 * Pushing with the real git client over HTTP: what becomes a change, what is refused and how
 * that reads, and that nothing else can be written.
 */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import { readRefs } from "../../src/git/repository.ts";
import { commitMsgHook } from "../../src/review/builtin/commit-msg-hook.ts";
import { caller, newChangeId, openBench, remoteLines } from "./git-bench.ts";
import type { Author, Bench } from "./git-bench.ts";

let bench: Bench;
let dora: Author;
beforeEach(async () => {
  bench = await openBench(["app", "group/lib"]);
  await bench.seed("app");
  dora = await bench.author("dora");
});
afterEach(() => bench[Symbol.asyncDispose]());

const changes = async () => (await bench.review.views.list({ limit: 100 })).items;
const refs = (project = "app") =>
  readRefs(bench.git, bench.review.source(project)!, ["refs/changes/"]);

describe("a push for review", () => {
  test("surface.md §6 makes a change and says number and URL, exactly", async () => {
    const commit = await dora.commit("a.txt", "a\n", "Add a");
    const pushed = await dora.push("refs/for/master");
    expect(pushed.exitCode, pushed.stderr).toBe(0);
    expect(remoteLines(pushed)).toEqual([
      "remote: change 1 patchset 1: Add a",
      `remote:   ${bench.url}/changes/1`,
    ]);
    const change = await bench.review.views.get(1);
    expect(change).toMatchObject({
      number: 1,
      project: "app",
      branch: "master",
      status: "NEW",
      patchset: 1,
      subject: "Add a",
      owner: "dora",
      url: `${bench.url}/changes/1`,
      votes: [],
      dependsOn: [],
    });
    expect(await refs()).toEqual(new Map([["refs/changes/01/1/1", commit]]));
    await dora.ok("fetch", "-q", "origin", "refs/changes/01/1/1");
    expect(await dora.ok("rev-parse", "FETCH_HEAD")).toBe(commit);
    await until(() => bench.events.length === 1, { timeoutMs: 5_000, what: "the event" });
    expect(bench.events[0]).toMatchObject({ type: "patchset-created", change: 1, patchset: 1 });
  });

  test("Q-1 an amended commit is the next patchset, and votes start anew", async () => {
    await dora.commit("a.txt", "a\n", "Add a");
    await dora.push("refs/for/master");
    await bench.review.views.vote(1, { label: "Code-Review", value: 2 }, caller("dirk"));
    await dora.write("a.txt", "b\n");
    await dora.ok("commit", "-qa", "--amend", "--no-edit");
    const pushed = await dora.push("refs/for/master");
    expect(remoteLines(pushed)[0]).toBe("remote: change 1 patchset 2: Add a");
    const change = await bench.review.views.get(1);
    expect(change.votes).toEqual([]);
    expect(change.patchsets.map((one) => one.ref)).toEqual([
      "refs/changes/01/1/1",
      "refs/changes/01/1/2",
    ]);
  });

  test("D-1 a series of three is three changes, each needing the one before", async () => {
    for (const name of ["one", "two", "three"]) await dora.commit(name, "x\n", `Add ${name}`);
    const pushed = await dora.push("refs/for/master");
    expect(remoteLines(pushed).filter((line) => line.includes("patchset"))).toEqual([
      "remote: change 1 patchset 1: Add one",
      "remote: change 2 patchset 1: Add two",
      "remote: change 3 patchset 1: Add three",
    ]);
    const needs = (await changes()).map((change) => [change.number, change.dependsOn]);
    expect(needs).toEqual([
      [3, [2]],
      [2, [1]],
      [1, []],
    ]);
    expect((await bench.review.change(3)).needs).toEqual([{ change: 2, patchset: 1 }]);
  });

  test("D-1 only what is new in a series gets a patchset; an outdated parent is named so", async () => {
    await dora.commit("one", "x\n", "Add one");
    await dora.commit("two", "x\n", "Add two");
    await dora.push("refs/for/master");
    await dora.write("two", "y\n");
    await dora.ok("commit", "-qa", "--amend", "--no-edit");
    const pushed = await dora.push("refs/for/master");
    expect(remoteLines(pushed)).toEqual([
      "remote: change 2 patchset 2: Add two",
      `remote:   ${bench.url}/changes/2`,
    ]);
    await dora.ok("checkout", "-q", "HEAD~1");
    await dora.ok("commit", "-q", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z");
    await dora.push("refs/for/master");
    expect((await bench.review.change(2)).needs).toEqual([{ change: 1, patchset: 1 }]);
    expect((await bench.review.change(1)).patchset).toBe(2);
  });

  test("surface.md §6 a series of twenty-one is refused, twenty are taken", async () => {
    for (let n = 1; n <= 21; n++) await dora.commit(`f${n}`, "x\n", `Add ${n}`);
    const refused = await dora.push("refs/for/master");
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain("more than 20 new commits");
    expect(await changes()).toEqual([]);
    const taken = await dora.git("push", "origin", "HEAD~1:refs/for/master");
    expect(taken.exitCode, taken.stderr).toBe(0);
    expect(await changes()).toHaveLength(20);
  });

  test("two pushes at once get different numbers", async () => {
    const dirk = await bench.author("dirk");
    await dora.commit("a", "a\n", "From dora");
    await dirk.commit("b", "b\n", "From dirk");
    const both = await Promise.all([dora.push("refs/for/master"), dirk.push("refs/for/master")]);
    expect(both.map((one) => one.exitCode)).toEqual([0, 0]);
    expect((await changes()).map((change) => change.number)).toEqual([2, 1]);
    expect((await refs()).size).toBe(2);
  });

  test("the same Change-Id pushed twice at once is one change", async () => {
    const dirk = await bench.author("dirk");
    const id = newChangeId();
    await dora.commit("a", "a\n", "From dora", id);
    await dirk.commit("a", "b\n", "From dirk", id);
    await Promise.all([dora.push("refs/for/master"), dirk.push("refs/for/master")]);
    expect((await changes()).map((one) => [one.number, one.patchset])).toEqual([[1, 2]]);
  });

  test("a project in a group, and a path that ends in .git", async () => {
    await bench.seed("group/lib", { x: "x\n" }, "main");
    const author = await bench.author("dora", "group/lib.git");
    expect(await author.ok("symbolic-ref", "--short", "HEAD")).toBe("main");
    await author.commit("y", "y\n", "Add y");
    expect((await author.push("refs/for/main")).exitCode).toBe(0);
    expect(await bench.review.views.get(1)).toMatchObject({ project: "group/lib" });
  });
});

describe("a push that is refused", () => {
  async function refusal(ref: string): Promise<string> {
    const before = (await changes()).length;
    const pushed = await dora.push(ref);
    expect(pushed.exitCode).not.toBe(0);
    expect((await changes()).length).toBe(before);
    return remoteLines(pushed)
      .map((line) => line.replace(/^remote: ?/, ""))
      .join("\n");
  }

  test("surface.md §6 no Change-Id: the command that installs the hook, which then helps", async () => {
    await dora.commit("a", "a\n", "Add a", null);
    const said = await refusal("refs/for/master");
    expect(said).toContain("has no Change-Id in its last paragraph");
    expect(said).toContain(`${bench.url}/git/hooks/commit-msg`);
    const served = await fetch(`${bench.url}/git/hooks/commit-msg`);
    expect(served.status).toBe(200);
    const hook = join(dora.directory, ".git/hooks/commit-msg");
    await writeFile(hook, await served.text(), { mode: 0o755 });
    await dora.ok("commit", "-q", "--amend", "--no-edit");
    const message = await dora.ok("log", "-1", "--format=%B");
    expect(message).toMatch(/^Add a\n\nChange-Id: I[0-9a-f]{40}$/);
    await dora.ok("commit", "-q", "--amend", "--no-edit");
    expect(await dora.ok("log", "-1", "--format=%B")).toBe(message);
    expect((await dora.push("refs/for/master")).exitCode).toBe(0);
  });

  test("the hook keeps other trailers, and leaves fixups and empty messages alone", async () => {
    const hook = join(dora.directory, ".git/hooks/commit-msg");
    await writeFile(hook, commitMsgHook, { mode: 0o755 });
    await dora.write("a", "a\n");
    await dora.ok("add", "a");
    await dora.ok("commit", "-qs", "-m", "Add a", "-m", "Because.");
    const message = await dora.ok("log", "-1", "--format=%B");
    expect(message).toMatch(/\n\nSigned-off-by: .*\nChange-Id: I[0-9a-f]{40}$/);
    await dora.write("a", "b\n");
    await dora.ok("commit", "-qa", "--fixup=HEAD");
    expect(await dora.ok("log", "-1", "--format=%B")).toBe("fixup! Add a");
    expect((await dora.git("commit", "--allow-empty", "-m", "")).exitCode).not.toBe(0);
  });

  test("the same Change-Id twice", async () => {
    const id = newChangeId();
    await dora.commit("a", "a\n", "One", id);
    await dora.commit("b", "b\n", "Two", id);
    expect(await refusal("refs/for/master")).toContain("have the same Change-Id");
  });

  test("the same commit again: no new changes, also after the server was killed", async () => {
    await dora.commit("a", "a\n", "Add a");
    await dora.push("refs/for/master");
    await bench.restart();
    expect(await refusal("refs/for/master")).toContain("no new changes");
    expect(await changes()).toHaveLength(1);
    await dora.ok("checkout", "-q", "HEAD~1");
    expect(await refusal("refs/for/master")).toContain("no new changes");
  });

  test("a commit that was an earlier patchset", async () => {
    const first = await dora.commit("a", "a\n", "Add a");
    await dora.push("refs/for/master");
    await dora.ok("commit", "-q", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z");
    await dora.push("refs/for/master");
    await dora.ok("reset", "-q", "--hard", first);
    expect(await refusal("refs/for/master")).toContain("is patchset 1 of change 1");
  });

  test("an abandoned change, with how to restore it; restored, it goes on", async () => {
    await dora.commit("a", "a\n", "Add a");
    await dora.push("refs/for/master");
    await bench.review.views.abandon(1, caller("dora"));
    await dora.ok("commit", "-q", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z");
    expect(await refusal("refs/for/master")).toContain("rackyard change restore 1");
    await bench.review.views.restore(1, caller("dora"));
    expect((await dora.push("refs/for/master")).exitCode).toBe(0);
  });

  test("a branch that is not there, an unrelated history, options, deletes, other refs", async () => {
    await dora.commit("a", "a\n", "Add a");
    const unknown = await refusal("refs/for/stable/x");
    expect(unknown).toContain("has no branch stable/x");
    expect(unknown).toContain("its branches: master");
    expect(await refusal("refs/for/master%toppic=x")).toContain("options are not understood");
    expect((await dora.push("refs/tags/v1")).stderr).toContain("dora may not push to tag v1");
    for (const ref of ["refs/changes/01/1/9", "refs/zuul/master/Zx"]) {
      expect((await dora.push(ref)).stderr).toMatch(/push to refs\/for|hidden ref/);
    }
    expect((await dora.git("push", "origin", ":refs/for/master")).exitCode).not.toBe(0);
    await dora.ok("checkout", "-q", "--orphan", "alone");
    await dora.commit("z", "z\n", "Alone");
    expect(await refusal("refs/for/master")).toContain("shares no history");
    expect((await readRefs(bench.git, bench.review.source("app")!, [])).size).toBe(1);
  });

  test("surface.md §6 a branch itself: not by a developer; by operators it merges changes", async () => {
    await dora.commit("a", "a\n", "Add a");
    await dora.push("refs/for/master");
    await dora.commit("b", "b\n", "Add b");
    await dora.push("refs/for/master");
    expect(await refusal("refs/heads/master")).toContain("HEAD:refs/for/master");
    const otto = await bench.author("otto");
    await otto.ok("fetch", "-q", "origin", "refs/changes/01/1/1");
    await otto.ok("checkout", "-q", "FETCH_HEAD");
    const pushed = await otto.push("refs/heads/master");
    expect(pushed.exitCode, pushed.stderr).toBe(0);
    expect((await bench.review.views.get(1)).status).toBe("MERGED");
    expect(await bench.review.views.get(2)).toMatchObject({ status: "NEW", dependsOn: [] });
    await until(() => bench.events.some((one) => one.type === "change-merged"), {
      timeoutMs: 5_000,
      what: "the event",
    });
    await dora.ok("checkout", "-q", "HEAD~1");
    await dora.ok("commit", "-q", "--amend", "--no-edit", "--date=2020-01-01T00:00:00Z");
    expect(await refusal("refs/for/master")).toContain("which is merged");
    const gone = await otto.git("push", "origin", ":refs/heads/master");
    expect(gone.stderr).toContain("has open changes: 2");
  });

  test("surface.md §6 who has no token is asked, who may not push is told why", async () => {
    await dora.commit("a", "a\n", "Add a");
    for (const name of ["rita", "hugo"]) {
      const author = await bench.author(name);
      await author.commit("a", "a\n", "Add a");
      const pushed = await author.push("refs/for/master");
      expect(pushed.stderr).toContain("to push takes a developer");
    }
    const stranger = await dora.git(
      "-c",
      "credential.helper=",
      "push",
      "origin",
      "HEAD:refs/for/master",
    );
    expect(stranger.stderr).toMatch(/could not read Username|Authentication failed/);
    const wrong = await dora.git("-c", "credential.helper=", "ls-remote", `${bench.url}/git/none`);
    expect(wrong.stderr).toContain("there is no project none");
    expect(await changes()).toEqual([]);
  });

  test("what was refused leaves no objects behind", async () => {
    const commit = await dora.commit("a", "a\n", "Add a", null);
    await refusal("refs/for/master");
    const found = await bench.git.run(bench.review.source("app")!, ["cat-file", "-e", commit], {
      accept: "any",
    });
    expect(found.exitCode).not.toBe(0);
  });
});

test("surface.md §4 anonymousRead off: reading takes a token too, any", async () => {
  await using closed = await openBench(["app"], "off");
  const refs = `${closed.url}/git/app/info/refs?service=git-upload-pack`;
  const asked = await fetch(refs);
  expect(asked.status).toBe(401);
  expect(asked.headers.get("www-authenticate")).toMatch(/^Basic /);
  const as = async (token: string) => {
    const authorization = `Basic ${Buffer.from(token).toString("base64")}`;
    return (await fetch(refs, { headers: { authorization } })).status;
  };
  expect([await as("rita:rita"), await as("rita:wrong")]).toEqual([200, 401]);
  expect((await fetch(`${closed.url}/git/hooks/commit-msg`)).status).toBe(200);
  expect((await fetch(`${closed.url}/git/app/HEAD`)).status).toBe(404);
});

test("surface.md §6 the hooks' socket is this user's alone", async () => {
  expect((await stat(join(bench.directory, "run/git.sock"))).mode & 0o777).toBe(0o600);
  const hook = await readFile(join(bench.directory, "bin/git-hooks/proc-receive"), "utf8");
  expect(hook).toMatch(/^#!\/bin\/sh\nulimit .*\nexec '/);
});

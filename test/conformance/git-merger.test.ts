/**
 * The merger on real repositories, and the nodes' door with the real git client: what a node can
 * fetch, and that there is nothing else behind that door.
 */
import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { until } from "../../src/base/wait.ts";
import { openMerger } from "../../src/ci/merger/merger.ts";
import type { MergeResult, Merger } from "../../src/ci/merger/merger.ts";
import { openNodesDoor } from "../../src/git/nodes-door.ts";
import { readRefs } from "../../src/git/repository.ts";
import type { ReviewChange } from "../../src/review/review-port.ts";
import { openBench } from "./git-bench.ts";
import type { Author, Bench } from "./git-bench.ts";

let bench: Bench;
let dora: Author;
let merger: Merger;
const signal = new AbortController().signal;

beforeEach(async () => {
  bench = await openBench(["app", "lib", "empty"]);
  await bench.seed("app", { "a.txt": "one\ntwo\nthree\n", "b.txt": "b\n" });
  await bench.seed("lib", { lib: "lib\n" }, "main");
  dora = await bench.author("dora");
  merger = mergerIn("merger");
});
afterEach(() => bench[Symbol.asyncDispose]());

const mergerIn = (name: string): Merger =>
  openMerger({
    directory: join(bench.directory, "server", name),
    git: bench.git,
    source: (project) => bench.review.source(project),
    log: silentLog,
  });

const itemOf = (change: ReviewChange, patchset = change.patchset) => {
  const { commit, ref } = change.patchsets[patchset - 1]!;
  const { project, branch, number } = change;
  return { project, branch, change: number, patchset, ref, commit };
};

async function requestFor(number: number, ahead: number[] = [], required = ["app", "lib"]) {
  const items = [];
  for (const one of [...ahead, number]) items.push(itemOf(await bench.review.change(one)));
  return { buildset: systemRandom.uuid4(), items, requiredProjects: required };
}

function merged(result: MergeResult): Extract<MergeResult, { kind: "merged" }> {
  expect(result).toMatchObject({ kind: "merged" });
  return result as Extract<MergeResult, { kind: "merged" }>;
}

/** The branch moves on under the changes. */
async function advance(file: string, text: string): Promise<string> {
  const otto = await bench.author("otto");
  const commit = await otto.commit(file, text, "Move on", null);
  expect((await otto.push("refs/heads/master")).exitCode).toBe(0);
  return commit;
}

const show = async (project: string, object: string): Promise<string> =>
  (await bench.git.run(merger.repositories.path(project), ["show", object])).stdout;

describe("the merger", () => {
  test("M-1, M-3, M-7 merges a change on the tip, with files, base and the other repositories", async () => {
    const commit = await dora.commit("a.txt", "ONE\ntwo\nthree\n", "Change a");
    await dora.push("refs/for/master");
    const tip = await advance("b.txt", "c\n");
    const request = await requestFor(1);
    const result = merged(await merger.prepare(request, signal));
    expect(result.files).toEqual({ files: ["a.txt"], more: false });
    const [app, lib] = result.repos;
    expect(app).toMatchObject({
      project: "app",
      branch: "master",
      baseCommit: tip,
      commit: result.zuulCommit,
      zuulRef: result.zuulRef,
      defaultBranch: "master",
      why: "the change, merged on master",
    });
    expect(lib).toMatchObject({ project: "lib", branch: "main", zuulRef: null });
    expect(lib?.commit).toBe(lib?.baseCommit);
    expect(await show("app", `${result.zuulRef}:a.txt`)).toContain("ONE");
    expect(await show("app", `${result.zuulRef}:b.txt`)).toBe("c\n");
    const { stdout } = await bench.git.run(merger.repositories.path("app"), [
      "log",
      "-1",
      "--format=%P %cn",
      result.zuulCommit,
    ]);
    expect(stdout.trim()).toBe(`${tip} ${commit} Rackyard Merger`);
  });

  test("M-2 a change that stands on the tip is itself the result; what is in already too", async () => {
    const commit = await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    const request = await requestFor(1);
    expect(merged(await merger.prepare(request, signal)).zuulCommit).toBe(commit);
    const otto = await bench.author("otto");
    await otto.ok("pull", "-q", "origin", "refs/changes/01/1/1");
    await otto.push("refs/heads/master");
    const again = await merger.prepare({ ...request, buildset: systemRandom.uuid4() }, signal);
    expect(merged(again).zuulCommit).toBe(commit);
  });

  test("M-1, M-6 dependencies ahead are merged first, in order", async () => {
    await dora.commit("one", "1\n", "One");
    await dora.commit("two", "2\n", "Two");
    await dora.push("refs/for/master");
    await advance("b.txt", "c\n");
    const result = merged(await merger.prepare(await requestFor(2, [1]), signal));
    for (const file of ["one", "two"])
      expect(await show("app", `${result.zuulRef}:${file}`)).toBeTruthy();
    expect(result.files.files).toEqual(["two"]);
    // M-6: origin/master..master is the tested change alone
    const range = `${result.repos[0]!.baseCommit}..${result.zuulCommit}`;
    expect(await show("app", `${result.repos[0]!.baseCommit}:one`)).toBe("1\n");
    const { stdout } = await bench.git.run(merger.repositories.path("app"), [
      "diff",
      "--name-only",
      range,
    ]);
    expect(stdout).toBe("two\n");
  });

  test("M-3 a conflict names the files and says what git says", async () => {
    await dora.commit("a.txt", "mine\n", "Change a");
    await dora.push("refs/for/master");
    await advance("a.txt", "theirs\n");
    const result = await merger.prepare(await requestFor(1), signal);
    expect(result).toMatchObject({ kind: "conflict", files: ["a.txt"] });
    expect((result as { message: string }).message).toMatch(
      /change 1 patchset 1 does not merge into app master:\nCONFLICT \(content\)/,
    );
  });

  test("M-5 two mergers make the same commit, and one asked again answers as frozen", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    await advance("b.txt", "c\n");
    const request = await requestFor(1);
    const first = merged(await merger.prepare(request, signal));
    const other = merged(await mergerIn("other").prepare(request, signal));
    expect(other).toEqual(first);
    const later = await advance("b.txt", "d\n");
    expect(await mergerIn("merger").prepare(request, signal)).toEqual(first);
    const anew = merged(await merger.prepare(await requestFor(1), signal));
    expect(anew.repos[0]?.baseCommit).toBe(later);
  });

  test("M-3 an error is no conflict: an unknown project is named, an empty one too", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    const unknown = await merger.prepare(await requestFor(1, [], ["app", "nowhere"]), signal);
    expect(unknown).toMatchObject({ kind: "error", cause: "request" });
    expect((unknown as { detail: string }).detail).toContain("nowhere");
    const empty = await merger.prepare(await requestFor(1, [], ["empty"]), signal);
    expect((empty as { detail: string }).detail).toContain("project empty has no branches yet");
  });

  test("M-7 a broken cache is cloned again; a source that is gone is an error after three tries", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    const first = merged(await merger.prepare(await requestFor(1), signal));
    const cache = merger.repositories.path("app");
    await rm(join(cache, "objects"), { recursive: true });
    await writeFile(join(cache, "packed-refs"), "no refs at all\n");
    const second = merged(await merger.prepare(await requestFor(1), signal));
    expect(second.zuulCommit).toBe(first.zuulCommit);
    await rm(bench.review.source("app")!, { recursive: true });
    const third = await merger.prepare(await requestFor(1), signal);
    expect(third).toMatchObject({ kind: "error", cause: "machine" });
  });

  test("M-4 refs of buildsets that are over expire, those of live ones stay", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    const over = await requestFor(1);
    const live = await requestFor(1);
    await merger.prepare(over, signal);
    const kept = merged(await merger.prepare(live, signal));
    expect(await merger.sweep(() => new Set([live.buildset]), signal)).toEqual({ forgotten: 1 });
    const refs = await readRefs(bench.git, merger.repositories.path("app"), ["refs/zuul/"]);
    expect([...refs.keys()]).toEqual([kept.zuulRef]);
    await merger.sweep(() => new Set(), signal);
    const all = await readRefs(bench.git, merger.repositories.path("app"), []);
    expect([...all.keys()]).toEqual(["refs/heads/master"]);
  });

  test("many at once on one repository", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    await advance("b.txt", "c\n");
    const requests = await Promise.all([1, 1, 1, 1].map((number) => requestFor(number)));
    const results = await Promise.all(requests.map((one) => merger.prepare(one, signal)));
    const commits = new Set(results.map((one) => merged(one).zuulCommit));
    expect(commits.size).toBe(1);
  });
});

describe("the nodes' door", () => {
  const door = () =>
    openNodesDoor({ git: bench.git, repositories: merger.repositories, log: silentLog });

  test("surface.md §4 a node fetches the item's ref, branches, and a frozen commit", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    const frozen = await advance("b.txt", "c\n");
    const result = merged(await merger.prepare(await requestFor(1), signal));
    const otto = await bench.author("otto");
    await otto.commit("b.txt", "rewritten\n", "Rewrite", null);
    await otto.ok("reset", "-q", "--soft", "HEAD~2");
    await otto.ok("commit", "-q", "-m", "Rewritten");
    await otto.ok("push", "-q", "--force", "origin", "HEAD:refs/heads/master");
    merged(await merger.prepare(await requestFor(1), signal));
    await using nodes = door();
    const { port } = await nodes.listen("127.0.0.1", 0, signal);
    const url = `http://127.0.0.1:${port}/git/app`;
    const clone = join(bench.directory, "node");
    const git = async (...args: string[]) =>
      (await run("git", args, { env: plainEnv({ HOME: bench.directory }) })).stdout.trim();
    await git("init", "-q", clone);
    await git("-C", clone, "fetch", "-q", url, result.zuulRef, "refs/heads/master");
    expect(await git("-C", clone, "rev-parse", "FETCH_HEAD")).toBe(result.zuulCommit);
    await git("-C", clone, "fetch", "-q", url, frozen);
    expect(await git("-C", clone, "rev-parse", "FETCH_HEAD")).toBe(frozen);
    const listed = await git("ls-remote", url);
    expect(listed).not.toContain("refs/frozen");
    expect(listed).toContain("HEAD");
    const pushed = await run("git", ["-C", clone, "push", url, "FETCH_HEAD:refs/heads/x"], {
      env: plainEnv({ HOME: bench.directory }),
      accept: "any",
    });
    expect(pushed.stderr).toContain("nothing can be pushed here");
  });

  test("surface.md §4 every other route is closed", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    merged(await merger.prepare(await requestFor(1), signal));
    await using nodes = door();
    const { port } = await nodes.listen("127.0.0.1", 0, signal);
    const ask = async (method: string, path: string): Promise<number> => {
      const request = httpRequest({ host: "127.0.0.1", port, method, path });
      request.end(method === "GET" || method === "HEAD" ? undefined : "0000");
      const [response] = (await once(request, "response")) as [IncomingMessage];
      response.resume();
      return response.statusCode ?? 0;
    };
    const refs = "/git/app/info/refs?service=git-upload-pack";
    expect(await ask("GET", refs)).toBe(200);
    const closed: [string, string][] = [
      ["GET", "/"],
      ["GET", "/git"],
      ["GET", "/git/"],
      ["GET", "/git/app"],
      ["GET", "/git/app/HEAD"],
      ["GET", "/git/app/config"],
      ["GET", "/git/app/info/refs"],
      ["GET", "/git/app/info/refs?service=git-upload-archive"],
      ["GET", "/git/app/objects/info/packs"],
      ["GET", "/git/app/git-upload-pack"],
      ["POST", "/git/app/git-upload-archive"],
      ["POST", refs],
      ["HEAD", refs],
      ["PUT", refs],
      ["DELETE", refs],
      ["OPTIONS", refs],
      ["PATCH", "/git/app/git-upload-pack"],
      ["GET", "/git/hooks/commit-msg"],
      ["GET", "/git/../git/app/info/refs?service=git-upload-pack"],
      ["GET", "/git/..%2fgit%2fapp/info/refs?service=git-upload-pack"],
      ["GET", "/git/.prepared/info/refs?service=git-upload-pack"],
      ["GET", "/git//app/info/refs?service=git-upload-pack"],
      ["GET", "/git/lost/info/refs?service=git-upload-pack"],
      ["GET", "/v1/changes"],
      ["GET", "/v1/status"],
      ["GET", "/logs/"],
      ["GET", "/healthz"],
      ["GET", "/metrics"],
    ];
    for (const [method, path] of closed) {
      expect([method, path, await ask(method, path)]).toEqual([method, path, 404]);
    }
    expect(await ask("GET", "/git/app/info/refs?service=git-receive-pack")).toBe(403);
    expect(await ask("POST", "/git/app/git-receive-pack")).toBe(403);
    expect(await ask("POST", "/git/app/git-upload-pack")).toBe(415);
  });

  test("surface.md §4 it waits until its address exists, and names a port that is taken", async () => {
    await using first = door();
    const { port } = await first.listen("127.0.0.1", 0, signal);
    await using second = door();
    await expect(second.listen("127.0.0.1", port, signal)).rejects.toMatchObject({
      code: "port-taken",
    });
    await using third = door();
    const stop = new AbortController();
    const waiting = third.listen("203.0.113.77", 0, stop.signal);
    waiting.catch(() => undefined);
    const ip = (...args: string[]) => run("ip", ["addr", ...args, "203.0.113.77/32", "dev", "lo"]);
    await ip("add");
    try {
      expect((await waiting).address).toBe("203.0.113.77");
    } finally {
      stop.abort();
      await ip("del");
    }
  });

  test("a client that goes away takes its git with it", async () => {
    await dora.commit("a.txt", "x\n", "Change a");
    await dora.push("refs/for/master");
    merged(await merger.prepare(await requestFor(1), signal));
    await using nodes = door();
    const { port } = await nodes.listen("127.0.0.1", 0, signal);
    const request = httpRequest({
      host: "127.0.0.1",
      port,
      method: "POST",
      path: "/git/app/git-upload-pack",
      headers: { "content-type": "application/x-git-upload-pack-request" },
    });
    request.on("error", () => undefined);
    request.write("0032want");
    await until(() => nodes.active === 1, { timeoutMs: 10_000, what: "git to serve" });
    request.destroy();
    const gone = () => nodes.active === 0;
    expect(await until(gone, { timeoutMs: 10_000, what: "git to end" })).toBe(true);
  });
});

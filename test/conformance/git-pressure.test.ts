/**
 * Git under pressure: many fetches at once, work whose cost is not its size, clients that stop in
 * the middle, and what a git that died leaves. All of it with the real git.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { until } from "../../src/base/wait.ts";
import { openMerger } from "../../src/ci/merger/merger.ts";
import type { MergeResult, Merger } from "../../src/ci/merger/merger.ts";
import { openNodesDoor } from "../../src/git/nodes-door.ts";
import { readRefs } from "../../src/git/repository.ts";
import { openBench } from "./git-bench.ts";
import type { Author, Bench } from "./git-bench.ts";

let bench: Bench;
let dora: Author;
let merger: Merger;
const signal = new AbortController().signal;

beforeEach(async () => {
  bench = await openBench(["app"]);
  await bench.seed("app", { "a.txt": "one\n" });
  dora = await bench.author("dora");
  merger = openMerger({
    directory: join(bench.directory, "server/merger"),
    git: bench.git,
    source: (project) => bench.review.source(project),
    log: silentLog,
  });
});
afterEach(() => bench[Symbol.asyncDispose]());

async function requestFor(number: number) {
  const change = await bench.review.change(number);
  const { commit, ref } = change.patchsets.at(-1)!;
  const { project, branch, patchset } = change;
  const item = { project, branch, change: number, patchset, ref, commit };
  return { buildset: systemRandom.uuid4(), items: [item], requiredProjects: [project] };
}

function merged(result: MergeResult): Extract<MergeResult, { kind: "merged" }> {
  expect(result).toMatchObject({ kind: "merged" });
  return result as Extract<MergeResult, { kind: "merged" }>;
}

/** The branch moves on under the changes. */
async function advance(file: string, text: string): Promise<void> {
  const otto = await bench.author("otto");
  await otto.commit(file, text, "Move on", null);
  expect((await otto.push("refs/heads/master")).exitCode).toBe(0);
}

/** Trees that name each other, ten a level: 10^12 paths in three kilobytes. */
async function bomb(author: Author, leaf: string): Promise<string> {
  const blob = join(author.directory, ".git/leaf");
  await writeFile(blob, leaf);
  const git = async (stdin: string, ...args: string[]): Promise<string> =>
    (await run("git", args, { cwd: author.directory, stdin, env: plainEnv() })).stdout.trim();
  const id = await git(leaf, "hash-object", "-w", "--stdin");
  let tree = await git(`100644 blob ${id}\tf\n`, "mktree");
  for (let level = 0; level < 12; level++) {
    const entries = Array.from({ length: 10 }, (_, n) => `040000 tree ${tree}\td${n}\n`);
    tree = await git(entries.join(""), "mktree");
  }
  return tree;
}

/** Most memory that git of this bench used, looked at often, in bytes. */
function watchMemory() {
  const mark = `GIT_CONFIG_GLOBAL=${join(bench.directory, "server/gitconfig")}`;
  const seen = { most: 0 };
  const stop = new AbortController();
  const watching = until(
    async () => {
      for (const pid of (await readdir("/proc")).filter((name) => /^[0-9]+$/.test(name))) {
        const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
        if (!environment.split("\0").includes(mark)) continue;
        const name = await readFile(`/proc/${pid}/comm`, "utf8").catch(() => "");
        if (name.trim() !== "git") continue;
        const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
        const kib = Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0);
        seen.most = Math.max(seen.most, kib * 1024);
      }
      return stop.signal.aborted;
    },
    { timeoutMs: 120_000, everyMs: 50, what: "the end of the watch" },
  );
  return {
    async end(): Promise<number> {
      stop.abort();
      await watching;
      return seen.most;
    },
  };
}

describe("work whose cost is not its size", () => {
  test("trees that name each other: the list of files is cut, the change goes on", async () => {
    const parent = await dora.ok("rev-parse", "HEAD");
    const tree = await bomb(dora, "one");
    const message = `Bomb\n\nChange-Id: I${"b".repeat(40)}`;
    const commit = await dora.ok("commit-tree", tree, "-p", parent, "-m", message);
    const pushed = await dora.git("push", "origin", `${commit}:refs/for/master`);
    expect(pushed.exitCode, pushed.stderr).toBe(0);
    const watch = watchMemory();
    const started = performance.now();
    const result = merged(await merger.prepare(await requestFor(1), signal));
    expect(result.files).toEqual({ files: [], more: true });
    expect(performance.now() - started).toBeLessThan(40_000);
    expect(await watch.end()).toBeLessThan(600 * 1024 * 1024);
  });

  test("a fetch that unpacks to more than 8 MiB is cut before git keeps it", async () => {
    const tip = await dora.ok("rev-parse", "HEAD");
    await dora.commit("b", "b\n", "Add b");
    await dora.push("refs/for/master");
    merged(await merger.prepare(await requestFor(1), signal));
    await using door = openNodesDoor({
      git: bench.git,
      repositories: merger.repositories,
      log: silentLog,
    });
    const { port } = await door.listen("127.0.0.1", 0, signal);
    const line = (text: string) => (text.length + 4).toString(16).padStart(4, "0") + text;
    const haves = line(`have ${tip}\n`).repeat(1_000_000);
    const body = gzipSync(`${line(`want ${tip} multi_ack\n`)}0000${haves}`);
    expect(body.length).toBeLessThan(1024 * 1024);
    const watch = watchMemory();
    const request = post(port, { "content-encoding": "gzip" });
    request.end(body);
    const ended = await Promise.race([
      once(request, "error").then(() => "cut"),
      once(request, "response").then(async ([answer]) => {
        const response = answer as IncomingMessage;
        response.on("error", () => undefined); // "aborted": that it is cut is what is asked
        response.resume();
        await new Promise((resolve) => response.once("close", resolve));
        return response.complete ? "whole" : "cut";
      }),
    ]);
    expect(ended).toBe("cut");
    await until(() => door.active === 0, { timeoutMs: 10_000, what: "git to end" });
    expect(await watch.end()).toBeLessThan(100 * 1024 * 1024);
  });
});

function post(port: number, headers: Record<string, string> = {}): ClientRequest {
  const request = httpRequest({
    host: "127.0.0.1",
    port,
    method: "POST",
    path: "/git/app/git-upload-pack",
    headers: { "content-type": "application/x-git-upload-pack-request", ...headers },
  });
  request.on("error", () => undefined);
  return request;
}

describe("many at once, and those that stop", () => {
  test("forty builds fetch 20 MB each at once: all succeed", { timeout: 200_000 }, async () => {
    const bytes = 20 * 1024 * 1024;
    await writeFile(join(dora.directory, "large"), randomBytes(bytes));
    await dora.commit("b", "b\n", "Add a large file");
    await dora.push("refs/for/master");
    const { zuulRef, zuulCommit } = merged(await merger.prepare(await requestFor(1), signal));
    await using door = openNodesDoor({
      git: bench.git,
      repositories: merger.repositories,
      log: silentLog,
    });
    const { port } = await door.listen("127.0.0.1", 0, signal);
    const env = plainEnv({ HOME: bench.directory });
    const fetchOne = async (n: number): Promise<string> => {
      const clone = join(bench.directory, `node-${n}`);
      await run("git", ["init", "-q", clone], { env });
      const url = `http://127.0.0.1:${port}/git/app`;
      await run("git", ["-C", clone, "fetch", "-q", url, zuulRef], { env, timeoutMs: 180_000 });
      const head = await run("git", ["-C", clone, "rev-parse", "FETCH_HEAD"], { env });
      await run("rm", ["-rf", clone]);
      return head.stdout.trim();
    };
    const fetched = await Promise.all(Array.from({ length: 40 }, (_, n) => fetchOne(n)));
    expect(new Set(fetched)).toEqual(new Set([zuulCommit]));
  });

  test("silent clients give their places back: in the headers, in the body, in the answer", async () => {
    await dora.commit("b", "b\n", "Add b");
    await dora.push("refs/for/master");
    merged(await merger.prepare(await requestFor(1), signal));
    await using door = openNodesDoor({
      git: bench.git,
      repositories: merger.repositories,
      log: silentLog,
      silenceMs: 300,
      places: { places: 2, placesPerSource: 2, waiting: 9, waitingPerSource: 9, waitMs: 60_000 },
    });
    const { port } = await door.listen("127.0.0.1", 0, signal);
    const mute = connect(port, "127.0.0.1");
    mute.on("error", () => undefined);
    mute.write("GET /git/app/info/refs HTTP/1.1\r\nhost: x\r\n");
    const muteEnds = once(mute, "close");
    const silent = [post(port), post(port), post(port)];
    for (const request of silent) request.write("0032want");
    await until(() => door.active === 2, { timeoutMs: 10_000, what: "both places taken" });
    const env = plainEnv({ HOME: bench.directory });
    const listed = await run("git", ["ls-remote", `http://127.0.0.1:${port}/git/app`], { env });
    expect(listed.stdout).toContain("refs/heads/master");
    await until(() => door.active + door.waiting === 0, { timeoutMs: 10_000, what: "all gone" });
    mute.resume();
    await muteEnds;
  });
});

describe("what keeps the merger from its work", () => {
  test("locks of a git that died are removed, in the running server too", async () => {
    await dora.commit("b", "b\n", "Add b");
    await dora.push("refs/for/master");
    merged(await merger.prepare(await requestFor(1), signal));
    const copy = merger.repositories.path("app");
    await mkdir(join(copy, "refs/heads"), { recursive: true });
    for (const lock of ["packed-refs.lock", "refs/heads/master.lock", "HEAD.lock"]) {
      await writeFile(join(copy, lock), "");
    }
    await advance("c.txt", "c\n");
    merged(await merger.prepare(await requestFor(1), signal));
    expect((await readdir(copy)).filter((name) => name.endsWith(".lock"))).toEqual([]);
  });

  test("a commit of the year 2106, or of no year, on the branch is merged onto", async () => {
    const otto = await bench.author("otto");
    await dora.commit("b", "b\n", "Add b");
    await dora.push("refs/for/master");
    const odd = ["@4294967296 +0000", "@99999999999999 +0000"];
    for (const [n, date] of odd.entries()) {
      await otto.write(`c${n}`, "c\n");
      await otto.ok("add", "--all");
      const commit = `GIT_COMMITTER_DATE='${date}' git commit -q -m 'A wrong clock'`;
      await otto.ok("-c", `alias.late=!${commit}`, "late");
      await otto.push("refs/heads/master");
      const result = merged(await merger.prepare(await requestFor(1), signal));
      expect(result.zuulCommit).toMatch(/^[0-9a-f]{40}$/);
    }
  });
});

test("M-5 one ref keeps a frozen state, tags among it; what is prepared meanwhile survives a sweep", async () => {
  const otto = await bench.author("otto");
  await otto.ok("tag", "-a", "v1.0", "-m", "Release 1.0");
  await otto.ok("tag", "light");
  const branches = Array.from({ length: 20 }, (_, n) => `HEAD:refs/heads/b${n}`);
  await otto.ok("push", "-q", "origin", "v1.0", "light", ...branches);
  await dora.commit("b", "b\n", "Add b");
  await dora.push("refs/for/master");
  const first = merged(await merger.prepare(await requestFor(1), signal));
  const second = merged(await merger.prepare(await requestFor(1), signal));
  const copy = merger.repositories.path("app");
  const ours = await readRefs(bench.git, copy, ["refs/zuul/", "refs/frozen/"]);
  expect([...ours.keys()].sort()).toEqual(
    [`refs/frozen/${first.repos[0]!.state}`, first.zuulRef, second.zuulRef].sort(),
  );
  const text = await bench.git.run(copy, ["cat-file", "commit", first.repos[0]!.state!]);
  expect(text.stdout).toMatch(/^[0-9a-f]{40} refs\/tags\/v1\.0$/m);
  expect(text.stdout).toMatch(/^[0-9a-f]{40} refs\/heads\/b19$/m);
  // the sweep learns of what came while it ran
  const request = await requestFor(1);
  const live = new Set<string>();
  const sweeping = merger.sweep(() => live, signal);
  live.add(request.buildset);
  const late = await merger.prepare(request, signal);
  await sweeping;
  await merger.sweep(() => live, signal);
  const kept = await readRefs(bench.git, copy, ["refs/zuul/", "refs/frozen/"]);
  expect([...kept.keys()].sort()).toEqual(
    [`refs/frozen/${first.repos[0]!.state}`, merged(late).zuulRef].sort(),
  );
});

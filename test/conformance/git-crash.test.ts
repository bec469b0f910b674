/**
 * The review system killed in the middle of a push (docs/specs/change.md, "After a crash"), and
 * pushes that are large: the change is there once or not at all, and memory does not follow.
 */
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { request as httpRequest } from "node:http";
import type { IncomingMessage } from "node:http";
import { createConnection } from "node:net";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { launch } from "../../src/base/command.ts";
import type { Child } from "../../src/base/command.ts";
import { limits } from "../../src/base/limits.ts";
import { until } from "../../src/base/wait.ts";
import { makeAuthor, openBench, pushFirstContent, remoteLines } from "./git-bench.ts";
import type { Author } from "./git-bench.ts";

describe("kill -9 in the middle of a push", () => {
  let directory: string;
  let program: Child | undefined;
  let dora: Author;
  let port = "0";

  async function start(killAt: string): Promise<string> {
    const file = join(import.meta.dirname, "review-program.ts");
    program = launch(process.execPath, [file, directory, port, killAt]);
    const [chunk] = (await once(program.stdout!, "data")) as [Buffer];
    const url = chunk.toString("utf8").trim();
    port = new URL(url).port;
    return url;
  }

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "rackyard-git-"));
    port = "0";
    const url = await start("none");
    await pushFirstContent(
      await makeAuthor({ directory, url }, "ada", "app"),
      { a: "a\n" },
      "master",
    );
    dora = await makeAuthor({ directory, url }, "dora", "app");
    await program!.end();
  });
  afterEach(async () => {
    await program?.end();
    await rm(directory, { recursive: true, force: true });
  });

  test.each([
    ["before numbers are taken", "1", "change 1 patchset 1"],
    ["after numbers and refs, before the record", "2", "change 3 patchset 1"],
    ["after the record, before the answer", "recorded", "no new changes"],
  ])("C1, C4 %s", async (_, killAt, then) => {
    await dora.commit("b", "b\n", "Add b");
    await dora.commit("c", "c\n", "Add c");
    await start(killAt);
    const cut = await dora.push("refs/for/master");
    expect(cut.exitCode).not.toBe(0);
    expect((await program!.exited).signalNumber).toBe(9);
    await start("none");
    const again = await dora.push("refs/for/master");
    expect(remoteLines(again).join("\n")).toContain(then);
    const listed = await dora.ok("ls-remote", "origin", "refs/changes/*");
    const commits = new Set(listed.split("\n").map((line) => line.split("\t")[0]));
    expect(commits.size).toBe(2);
    const third = await dora.push("refs/for/master");
    expect(remoteLines(third).join("\n")).toContain("no new changes");
  });
});

test("C3 a branch that was written before a crash merges its changes at the next start", async () => {
  await using bench = await openBench();
  await bench.seed("app");
  const dora = await bench.author("dora");
  const commit = await dora.commit("b", "b\n", "Add b");
  await dora.push("refs/for/master");
  const repository = bench.review.source("app")!;
  await bench.git.run(repository, ["update-ref", "refs/heads/master", commit]);
  expect((await bench.review.views.get(1)).status).toBe("NEW");
  await bench.restart();
  expect((await bench.review.views.get(1)).status).toBe("MERGED");
  const last = (await bench.review.eventsSince(0, 9)).at(-1);
  expect(last).toMatchObject({ type: "change-merged", newRev: commit });
});

describe("large and strange pushes", () => {
  test("a push of 100 MB passes through, and does not stay in memory", async () => {
    await using bench = await openBench();
    await bench.seed("app");
    const dora = await bench.author("dora");
    const size = 100 * 1024 * 1024;
    for (let n = 0; n < 4; n++) {
      await writeFile(join(dora.directory, `big${n}`), randomBytes(size / 4));
    }
    await dora.commit("small", "x\n", "Add much");
    const before = process.memoryUsage();
    let most = 0;
    const pushing = dora.push("refs/for/master");
    let over = false;
    const ended = pushing.finally(() => (over = true));
    await until(
      () => {
        const now = process.memoryUsage();
        most = Math.max(most, now.external + now.heapUsed - before.external - before.heapUsed);
        return over;
      },
      { timeoutMs: 100_000, everyMs: 20, what: "the push" },
    );
    const pushed = await ended;
    expect(pushed.exitCode, pushed.stderr).toBe(0);
    expect(remoteLines(pushed)).toContain("remote: change 1 patchset 1: Add much");
    expect(most).toBeLessThan(size / 2);
  });

  test("a pack that is broken, a body that is no push, a hook's socket that is asked by strangers", async () => {
    await using bench = await openBench();
    await bench.seed("app");
    const authorization = `Basic ${Buffer.from("dora:dora").toString("base64")}`;
    const post = async (body: string | Uint8Array<ArrayBuffer>, type = "git-receive-pack") => {
      const response = await fetch(`${bench.url}/git/app/git-receive-pack`, {
        method: "POST",
        headers: { authorization, "content-type": `application/x-${type}-request` },
        body,
      });
      return { status: response.status, text: await response.text() };
    };
    expect((await post("0000")).status).toBe(200);
    expect((await post("0000", "git-upload-pack")).status).toBe(415);
    const zero = "0".repeat(40);
    const command = `${zero} ${"1".repeat(40)} refs/for/master\0 report-status`;
    const broken = `${(command.length + 4).toString(16).padStart(4, "0")}${command}0000PACKnonsense`;
    expect((await post(broken)).text).not.toContain("unpack ok");
    expect((await post("zzzz")).text).not.toContain("ok");
    const fetching = (body: Uint8Array<ArrayBuffer>) =>
      fetch(`${bench.url}/git/app/git-upload-pack`, {
        method: "POST",
        headers: {
          "content-type": "application/x-git-upload-pack-request",
          "content-encoding": "gzip",
          "git-protocol": "version=2",
        },
        body,
      });
    const zipped = await fetching(Uint8Array.from(gzipSync("0014command=ls-refs\n0000")));
    expect(await zipped.text()).toContain("refs/heads/master");
    await fetching(Uint8Array.from(Buffer.from("no gzip"))).then(
      (response) => response.text(),
      () => "cut",
    );
    const long = httpRequest(`${bench.url}/git/app/git-receive-pack`, {
      method: "POST",
      headers: {
        authorization,
        "content-type": "application/x-git-receive-pack-request",
        "content-length": String(2 * limits.pushBytes),
      },
    });
    long.on("error", () => undefined);
    long.flushHeaders();
    const [answer] = (await once(long, "response")) as [IncomingMessage];
    expect(answer.statusCode).toBe(413);
    long.destroy();
    const socket = createConnection(join(bench.directory, "run/git.sock"));
    socket.write(`${JSON.stringify({ push: "guess", hook: "proc-receive", objects: {} })}\n`);
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    await once(socket, "end");
    expect(Buffer.concat(chunks).toString("utf8")).toContain("this push is over");
    socket.destroy();
    expect((await bench.review.views.list({ limit: 9 })).items).toEqual([]);
  });
});

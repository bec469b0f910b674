/**
 * The executor against real OpenSSH and git, on a node without a machine: phases, time-outs,
 * unreachability, workspace, collection. The merger's repositories are plain bare ones.
 */
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { until } from "../../src/base/wait.ts";
import { openFileArchive } from "../../src/ci/archive/archive.ts";
import type { Executor, ExecutorJob } from "../../src/ci/builds/build-ports.ts";
import { openExecutor } from "../../src/ci/executor/executor.ts";
import type { FrozenJob } from "../../src/model/job.ts";
import { openNodeSandbox } from "./node-sandbox.ts";
import type { NodeSandbox } from "./node-sandbox.ts";

let sandbox: NodeSandbox;
let directory: string;
let executor: Executor & AsyncDisposable;
let archive: ReturnType<typeof openFileArchive>;
let tip: string;
let merged: string;
const signal = new AbortController().signal;

beforeAll(async () => {
  sandbox = await openNodeSandbox();
});
afterAll(() => sandbox[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-executor-"));
  archive = openFileArchive({
    directory: join(directory, "archive"),
    clock: systemClock,
    log: silentLog,
  });
  executor = openExecutor({
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    sink: archive,
    identityFile: sandbox.identityFile,
    runDirectory: join(directory, "run"),
    doorUrl: () => `file://${directory}/merger`,
  });
  await makeRepository();
});
afterEach(async () => {
  await executor[Symbol.asyncDispose]();
  await onNode("rm -rf /opt/stack/new/* /home/ci/workspace /home/ci/te");
  await rm(directory, { recursive: true });
});

async function onNode(command: string): Promise<string> {
  const { stdout } = await run("nsenter", ["-t", String(sandbox.pid), "-m", "sh", "-c", command]);
  return stdout;
}

async function git(...args: string[]): Promise<string> {
  const identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"];
  const work = join(directory, "work");
  return (await run("git", [...identity, "-C", work, ...args])).stdout.trim();
}

/** A bare repository with a branch, and a change merged at refs/zuul/master/Z1. */
async function makeRepository(): Promise<void> {
  const work = join(directory, "work");
  await mkdir(work, { recursive: true });
  await run("git", ["init", "-q", "-b", "master", work]);
  await git("commit", "-q", "--allow-empty", "-m", "base");
  tip = await git("rev-parse", "HEAD");
  await run("sh", ["-c", `printf '#!/bin/sh\\necho hello from run\\n' >${work}/run.sh`]);
  await run("chmod", ["755", join(work, "run.sh"), directory]);
  await git("add", "run.sh");
  await git("commit", "-q", "-m", "the change");
  merged = await git("rev-parse", "HEAD");
  await git("push", "-q", "--mirror", await bare("tool"));
  const path = await bare("tool");
  await run("git", ["-C", path, "update-ref", "refs/zuul/master/Z1", merged]);
  await run("git", ["-C", path, "update-ref", "refs/heads/master", tip]);
  await run("chmod", ["-R", "a+rX", join(directory, "merger")]);
}

async function bare(name: string): Promise<string> {
  const path = join(directory, "merger", name);
  await run("git", ["init", "-q", "--bare", path]);
  await run("git", ["config", "--file", join(path, "config"), "safe.directory", "*"]);
  return path;
}

function jobOf(changes: Partial<FrozenJob>): ExecutorJob {
  const id = systemRandom.uuid4();
  return {
    resumed: false,
    node: {
      id: systemRandom.uuid4(),
      label: "worker",
      provider: "here",
      address: "127.0.0.1",
      port: sandbox.port,
      hostKey: sandbox.hostKey,
      image: "none",
    },
    lease: null,
    facts: {
      id,
      buildset: systemRandom.uuid4(),
      tenant: "default",
      pipeline: "check",
      project: "tool",
      branch: "master",
      changes: [],
      zuulRef: "refs/zuul/master/Z1",
      zuulCommit: merged,
      repos: [
        {
          project: "tool",
          branch: "master",
          commit: merged,
          zuulRef: "refs/zuul/master/Z1",
          baseCommit: tip,
          defaultBranch: "master",
          branches: { master: tip },
        },
      ],
      job: {
        name: "unit",
        definedAt: "check.yaml:1",
        voting: true,
        attempts: 3,
        timeoutSeconds: 60,
        postTimeoutSeconds: 30,
        node: { name: "node", label: "worker" },
        testenv: null,
        requiredProjects: ["tool"],
        vars: {},
        runIn: "tool",
        preRun: [],
        run: ["./run.sh"],
        postRun: [],
        cleanupRun: [],
        ...changes,
      },
      attempt: 1,
      baseLogPath: "01/1/1",
      logsPath: `01/1/1/check/unit/${id.slice(0, 7)}`,
      logsUrl: "http://x/logs",
      buildUrl: "http://x/builds",
    },
  };
}

async function prepared(changes: Partial<FrozenJob> = {}): Promise<ExecutorJob> {
  const job = jobOf(changes);
  await archive.begin(job.facts);
  await onNode("git config --system safe.directory '*' 2>/dev/null; true");
  expect(await executor.prepare(job, signal)).toEqual({ kind: "done" });
  return job;
}

const fileOf = (job: ExecutorJob, path: string): Promise<string> =>
  readFile(join(directory, "archive", job.facts.logsPath, path), "utf8");

test("V-0, M-6 the workspace is the merged change on ci-branch; origin shows what was before", async () => {
  const job = await prepared();
  const ask = "cd /opt/stack/new/tool && git -c safe.directory=* ";
  expect((await onNode(`${ask} rev-parse HEAD`)).trim()).toBe(merged);
  expect((await onNode(`${ask} rev-parse origin/master`)).trim()).toBe(tip);
  expect((await onNode(`${ask} rev-parse --abbrev-ref HEAD`)).trim()).toBe("ci-branch");
  expect((await onNode(`${ask} remote get-url origin`)).trim()).toBe("file:///dev/null");
  expect((await onNode(`${ask} diff --name-only origin/master..ci-branch`)).trim()).toBe("run.sh");
  expect(JSON.parse(await fileOf(job, "manifest.json"))).toMatchObject({
    repositories: [{ project: "tool", commit: merged, base: tip }],
  });
  expect(JSON.parse(await onNode("cat /home/ci/zuul.json"))).toMatchObject({
    build: job.facts.id,
  });
});

test("X-3 phases run in the checkout with the environment; logs/ comes home", async () => {
  const job = await prepared({
    preRun: ["echo pre $ZUUL_PROJECT"],
    run: ["./run.sh", 'mkdir -p "$WORKSPACE/logs/sub"; echo kept >"$WORKSPACE/logs/sub/a.txt"'],
    postRun: ["echo post"],
    cleanupRun: ["echo cleanup; false"],
  });
  const outcome = await executor.run(job, signal);
  expect(outcome).toEqual({ kind: "done" });
  expect(executor.pids(job.facts.id).length).toBeGreaterThan(0);
  expect(await executor.collect(job, outcome, signal)).toEqual({ kind: "done" });
  expect(executor.pids(job.facts.id)).toEqual([]);
  const console = await fileOf(job, "console.log");
  for (const line of ["pre tool", "hello from run", "post", "cleanup"]) {
    expect(console).toMatch(new RegExp(`^\\d{4}-\\d\\d-\\d\\d [\\d:.]{12} \\| ${line}$`, "m"));
  }
  expect(await fileOf(job, "logs/sub/a.txt")).toBe("kept\n");
});

test("F-0 a command's own status is told, 255 too; later commands do not run", async () => {
  const job = await prepared({ run: ["exit 255", "echo never"] });
  expect(await executor.run(job, signal)).toEqual({ kind: "exited", phase: "run", exitCode: 255 });
  expect(await fileOf(job, "console.log")).not.toContain("| never");
});

test("T-0 a command over its time is ended, with what it started; logs are still collected", async () => {
  const job = await prepared({
    timeoutSeconds: 1,
    run: ['echo begun >"$WORKSPACE/logs/x"; sleep 913 & sleep 913'],
  });
  const outcome = await executor.run(job, signal);
  expect(outcome).toEqual({ kind: "timed-out", phase: "run" });
  expect((await onNode("ps ax -o args | grep -c '^sleep 91[3]' || true")).trim()).toBe("0");
  expect(await executor.collect(job, outcome, signal)).toEqual({ kind: "done" });
  expect(await fileOf(job, "logs/x")).toBe("begun\n");
});

test("X-3a an ssh that is killed is unreachable, not the job's fault", async () => {
  const job = await prepared({ run: ["sleep 987"] });
  const running = executor.run(job, signal);
  await until(() => executor.pids(job.facts.id).length === 2, {
    timeoutMs: 10_000,
    what: "the command's ssh",
  });
  for (const pid of executor.pids(job.facts.id)) process.kill(pid, "SIGKILL");
  expect(await running).toMatchObject({ kind: "unreachable" });
});

test("Q-5 an abort ends the command; cleanup still runs", async () => {
  const stop = new AbortController();
  const job = await prepared({
    run: ['touch "$WORKSPACE/begun"; sleep 987'],
    cleanupRun: ["echo cleaned"],
  });
  const running = executor.run(job, stop.signal);
  await until(async () => (await onNode("ls /home/ci/workspace")).includes("begun"), {
    timeoutMs: 10_000,
    what: "the command",
  });
  stop.abort();
  const outcome = await running;
  expect(outcome).toEqual({ kind: "aborted" });
  await executor.collect(job, outcome, signal);
  expect(await fileOf(job, "console.log")).toContain("| cleaned");
});

test("X-2, N-4 a node with another host key is never spoken to", async () => {
  const job = jobOf({});
  await archive.begin(job.facts);
  const other = { ...job.node, hostKey: job.node.hostKey.slice(0, -4) + "AAAA" };
  const stop = AbortSignal.timeout(3_000);
  expect(await executor.prepare({ ...job, node: other }, stop)).toEqual({ kind: "aborted" });
});

test("L-2 machines that cannot be reached leave the reason; links in logs/ are not kept", async () => {
  const machine = { name: "te1-n0", address: "127.0.0.1", user: "nobody" };
  const job = await prepared({
    run: [
      `printf '%s' '${JSON.stringify([machine])}' >"$WORKSPACE/machines.json"`,
      'ln -s /etc/shadow "$WORKSPACE/logs/shadow"; echo ok >"$WORKSPACE/logs/ok"',
    ],
  });
  const outcome = await executor.run(job, signal);
  await executor.collect(job, outcome, signal);
  expect(await fileOf(job, "logs/machines/te1-n0.missing")).not.toBe("");
  expect(await fileOf(job, "logs/ok")).toBe("ok\n");
  await expect(fileOf(job, "logs/shadow")).rejects.toMatchObject({ code: "ENOENT" });
});

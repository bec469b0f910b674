/**
 * The executor against real OpenSSH and git, on a node without a machine: phases, time-outs,
 * unreachability, workspace, collection. The merger's repositories are plain bare ones.
 */
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openTroubles } from "../../src/base/troubles.ts";
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
const troubles = openTroubles({ log: silentLog, wallMs: () => 0 });

beforeAll(async () => {
  sandbox = await openNodeSandbox();
});
afterAll(() => sandbox[Symbol.asyncDispose]());

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-executor-"));
  archive = openFileArchive({
    directory: join(directory, "archive"),
    clock: systemClock,
    keepDays: 30,
    maxBytes: 2 ** 30,
    log: silentLog,
    troubles,
  });
  executor = openExecutor({
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    troubles,
    sink: archive,
    identityFile: sandbox.identityFile,
    runDirectory: join(directory, "run"),
    doorUrl: () => `file://${directory}/merger`,
  });
  await makeRepository();
});
afterEach(async () => {
  await executor[Symbol.asyncDispose]();
  await archive[Symbol.asyncDispose]();
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
  expect(await executor.prepare(job, signal)).toEqual({ kind: "done" });
  return job;
}

const fileOf = (job: ExecutorJob, path: string): Promise<string> =>
  readFile(join(directory, "archive", job.facts.logsPath, path), "utf8");

async function consoleOf(job: ExecutorJob): Promise<string> {
  let text = "";
  for await (const { line } of archive.console(job.facts, 0, signal, false)) text += `${line}\n`;
  return text;
}

/** Runs and collects; gives the console. */
async function done(changes: Partial<FrozenJob>): Promise<{ job: ExecutorJob; console: string }> {
  const job = await prepared(changes);
  const outcome = await executor.run(job, signal);
  await executor.collect(job, outcome, signal);
  return { job, console: await consoleOf(job) };
}

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
  const console = await consoleOf(job);
  for (const line of ["pre tool", "hello from run", "post", "cleanup"]) {
    expect(console).toMatch(new RegExp(`^\\d{4}-\\d\\d-\\d\\d [\\d:.]{12} \\| ${line}$`, "m"));
  }
  expect(await fileOf(job, "logs/sub/a.txt")).toBe("kept\n");
});

test("F-0 a command's own status is told, 255 too; later commands do not run", async () => {
  const job = await prepared({ run: ["exit 255", "echo never"] });
  expect(await executor.run(job, signal)).toEqual({ kind: "exited", phase: "run", exitCode: 255 });
  expect(await consoleOf(job)).not.toContain("| never");
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
    run: ['touch "$WORKSPACE/begun"; sleep 986'],
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
  expect(await consoleOf(job)).toContain("| cleaned");
  // on the node too: an ssh that has ended is not the command's end
  const left = async () => (await onNode("ps ax -o args | grep -c '^sleep 98[6]' || true")).trim();
  await until(async () => (await left()) === "0", { timeoutMs: 10_000, what: "the command's end" });
});

test("X-5 a full disk of the node is told as that; logs still come, nothing is written there", async () => {
  const job = await prepared({
    run: ['echo first >"$WORKSPACE/logs/a"; head -c 400M /dev/zero >"$WORKSPACE/fill"'],
    postRun: ["df -k /home"],
  });
  try {
    const outcome = await executor.run(job, signal);
    expect(outcome).toMatchObject({
      kind: "disk-full",
      detail: expect.stringContaining("run: exit"),
    });
    await executor.collect(job, outcome, signal);
    expect(await fileOf(job, "logs/a")).toBe("first\n");
  } finally {
    await onNode("rm -f /home/ci/workspace/fill");
  }
});

test("X-5 a run that fails on a disk with room is a failure of its own", async () => {
  const job = await prepared({ run: ["exit 3"] });
  expect(await executor.run(job, signal)).toEqual({ kind: "exited", phase: "run", exitCode: 3 });
});

test("L-2 logs are kept after a failure of run and of post too", async () => {
  const { job, console } = await done({
    run: ['echo seen >"$WORKSPACE/logs/a"; exit 1'],
    postRun: ['echo post >"$WORKSPACE/logs/b"; exit 2'],
  });
  expect([await fileOf(job, "logs/a"), await fileOf(job, "logs/b")]).toEqual(["seen\n", "post\n"]);
  expect(console).toContain("collected logs/: 2 files");
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

const caseScript = (name: string): string => cases[name]!;
/** The run commands of ../shared/cases, as they stand there. */
const cases: Readonly<Record<string, string>> = {
  "logs-sparse":
    'cd "$WORKSPACE/logs"; echo first >a.txt; truncate -s 2G lastlog; echo last >z.txt; ls -ls',
  "long-lines-and-floods":
    "set +e +o pipefail; head -c 1000000 /dev/zero | tr '\\0' 'L'; echo ' END-OF-LONG-LINE'\n" +
    'yes "a line of output that a chatty test prints again and again, 80 bytes" | head -c 80000000\n' +
    'echo "THE-END: this is why it failed"; exit 1',
};

test("case logs-sparse: holes cost nothing and are named; what lies behind comes home", async () => {
  const beganMs = performance.now();
  const { job, console } = await done({ run: [caseScript("logs-sparse")] });
  expect(performance.now() - beganMs).toBeLessThan(15_000);
  expect(await fileOf(job, "logs/a.txt")).toBe("first\n");
  expect(await fileOf(job, "logs/z.txt")).toBe("last\n");
  expect(console).toMatch(/left out: lastlog: 2147483648 bytes \(0 KiB on disk\)/);
  await archive.finish(job.facts, { result: "SUCCESS", lease: null, timeline: [] }, signal);
  expect(await fileOf(job, "index.html")).toContain("<li>left out: lastlog: 2147483648 bytes");
});

test("case logs-unreadable: root's files come home where the node has sudo", async () => {
  const job = await prepared({ run: ["true"] });
  const outcome = await executor.run(job, signal);
  await onNode(
    "cd /home/ci/workspace/logs && echo ordinary >mine.txt && echo important >syslog && " +
      "chmod 640 syslog && mkdir libvirt && echo also >libvirt/node.log && chmod 700 libvirt",
  );
  await executor.collect(job, outcome, signal);
  expect(await fileOf(job, "logs/syslog")).toBe("important\n");
  expect(await fileOf(job, "logs/libvirt/node.log")).toBe("also\n");
});

test("case logs-unreadable: without sudo each is named as left out", async () => {
  const job = await prepared({ run: ["true"] });
  const outcome = await executor.run(job, signal);
  await onNode(
    "cd /home/ci/workspace/logs && echo ordinary >mine.txt && echo important >syslog && " +
      "chmod 640 syslog && mkdir libvirt && echo also >libvirt/node.log && chmod 700 libvirt && " +
      "mount --bind /bin/false /usr/local/bin/sudo",
  );
  try {
    await executor.collect(job, outcome, signal);
  } finally {
    await onNode("umount /usr/local/bin/sudo");
  }
  expect(await fileOf(job, "logs/mine.txt")).toBe("ordinary\n");
  const console = await consoleOf(job);
  expect(console).toMatch(/syslog: .*Permission denied/);
  expect(console).toMatch(/libvirt.*: Permission denied/);
  expect(console).toContain("logs/ are not archived whole");
});

test("case long-lines-and-floods: the end is kept; our own lines always", async () => {
  const { job, console } = await done({ run: [caseScript("long-lines-and-floods")] });
  await archive.finish(job.facts, { result: "FAILURE", lease: null, timeline: [] }, signal);
  expect(console.length).toBeLessThan(70 * 2 ** 20);
  const whole = await fileOf(job, "console.log");
  expect(whole).toMatch(/LLL… \(98\d{4} bytes of this line dropped\)\n/);
  expect(whole).toContain("the console is too long to keep whole");
  for (const end of ["THE-END: this is why it failed", "run: exit 1", "Result: FAILURE"]) {
    expect(whole.slice(-2_000)).toContain(end);
  }
});

test("case small-things: names of other bytes are two files, dot files come, links are named", async () => {
  const { job, console } = await done({
    run: [
      'cd "$WORKSPACE/logs"; echo 1 >"$(printf "a\\377")"; echo 2 >"$(printf "a\\376")"; ' +
        "echo 3 >.dot; ln -s /etc/shadow shadow; ln .dot hard",
    ],
  });
  const files = (await archive.files(job.facts)).map(({ path }) => path);
  expect(files).toEqual(
    expect.arrayContaining(["logs/.dot", "logs/a%FE", "logs/a%FF", "logs/hard"]),
  );
  expect(console).toContain("left out: shadow: no plain file");
});

test("case workspace-error-unsaid: a checkout that cannot be is told in git's words", async () => {
  const blob = await git("hash-object", "-w", "run.sh");
  const long = `${"n".repeat(300)}.txt`;
  await run("sh", [
    "-c",
    `cd ${directory}/work && printf '100644 blob ${blob}\t${long}\n' | git mktree >tree`,
  ]);
  const tree = (await readFile(join(directory, "work/tree"), "utf8")).trim();
  const commit = await git("commit-tree", tree, "-m", "long");
  await git("push", "-q", join(directory, "merger/tool"), `+${commit}:refs/zuul/master/Z1`);
  await run("chmod", ["-R", "a+rX", join(directory, "merger")]);
  const job = jobOf({});
  await archive.begin(job.facts);
  const repos = job.facts.repos.map((repo) => ({ ...repo, commit }));
  const outcome = await executor.prepare({ ...job, facts: { ...job.facts, repos } }, signal);
  expect(outcome).toMatchObject({ kind: "no-workspace", own: true });
  expect(outcome).toMatchObject({ detail: expect.stringMatching(/File ?name too long/i) });
  expect(await consoleOf(job)).toMatch(/File ?name too long/i);
});

test("a repository that cannot be fetched is not the change's own, and told in git's words", async () => {
  await rm(join(directory, "merger"), { recursive: true });
  const job = jobOf({});
  await archive.begin(job.facts);
  const outcome = await executor.prepare(job, signal);
  expect(outcome).toMatchObject({ kind: "no-workspace", own: false });
  expect(outcome).toMatchObject({ detail: expect.stringContaining("does not appear to be a git") });
});

test("case tags: git describe works in the workspace; safe.directory is set for others", async () => {
  await git("tag", "-a", "v1.0", "-m", "Release 1.0", tip);
  await git("push", "-q", join(directory, "merger/tool"), "v1.0");
  await run("chmod", ["-R", "a+rX", join(directory, "merger")]);
  const job = await prepared({ run: ["git describe"] });
  expect(await executor.run(job, signal)).toEqual({ kind: "done" });
  expect(await consoleOf(job)).toMatch(/\| v1\.0-1-g[0-9a-f]{7}/);
  const nobody = "setpriv --reuid nobody --regid nogroup --clear-groups";
  const described = await onNode(`${nobody} git -C /opt/stack/new/tool describe`);
  expect(described).toMatch(/^v1\.0-1-g/);
});

// ---- a wait whose only end is the other side's

/** How long an abort takes to end a step, in ms. */
async function endsAfterAbort(step: (stop: AbortSignal) => Promise<unknown>): Promise<number> {
  const stop = new AbortController();
  const running = step(stop.signal);
  await until(async () => (await onNode("ls /home/ci/workspace")).includes("talks"), {
    timeoutMs: 20_000,
    what: "the peer to talk",
  });
  const abortedMs = performance.now();
  stop.abort();
  expect(await running).toEqual({ kind: "aborted" });
  return performance.now() - abortedMs;
}

const talks = 'trap "" TERM; touch "$WORKSPACE/talks"; while :; do echo talk; done';

test("section 9 a run that never stops talking ends within a second of the abort", async () => {
  const job = await prepared({ run: [talks] });
  expect(await endsAfterAbort((stop) => executor.run(job, stop))).toBeLessThan(1_000);
});

test("section 9 a clean-up that hangs ends within a second of the abort", async () => {
  const job = await prepared({ cleanupRun: ['touch "$WORKSPACE/talks"; sleep 997'] });
  const after = { kind: "done" } as const;
  expect(await endsAfterAbort((stop) => executor.collect(job, after, stop))).toBeLessThan(1_000);
});

test("section 9 a collection that never ends: aborted within a second", async () => {
  // what the node calls tar never stops sending
  await onNode(
    "printf '#!/bin/sh\ntouch /home/ci/workspace/talks\nexec cat /dev/zero\n' >/usr/local/bin/tar && chmod 755 /usr/local/bin/tar",
  );
  try {
    const job = await prepared({});
    const sink = {
      ...archive,
      logs: async (_: unknown, stream: AsyncIterable<unknown>) => {
        for await (const _chunk of stream) continue;
        throw new Error("it ended");
      },
    };
    const other = openExecutor({
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      troubles,
      sink,
      identityFile: sandbox.identityFile,
      runDirectory: join(directory, "run2"),
      doorUrl: () => "",
    });
    await using _other = other;
    const after = { kind: "done" } as const;
    expect(await endsAfterAbort((stop) => other.collect(job, after, stop))).toBeLessThan(1_000);
  } finally {
    await onNode("rm /usr/local/bin/tar");
  }
});

test("section 9 a node that takes the connection and says nothing: aborted within a second", async () => {
  const silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  try {
    const job = jobOf({});
    await archive.begin(job.facts);
    const port = (silent.address() as AddressInfo).port;
    const stop = new AbortController();
    const connected = once(silent, "connection");
    const running = executor.prepare({ ...job, node: { ...job.node, port } }, stop.signal);
    await connected;
    const abortedMs = performance.now();
    stop.abort();
    expect(await running).toEqual({ kind: "aborted" });
    expect(performance.now() - abortedMs).toBeLessThan(1_000);
  } finally {
    silent.close();
  }
});

test("case small-things: clean-up of a stopped build has ten seconds, not five minutes", async () => {
  const job = await prepared({ cleanupRun: ["sleep 995", "echo never"] });
  const beganMs = performance.now();
  await executor.collect(job, { kind: "aborted" }, signal);
  expect(performance.now() - beganMs).toBeLessThan(20_000);
});

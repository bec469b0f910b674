/**
 * A change's way as people see it: real git pushes, the real review system, layout, merger,
 * store, scheduler and saga; nodes, racks and what runs on them are held ports (ci-ports.ts).
 */
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { BuildViews } from "../../src/api/views.ts";
import { silentLog } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { openMerger } from "../../src/ci/merger/merger.ts";
import type { Scheduler } from "../../src/ci/scheduler.ts";
import { caller, openBench } from "../conformance/git-bench.ts";
import { soon } from "./ci-ports.ts";
import { checkPipeline, layoutOf, openWorld } from "./ci-world.ts";

const jobs = `${checkPipeline}
- job: { name: unit, nodeset: one, run: make, required-projects: [ lib ] }
- job: { name: deploy, nodeset: one, run: ./run.sh, testenv: { machines: 2 }, attempts: 2 }
- job: { name: style, nodeset: one, run: lint, voting: false }
- project: { name: app, check: { jobs: [ unit, deploy ] } }
- project: { name: lib, check: { jobs: [ style ] } }
- project: { name: alone, check: { jobs: [ noop ] } }
- project: { name: quiet }
`;
const projects = ["app", "lib", "alone", "quiet"];

async function open(given: { racks?: string[]; maxNodes?: number; layout?: string } = {}) {
  const bench = await openBench(projects);
  for (const project of projects) {
    if (project !== "quiet") await bench.seed(project, { "a.txt": "a\n", "b.txt": "b\n" });
  }
  const merger = openMerger({
    directory: join(bench.directory, "server/merger"),
    git: bench.git,
    source: (project) => bench.review.source(project),
    log: silentLog,
  });
  const { racks, maxNodes } = given;
  const world = openWorld({
    store: bench.store,
    review: bench.review,
    merger,
    ...(racks ? { racks } : {}),
    ...(maxNodes === undefined ? {} : { maxNodes }),
  });
  onTestFinished(async () => {
    await world.stop();
    await bench[Symbol.asyncDispose]();
    expect(world.crashes).toEqual([]);
  });
  const layout = layoutOf(given.layout ?? jobs);
  let scheduler = (await world.start(layout))!;
  const { views } = bench.review;
  return {
    bench,
    world,
    layout,
    merger,
    views,
    get ci(): Scheduler {
      return scheduler;
    },
    async restart() {
      await world.stop();
      scheduler = (await world.start(layout))!;
    },
    /** Pushes a new change of one commit by an author of its own; gives author and number. */
    async push(file: string, text: string, project = "app") {
      const author = await bench.author("dora", project);
      await author.commit(file, text, `Change ${file}`);
      const pushed = await author.push("refs/for/master");
      const number = Number(/change (\d+) patchset/.exec(pushed.stderr)?.[1]);
      return { author, number };
    },
    /** The CI's comments on a change, oldest first. */
    async said(number: number): Promise<string[]> {
      const { comments } = await views.get(number);
      return comments.filter((one) => one.by === "Rackyard CI").map((one) => one.text);
    },
    async verified(number: number): Promise<number | undefined> {
      const { votes } = await views.get(number);
      return votes.find((vote) => vote.label === "Verified")?.value;
    },
    async isVerified(number: number, value: number) {
      await soon(`Verified ${value} on ${number}`, async () => {
        const { votes } = await views.get(number);
        return votes.some((vote) => vote.label === "Verified" && vote.value === value);
      });
    },
  };
}

test("R-2 I-3 a push goes the whole way: start, both jobs with node and rack, vote, time line", async () => {
  const w = await open();
  const { number } = await w.push("a.txt", "changed\n");
  await w.isVerified(number, 1);
  const [start, report, ...more] = await w.said(number);
  expect(more).toEqual([]);
  expect(start).toMatch(/^Starting check jobs\.\nhttp/);
  expect(report).toMatch(
    /^Build succeeded\.\n\n- unit http:\/\/x\/builds\/\S+ : SUCCESS in \d+s\n- deploy http:\/\/x\/builds\/\S+ : SUCCESS in \d+s\n?$/,
  );
  const { items } = await w.ci.views.list({ limit: 10, change: number });
  expect(items.toSorted((one, other) => one.job.localeCompare(other.job))).toMatchObject([
    { job: "deploy", state: "reported", result: "SUCCESS", te: "here:1", epoch: "1", attempt: 1 },
    { job: "unit", state: "reported", result: "SUCCESS", te: null, project: "app" },
  ]);
  const deploy = items.find((one) => one.job === "deploy")!;
  expect(deploy.logsPath).toBe(`01/1/1/check/deploy/${deploy.id.slice(0, 7)}`);
  await soon("the vote in the time line", async () =>
    (await w.ci.views.timeline(deploy.id)).some((entry) => entry.step === "voted"),
  );
  const steps = (await w.ci.views.timeline(deploy.id)).map((entry) => entry.step);
  expect(steps.filter((step) => step !== "node-ready" && step !== "leased")).toEqual([
    ...["pushed", "enqueued", "prepared", "started", "finished", "collected", "lease-ended"],
    "voted",
  ]);
  expect(w.world.racks.leases).toMatchObject([
    {
      request: {
        durationSeconds: 1800 + 300 + 60,
        takeable: false,
        group: "app",
        holder: { name: `build ${deploy.id}` },
      },
      view: { state: "ended", reason: "released" },
    },
  ]);
  expect(w.world.nodes.inUse()).toBe(0);
});

test("two changes at once: each is tested alone, both are told", async () => {
  const w = await open({ racks: ["here:1", "here:2"] });
  const first = await w.push("a.txt", "one\n");
  const second = await w.push("b.txt", "two\n");
  await w.isVerified(first.number, 1);
  await w.isVerified(second.number, 1);
});

test("two changes, one rack: the second waits, says why, and runs when the first is done", async () => {
  const w = await open();
  const go = w.world.executor.hold("deploy", "run");
  const first = await w.push("a.txt", "one\n");
  await soon("the first deploys", () => w.world.executor.isAt("deploy", "run"));
  const second = await w.push("b.txt", "two\n");
  const waiting = await until(
    async () => {
      const [check] = await w.ci.views.pipelines();
      const item = check?.items.find((one) => one.change === second.number);
      return item?.jobs.find((job) => job.name === "deploy" && job.why !== null);
    },
    { timeoutMs: 10_000, everyMs: 5, what: "the second waits" },
  );
  expect(waiting).toMatchObject({ state: "acquiring", result: null });
  await soon("the second is takeable", () => w.world.racks.leases[1]?.takeable);
  expect(w.world.racks.leases[1]?.addresses).toHaveLength(1);
  expect(w.world.executor.calls).not.toContain(`${second.number},1 deploy run 1`);
  go();
  await w.isVerified(first.number, 1);
  await w.isVerified(second.number, 1);
});

test("N-1 lease.md §4 without a ready node a build is not takeable, and holds no rack", async () => {
  const w = await open({ maxNodes: 1, racks: ["here:1", "here:2"] });
  const go = w.world.executor.hold("unit", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("unit has the only node", () => w.world.executor.isAt("unit", "run"));
  await soon("deploy asked", () => w.world.racks.leases.length === 1);
  expect(w.world.racks.leases[0]).toMatchObject({ takeable: false, view: { state: "waiting" } });
  expect(w.world.racks.busy()).toEqual([]);
  go();
  await w.isVerified(number, 1);
});

test("D-1 a series of three: each on top of those before it, named in order", async () => {
  const w = await open({ racks: ["here:1", "here:2", "here:3"] });
  const seen = new Map<number, string>();
  w.world.executor.script("unit", "run", (facts) => {
    const all = facts.changes.map((one) => `${one.change},${one.patchset}`);
    seen.set(facts.changes.at(-1)!.change, all.join(" "));
    return { kind: "done" };
  });
  const author = await w.bench.author("dora", "app");
  for (const file of ["a.txt", "b.txt", "c.txt"]) await author.commit(file, file, `Add ${file}`);
  await author.push("refs/for/master");
  for (const number of [1, 2, 3]) await w.isVerified(number, 1);
  expect(Object.fromEntries(seen)).toEqual({ 1: "1,1", 2: "1,1 2,1", 3: "1,1 2,1 3,1" });
});

test("Q-1 Q-5 a second patchset supersedes the running build: cleaned up, rack back, one report", async () => {
  const w = await open();
  w.world.executor.hold("deploy", "run");
  const { author, number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  await author.write("a.txt", "two\n");
  await author.ok("commit", "-q", "-a", "--amend", "--no-edit");
  await author.push("refs/for/master");
  await soon("the second deploys", () =>
    w.world.executor.calls.includes(`${number},2 deploy run 1`),
  );
  expect(w.world.executor.calls).toContain(`${number},1 deploy collect 1`);
  const { items } = await w.ci.views.list({ limit: 10, result: "CANCELED" });
  expect(items).toMatchObject([
    { job: "deploy", patchset: 1, errorDetail: "superseded by patchset 2" },
  ]);
  const text = (await w.said(number)).join("\n");
  expect(text).not.toContain("Build ");
});

test("recheck tests again, and only while nothing runs", async () => {
  const w = await open();
  w.world.executor.script("unit", "run", () => ({ kind: "exited", phase: "run", exitCode: 1 }));
  const { number } = await w.push("a.txt", "one\n");
  await w.isVerified(number, -1);
  w.world.executor.script("unit", "run", () => ({ kind: "done" }));
  await w.views.comment(number, "looks odd", caller("dora"));
  await w.views.comment(number, "Recheck please", caller("dora"));
  await w.isVerified(number, 1);
  const said = await w.said(number);
  expect(said.map((text) => text.split("\n")[0])).toEqual([
    "Starting check jobs.",
    "Build failed.",
    "Starting check jobs.",
    "Build succeeded.",
  ]);
});

test("M-3 a conflict is reported with its files, and no build is made", async () => {
  const w = await open();
  const author = await w.bench.author("dora", "app");
  const admin = await w.bench.author("ada", "app");
  await admin.write("a.txt", "master moved\n");
  await admin.ok("commit", "-q", "-a", "-m", "Move on");
  await admin.ok("push", "-q", "origin", "HEAD:refs/heads/master");
  await author.commit("a.txt", "mine\n", "Change a");
  await author.push("refs/for/master");
  await w.isVerified(1, -1);
  expect((await w.said(1)).at(-1)).toMatch(/^Merge Failed\.\n\n.*rebase.*\n\n- a\.txt/s);
  expect((await w.ci.views.list({ limit: 10 })).items).toEqual([]);
});

test("Q-2 abandoned while it runs: cancelled, nothing reported; restored, it runs again", async () => {
  const w = await open();
  const go = w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  await w.views.abandon(number, caller("dora"));
  await soon("racks back", () => w.world.racks.open().length === 0);
  await soon("nodes back", () => w.world.nodes.inUse() === 0);
  expect(await w.verified(number)).toBeUndefined();
  go();
  await w.views.restore(number, caller("dora"));
  await w.isVerified(number, 1);
});

test("X-4 a restart in the middle: what ran is retried, what was pushed meanwhile is not lost", async () => {
  const w = await open({ racks: ["here:1", "here:2"] });
  const go = w.world.executor.hold("deploy", "run");
  const first = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  await w.world.stop();
  const second = await w.push("b.txt", "two\n");
  go();
  await w.restart();
  await w.isVerified(first.number, 1);
  await w.isVerified(second.number, 1);
  expect((await w.said(first.number)).at(-1)).toMatch(
    /deploy took 2 attempts:\n {2}1\. RETRY \(the server was restarted while the build ran\)/,
  );
});

test("F-1 TE_LOST: the host died, the job is retried elsewhere and never voted down", async () => {
  const w = await open({ racks: ["h1:1", "h2:1"] });
  const go = w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  w.world.racks.takeAway("h1:1");
  w.world.racks.endAll("te-lost");
  await soon("asked again", () => w.world.racks.leases.length === 2);
  expect(w.world.racks.leases[1]?.request.avoid).toEqual({ hosts: ["h1"], testenvs: ["h1:1"] });
  go();
  await w.isVerified(number, 1);
  expect((await w.said(number)).at(-1)).toContain("1. TE_LOST (the rack or its host was lost)");
});

test("F-1 F-1a an interruption makes a failure a RETRY; twice so, there is no vote", async () => {
  const w = await open();
  w.world.executor.script("deploy", "run", () => {
    const at = new Date().toISOString();
    w.world.racks.interrupt({ at, code: "agent-restarted", text: "the agent was restarted" });
    return { kind: "exited", phase: "run", exitCode: 1 };
  });
  const { number } = await w.push("a.txt", "one\n");
  await soon("the report", async () => (await w.said(number)).length === 2);
  const report = (await w.said(number)).at(-1)!;
  expect(report).toMatch(/- deploy \S+ : RETRY_LIMIT in \d+s\n/);
  expect(report).toContain("the rack was interrupted: the agent was restarted");
  expect(report).toContain("No vote");
  expect(await w.verified(number)).toBeUndefined();
});

test("F-1 a lease revoked by an operator: ABORTED, no vote", async () => {
  const w = await open();
  w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  w.world.racks.endAll("revoked");
  await soon("the report", async () => (await w.said(number)).length === 2);
  expect((await w.said(number)).at(-1)).toMatch(/- deploy \S+ : ABORTED/);
  expect(await w.verified(number)).toBeUndefined();
});

test("F-0 NODE_FAILURE: no node can be had, said with its reason", async () => {
  const w = await open();
  w.world.nodes.pause();
  w.world.nodes.failWith("image debian-12: mmdebstrap exited with 100");
  const { number } = await w.push("a.txt", "one\n", "lib");
  await w.isVerified(number, 1); // style is non-voting
  expect((await w.said(number)).at(-1)).toMatch(
    /- style \S+ : NODE_FAILURE \(non-voting\)\n\nstyle: image debian-12: mmdebstrap/,
  );
});

test("L-4 evidence is quoted with file and line", async () => {
  const w = await open();
  w.world.executor.script("deploy", "run", () => ({ kind: "exited", phase: "run", exitCode: 1 }));
  w.world.archive.evidence.set("deploy", [
    { file: "rack/console-te1-n0.log", line: 118, text: "Kernel panic", rule: "panic" },
  ]);
  const { number } = await w.push("a.txt", "one\n");
  await w.isVerified(number, -1);
  expect((await w.said(number)).at(-1)).toContain("rack/console-te1-n0.log:118: Kernel panic");
  const { items } = await w.ci.views.list({ limit: 1, job: "deploy" });
  expect(items[0]?.evidence).toMatchObject([{ line: 118 }]);
});

test("a person cancels a build: no vote; a build that is over cannot be cancelled", async () => {
  const w = await open();
  w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  const { items } = await w.ci.views.list({ limit: 1, job: "deploy" });
  const { id } = items[0]!;
  await w.ci.views.cancel(id, { name: "otto" });
  await soon("the report", async () => (await w.said(number)).length === 2);
  expect((await w.said(number)).at(-1)).toMatch(/: CANCELED.*\n\ndeploy: cancelled by otto/s);
  await expect(w.ci.views.cancel(id, { name: "otto" })).rejects.toMatchObject({ code: "conflict" });
  await expect(w.ci.views.get("none")).rejects.toMatchObject({ code: "not-found" });
});

test("J-4 noop votes at once without a node; a project without jobs is left alone", async () => {
  const w = await open();
  await w.bench.seed("quiet");
  const quiet = await w.push("a.txt", "x\n", "quiet");
  const noop = await w.push("a.txt", "x\n", "alone");
  await w.isVerified(noop.number, 1);
  expect(await w.said(quiet.number)).toEqual([]);
  expect(w.world.nodes.inUse()).toBe(0);
});

test("CONFIG_ERROR: a required project without content is told with the place that asks for it", async () => {
  const w = await open({
    layout: `${jobs}
- job: { name: needy, nodeset: one, run: x, required-projects: [ quiet ] }
`.replace("jobs: [ noop ]", "jobs: [ needy ]"),
  });
  const { number } = await w.push("a.txt", "x\n", "alone");
  await w.isVerified(number, -1);
  expect((await w.said(number)).at(-1)).toMatch(
    /^Build failed\.\n\nThe configuration .*\n- .*quiet has no branches yet\n- layout\.yaml:\d+: job needy requires alone, quiet/,
  );
});

test("O-1 a reload: new jobs for new items, a pipeline that is gone takes its items with it", async () => {
  const w = await open();
  w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  await w.ci.reload(layoutOf(jobs.replaceAll("check", "verify")));
  await soon("racks back", () => w.world.racks.open().length === 0);
  expect((await w.said(number)).map((text) => text.split("\n")[0])).toEqual([
    "Starting check jobs.",
  ]);
  const views: Omit<BuildViews, "cancel"> = w.ci.views;
  expect(await views.pipelines()).toEqual([{ name: "verify", manager: "independent", items: [] }]);
});

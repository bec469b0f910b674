/**
 * A change's way as people see it, told as scenarios: pushes, series, supersedes, rechecks,
 * conflicts, abandons, restarts. What goes wrong with racks and nodes: ci-faults.test.ts.
 */
import { expect, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import { caller } from "../conformance/git-bench.ts";
import { openCi } from "./ci-bench.ts";
import { soon } from "./ci-ports.ts";

test("R-2 I-3 a push goes the whole way: start, both jobs with node and rack, vote, time line", async () => {
  const w = await openCi();
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
  const later = new Set(["node-ready", "leased", "reset", "node-deleted"]);
  expect(steps.filter((step) => !later.has(step))).toEqual(
    "pushed enqueued prepared started finished collected lease-ended voted".split(" "),
  );
  expect(w.world.racks.leases).toMatchObject([
    {
      request: {
        takeable: false,
        group: "app",
        holder: { name: `build ${deploy.id.slice(0, 8)}` },
      },
      view: { state: "ended", reason: "released" },
    },
  ]);
  expect(w.world.nodes.inUse()).toBe(0);
});

test("two changes at once: each is tested alone, both are told", async () => {
  const w = await openCi({ racks: ["here:1", "here:2"] });
  const first = await w.push("a.txt", "one\n");
  const second = await w.push("b.txt", "two\n");
  await w.isVerified(first.number, 1);
  await w.isVerified(second.number, 1);
  expect(w.world.racks.leases).toHaveLength(2);
});

test("two changes, one rack: the second waits, says why, and runs when the first is done", async () => {
  const w = await openCi();
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
  const w = await openCi({ maxNodes: 1, racks: ["here:1", "here:2"] });
  const go = w.world.executor.hold("unit", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("unit has the only node", () => w.world.executor.isAt("unit", "run"));
  await soon("deploy asked", () => w.world.racks.leases.length === 1);
  expect(w.world.racks.leases[0]).toMatchObject({ takeable: false, view: { state: "waiting" } });
  expect(w.world.racks.busy()).toEqual([]);
  go();
  await w.isVerified(number, 1);
});

test("D-1 I-1 a series of three: each on top of those before it, named in order", async () => {
  const w = await openCi({ racks: ["here:1", "here:2", "here:3"] });
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
  const w = await openCi();
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

test("P-1 recheck tests again", async () => {
  const w = await openCi();
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
  const w = await openCi();
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
  const w = await openCi();
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
  const w = await openCi({ racks: ["here:1", "here:2"] });
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
    /deploy took 2 attempts:\n {2}1\. RETRY \(the server was restarted\)/,
  );
});

/**
 * What goes wrong around a change, and what people are told: racks lost, interrupted, revoked,
 * nodes that cannot be had, wrong configuration, a person's cancel, a reload.
 */
import { expect, test } from "vitest";
import type { BuildViews } from "../../src/api/views.ts";
import { jobs, openCi } from "./ci-bench.ts";
import { soon } from "./ci-ports.ts";
import { layoutOf } from "./ci-world.ts";

test("F-1 TE_LOST: the host died, the job is retried elsewhere and never voted down", async () => {
  const w = await openCi({ racks: ["h1:1", "h2:1"] });
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
  const w = await openCi();
  w.world.executor.script("deploy", "run", () => {
    const at = new Date().toISOString();
    w.world.racks.interrupt({ at, code: "machine-stopped", text: "the host stopped a machine" });
    return { kind: "exited", phase: "run", exitCode: 1 };
  });
  const { number } = await w.push("a.txt", "one\n");
  await soon("the report", async () => (await w.said(number)).length === 2);
  const report = (await w.said(number)).at(-1)!;
  expect(report).toMatch(/- deploy \S+ : RETRY_LIMIT in \d+s\n/);
  expect(report).toContain("the rack was interrupted: the host stopped a machine");
  expect(report).toContain("No vote");
  expect(await w.verified(number)).toBeUndefined();
});

test("F-1 a host that does not confirm the end was gone: a failure is no vote against the change", async () => {
  const w = await openCi();
  w.world.executor.script("deploy", "run", () => {
    w.world.racks.fallSilent();
    return { kind: "exited", phase: "run", exitCode: 1 };
  });
  const { number } = await w.push("a.txt", "one\n");
  await soon("the first attempt is over", () => w.world.archive.finished.includes("deploy RETRY"));
  const { items } = await w.ci.views.list({ limit: 1, change: number, result: "RETRY" });
  expect(items).toMatchObject([{ interruptions: [{ code: "host-silent", te: "here:1" }] }]);
});

test("F-1 TE_UNAVAILABLE: no rack within lease-wait, said why, no vote", async () => {
  const w = await openCi({
    layout: jobs.replace(
      "testenv: { machines: 2 }, attempts: 2",
      "testenv: { lease-wait: 1 }, attempts: 1",
    ),
  });
  w.world.racks.takeAway("here:1");
  const { number } = await w.push("a.txt", "one\n");
  await soon("the report", async () => (await w.said(number)).length === 2);
  expect((await w.said(number)).at(-1)).toMatch(
    /- deploy \S+ : RETRY_LIMIT\n\ndeploy: no rack within 1 s: all racks are taken\n/,
  );
  expect(await w.verified(number)).toBeUndefined();
});

test("F-1 a lease revoked by an operator: ABORTED, no vote", async () => {
  const w = await openCi();
  w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  w.world.racks.endAll("revoked");
  await soon("the report", async () => (await w.said(number)).length === 2);
  expect((await w.said(number)).at(-1)).toMatch(/- deploy \S+ : ABORTED/);
  expect(await w.verified(number)).toBeUndefined();
});

test("F-0 NODE_FAILURE: no node can be had, said with its reason", async () => {
  const w = await openCi();
  w.world.nodes.pause();
  const { number } = await w.push("a.txt", "one\n", "lib");
  await soon("it waits for a node", () => w.world.happened.includes("build style asked"));
  w.world.nodes.failWith("image debian-12: mmdebstrap exited with 100");
  await w.isVerified(number, 1); // style is non-voting
  expect((await w.said(number)).at(-1)).toMatch(
    /- style \S+ : NODE_FAILURE \(non-voting\)\n\nstyle: image debian-12: mmdebstrap/,
  );
});

test("L-4 evidence is quoted with file and line", async () => {
  const w = await openCi();
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
  const w = await openCi();
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
  const w = await openCi();
  await w.bench.seed("quiet");
  const quiet = await w.push("a.txt", "x\n", "quiet");
  const noop = await w.push("a.txt", "x\n", "alone");
  await w.isVerified(noop.number, 1);
  expect(await w.said(quiet.number)).toEqual([]);
  expect(w.world.nodes.inUse()).toBe(0);
});

test("CONFIG_ERROR: a required project without content is told with the place that asks for it", async () => {
  const w = await openCi({
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
  const w = await openCi();
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

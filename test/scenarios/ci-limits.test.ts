/**
 * Limits around a build: how long its rack is asked for, what an expiry or a cancel does while it
 * collects, and what the merger publishes for it. On real git (ci-bench.ts).
 */
import { expect, test } from "vitest";
import { readRefs } from "../../src/git/repository.ts";
import { limits } from "../../src/base/limits.ts";
import { openCi } from "./ci-bench.ts";
import { soon } from "./ci-ports.ts";

test("T-1 T-2 the lease is asked for every limit of its job, and extended where collecting needs more", async () => {
  const w = await openCi();
  w.world.racks.expiresIn(60_000);
  const go = w.world.executor.hold("deploy", "run");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it deploys", () => w.world.executor.isAt("deploy", "run"));
  const { request, view } = w.world.racks.leases[0]!;
  const { jobTimeoutSeconds, nodeSetupMs, gitMs } = limits;
  const least = jobTimeoutSeconds + (2 * nodeSetupMs + 2 * gitMs) / 1_000;
  expect(request.durationSeconds).toBeGreaterThan(least);
  go();
  await w.isVerified(number, 1);
  const after = w.world.racks.leases[0]!.view;
  const gained = Date.parse(after.expiresAt!) - Date.parse(view.expiresAt!);
  expect(gained).toBeGreaterThan(gitMs);
});

test("T-1 an expiry while it collects changes nothing of what the run has ended with", async () => {
  const w = await openCi();
  w.world.executor.script("deploy", "run", () => ({ kind: "exited", phase: "run", exitCode: 1 }));
  const go = w.world.executor.hold("deploy", "collect");
  const { number } = await w.push("a.txt", "one\n");
  await soon("it collects", () => w.world.executor.isAt("deploy", "collect"));
  w.world.racks.endAll("expired");
  await soon("it is heard", () => w.world.happened.includes("build deploy stop"));
  go();
  await w.isVerified(number, -1);
  expect((await w.said(number)).at(-1)).toMatch(/- deploy \S+ : FAILURE/);
});

test("M-4 each project with a change of the item has its ref, and no other project has one", async () => {
  const w = await openCi();
  let facts: { zuulRef: string; zuulCommit: string; buildset: string } | undefined;
  w.world.executor.script("unit", "run", (of) => {
    facts = of;
    return { kind: "done" };
  });
  const { number } = await w.push("a.txt", "one\n");
  await w.isVerified(number, 1);
  const refsOf = (project: string) =>
    readRefs(w.bench.git, w.merger.repositories.path(project), ["refs/zuul/"]);
  const { zuulRef, zuulCommit, buildset } = facts!;
  expect(zuulRef).toBe(`refs/zuul/master/Z${buildset.replaceAll("-", "")}`);
  expect([...(await refsOf("app"))]).toEqual([[zuulRef, zuulCommit]]);
  expect([...(await refsOf("lib"))]).toEqual([]);
});

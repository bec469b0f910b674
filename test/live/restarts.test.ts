/**
 * Restarts are nobody's fault (issue 6, must-hold 3 and 4): `down` and `up` while builds run and
 * wait, and a server killed at the late steps of a build, whose time line is complete all the same.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import type { BuildView, TimelineEntry } from "../../src/model/build.ts";
import { calibrateBoot } from "./calibrate.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

const layout = `
- job:
    name: racked
    nodeset: { nodes: [ { name: node, label: worker } ] }
    testenv: { machines: 2 }
    timeout: 300
    run: ./slow
- project:
    name: app
    check: { jobs: [ racked ] }
`;
const slow = "#!/bin/sh\nsleep 8\n";

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: restarts", () => {
  let yard: Yard;
  let boot: number;
  beforeAll(async () => {
    boot = await calibrateBoot();
    yard = await openYard({ set: ["teHost.kinds.two.count=1"] });
    const reloaded = await yard.layout("app.yaml", layout);
    if (reloaded.exitCode !== 0) throw new Error(reloaded.stderr);
    await yard.content("app", { slow });
  });
  afterAll(() => yard[Symbol.asyncDispose]());

  const timelineOf = async (build: string): Promise<string[]> => {
    const answer = await yard.read(`/v1/builds/${build}/timeline`);
    return ((await answer.json()) as { items: TimelineEntry[] }).items.map(({ step }) => step);
  };
  const push = async (text: string): Promise<number> =>
    (await yard.push("app", { files: { note: `${text}\n` }, subject: text })).number;
  const buildOf = async (change: number): Promise<BuildView | undefined> =>
    (await yard.builds(change))[0];

  test("must-hold 4: down and up with one build that runs and three that wait", async () => {
    const changes: number[] = [];
    for (const n of [1, 2, 3, 4]) changes.push(await push(`Wait ${n}`));
    await until(async () => (await buildOf(changes[0]!))?.state === "running", {
      timeoutMs: boot * 60,
      everyMs: 250,
      what: "the first build to run",
    });
    expect((await yard.cli("down")).exitCode).toBe(0);
    expect((await yard.cli("up", "--detach")).exitCode).toBe(0);
    for (const change of changes) {
      expect((await yard.voted(change, 150)).votes).toMatchObject([
        { label: "Verified", value: 1 },
      ]);
      const builds = await yard.builds(change);
      expect(builds[0]).toMatchObject({ result: "SUCCESS", attempt: 1 });
      expect(builds.map(({ result }) => result)).not.toContain("NODE_FAILURE");
    }
  });

  test.each(["started", "collected", "lease-ended"])(
    "must-hold 3: the server killed at %s: one vote, a complete time line",
    async (step) => {
      const change = await push(`Killed at ${step}`);
      const build = await until(
        async () => {
          const found = await buildOf(change);
          return found && (await timelineOf(found.id)).includes(step) && found;
        },
        { timeoutMs: boot * 60, everyMs: 50, what: `step ${step}` },
      );
      const { processes } = await yard.status();
      for (const { name, pid } of processes) if (name === "server") process.kill(pid, "SIGKILL");
      const { votes } = await yard.voted(change, 120);
      expect(votes).toMatchObject([{ label: "Verified", value: 1 }]);
      const last = (await buildOf(change)) ?? build;
      expect(last).toMatchObject({ result: "SUCCESS", attempt: 1 });
      const complete = ["collected", "lease-ended", "reset", "node-deleted", "voted"];
      await until(
        async () => {
          const steps = await timelineOf(last.id);
          return complete.every((one) => steps.includes(one));
        },
        { timeoutMs: boot * 20, what: `all of ${complete.join(", ")} in the time line` },
      );
      const said = (await yard.change(change)).comments.filter(({ text }) => /racked/.test(text));
      expect(said).toHaveLength(1);
    },
  );
});

/**
 * SIGKILL of each part of a living installation while a change has a rack (must-hold 6): at
 * `leased` and at `machine-up`. The build comes to SUCCESS, or is retried and then does; one
 * report; all racks ready soon after; nothing leaked.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import type { BuildView, TimelineEntry } from "../../src/model/build.ts";
import type { TestenvView } from "../../src/model/testenv.ts";
import { calibrateBoot } from "./calibrate.ts";
import { bringExample } from "./example.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

const parts = ["server", "te-host", "libvirtd", "ovs-vswitchd", "ovsdb-server", "ssh"] as const;
const moments = ["leased", "machine-up"] as const;

/** False: it is gone already, as a client of an ssh master that was killed before it. */
function killed(pid: number): boolean {
  try {
    return process.kill(pid, "SIGKILL");
  } catch {
    return false;
  }
}

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: killed at every moment", () => {
  let yard: Yard;
  let boot: number;
  beforeAll(async () => {
    boot = await calibrateBoot();
    yard = await openYard();
    await bringExample(yard);
  });
  afterAll(() => yard[Symbol.asyncDispose]());

  /** The build of a change, once it has come to the step. */
  async function buildAt(change: number, step: string): Promise<BuildView> {
    return until(
      async () => {
        const [build] = await yard.builds(change);
        if (!build) return false;
        const answer = await yard.read(`/v1/builds/${build.id}/timeline`);
        const entries = (await answer.json()) as { items: TimelineEntry[] } | TimelineEntry[];
        const timeline = Array.isArray(entries) ? entries : entries.items;
        return timeline.some((entry) => entry.step === step) && build;
      },
      { timeoutMs: boot * 60, everyMs: 250, what: `step ${step} of change ${change}` },
    );
  }

  async function pidsOf(part: (typeof parts)[number], build: string): Promise<number[]> {
    const status = await yard.status();
    if (part !== "ssh") {
      return status.processes.filter(({ name }) => name === part).map(({ pid }) => pid);
    }
    return [...(status.builds.find(({ id }) => id === build)?.pids.ssh ?? [])];
  }

  test.each(moments.flatMap((moment) => parts.map((part) => [part, moment] as const)))(
    "must-hold 6: %s at %s",
    async (part, moment) => {
      const files = { "root/etc/motd": `${part} ${moment}\n` };
      const subject = `Kill ${part} at ${moment}`;
      const { number } = await yard.push("tinyrack-node", { files, subject });
      const build = await buildAt(number, moment);
      const pids = await until(() => pidsOf(part, build.id).then((all) => all.length > 0 && all), {
        timeoutMs: boot * 10,
        what: `pids of ${part}`,
      });
      expect(pids.filter(killed).length).toBeGreaterThan(0);

      const change = await yard.voted(number, 120);
      const votedMs = Date.now();
      expect(change.votes).toMatchObject([{ label: "Verified", value: 1 }]);
      await until(
        async () => {
          const { items } = await yard.json<{ items: TestenvView[] }>("te", "list");
          return items.length === 2 && items.every(({ state }) => state === "ready");
        },
        { timeoutMs: 60_000, what: "all racks to be ready" },
      );
      const reports = (await yard.change(number)).comments.filter(({ text }) =>
        text.includes("tinyrack-deploy"),
      );
      expect(reports).toHaveLength(1);
      const builds = await yard.builds(number);
      expect(builds[0]).toMatchObject({ result: "SUCCESS" });
      for (const earlier of builds.slice(1)) expect(earlier).toMatchObject({ result: "RETRY" });
      await until(
        async () => {
          const { items } = await yard.json<{ items: { build: string | null }[] }>("node", "list");
          return items.every((node) => node.build === null);
        },
        { timeoutMs: 60_000, what: "used nodes to be gone" },
      );
      expect(await yard.leaks()).toEqual([]);
      const took = `${part} at ${moment}: ${builds.length} builds, idle after ${Date.now() - votedMs} ms`;
      process.stderr.write(`${took}\n`);
    },
  );

  test("must-hold 6: everything at once, as when the machine loses power; then up again", async () => {
    const files = { "root/etc/motd": "power lost\n" };
    const { number } = await yard.push("tinyrack-node", { files, subject: "Lose power" });
    await buildAt(number, "seed-up");
    const { pid, processes, hosts } = await yard.status();
    const netns = hosts[0]?.cell.netns ?? "none";
    const inCell = async (): Promise<number[]> => {
      const { stdout } = await run("ip", ["netns", "pids", netns]);
      return stdout.split("\n").filter(Boolean).map(Number);
    };
    for (const one of [pid, ...processes.map((program) => program.pid)]) killed(one);
    const dead = async () => (await inCell()).filter(killed).length === 0;
    await until(dead, { timeoutMs: 30_000, what: "the cell to be dead" });
    // a machine that starts has neither of them
    await run("ip", ["netns", "delete", netns]);
    await run("ip", ["link", "delete", netns.replace("-", "")], { accept: "any" });

    const up = await yard.cli("up", "--detach");
    expect([up.exitCode, up.stderr]).toEqual([0, up.stderr]);
    const change = await yard.voted(number, 120);
    expect(change.votes).toMatchObject([{ label: "Verified", value: 1 }]);
    const builds = await yard.builds(number);
    // Power is nobody's fault: the build is made anew, and no attempt is used.
    expect(builds.map(({ attempt, result }) => [attempt, result])).toEqual([
      [1, "SUCCESS"],
      [1, "RETRY"],
    ]);
    expect((await yard.status()).health).toBe("ok");
    expect(await yard.leaks()).toEqual([]);
  });
});

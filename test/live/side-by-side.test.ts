/**
 * Two installations on one machine, each with its own state directory, take a change the whole
 * way at the same time (must-hold 13); the end of one is not felt by the other, not even in the
 * middle of its build, and leaves nothing (must-hold 11).
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import { calibrateBoot } from "./calibrate.ts";
import { bringExample } from "./example.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

type Summary = {
  readonly event: string;
  readonly ok: boolean;
  readonly te: string;
  readonly vote: { readonly value: number };
  readonly certificate: { readonly valid: boolean };
};

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: two installations side by side", () => {
  const yards: Yard[] = [];
  let boot: number;
  beforeAll(async () => {
    boot = await calibrateBoot();
    const set = ["teHost.kinds.two.count=1"];
    for (let i = 0; i < 2; i++) yards.push(await openYard({ set }));
  });
  afterAll(async () => {
    for (const yard of yards) await yard[Symbol.asyncDispose]();
  });

  test("must-hold 13: both demos are ok at once; networks and cells are their own", async () => {
    const done = await Promise.all(yards.map((yard) => yard.cli("demo", "--json")));
    for (const { exitCode, stdout, stderr } of done) {
      const summary = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as Summary;
      expect([exitCode, summary], stderr).toMatchObject([
        0,
        { event: "summary", ok: true, te: "here:1", vote: { value: 1 } },
      ]);
      expect(summary.certificate.valid).toBe(true);
    }
    const facts = yards.map(({ ready }) => ready);
    const all = facts.flatMap(({ api, hosts }) => [
      api,
      hosts[0]?.testNetwork.cidr,
      hosts[0]?.cell.netns,
    ]);
    expect(new Set(all).size).toBe(6);
  });

  test("must-hold 11: one ends in the middle of its build, quickly; the other's build goes on", async () => {
    const [first, second] = yards as [Yard, Yard];
    const numbers: number[] = [];
    for (const yard of yards) {
      await bringExample(yard).catch(() => undefined); // the demo brought it already
      const files = { "root/etc/motd": "side by side\n" };
      numbers.push((await yard.push("tinyrack-node", { files })).number);
    }
    await until(
      async () => {
        const [build] = await first.builds(numbers[0]!);
        return build?.state === "running" && build.lease !== null;
      },
      { timeoutMs: boot * 60, everyMs: 500, what: "the first one's build to run" },
    );
    const netns = first.ready.hosts[0]?.cell.netns ?? "none";
    const began = performance.now();
    const down = await first.json<{ left: unknown[] }>("down", "--purge");
    const tookMs = performance.now() - began;
    expect(down.left).toEqual([]);
    expect(tookMs).toBeLessThan(10_000); // 5 s on an idle machine
    expect(existsSync(first.state)).toBe(false);
    expect((await run("ip", ["netns", "list"])).stdout).not.toContain(netns);
    expect((await run("ip", ["-o", "link"])).stdout).not.toContain(netns.replace("-", ""));
    expect(await readFile("/proc/self/mounts", "utf8")).not.toContain(first.state);

    const change = await second.voted(numbers[1]!, 120);
    expect(change.votes).toMatchObject([{ label: "Verified", value: 1 }]);
    const [build] = await second.builds(numbers[1]!);
    expect(build).toMatchObject({ attempt: 1, interruptions: [] });
    expect((await second.status()).health).toBe("ok");
  });
});

/**
 * The demo as programs read it (surface.md §8, must-hold 3): a change whose ramdisk does not come
 * up fails truly, with its reason at its line; the same rack is clean again, and the next good
 * change passes on it. Interrupted, it still ends with its summary.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { forEachLine, launch, plainEnv } from "../../src/base/command.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

type Line = { readonly event: string; readonly step?: string };
type Summary = Line & {
  readonly te: string;
  readonly epoch: string;
  readonly evidence: readonly { readonly url: string; readonly line: number; text: string }[];
  readonly timeline: readonly { readonly step: string; readonly atMs: number }[];
};

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: the demo as programs read it", () => {
  let yard: Yard;
  beforeAll(async () => {
    yard = await openYard({ set: ["teHost.kinds.two.count=1"] });
  });
  afterAll(() => yard[Symbol.asyncDispose]());

  async function demo(...words: string[]) {
    const { exitCode, stdout } = await yard.cli("demo", ...words, "--json");
    const lines = stdout.trimEnd().split("\n");
    const told = lines.map((line) => JSON.parse(line) as Line);
    const steps = told.slice(0, -1).map(({ step }) => step);
    return { exitCode, steps, summary: told.at(-1) as Summary };
  }

  test("must-hold 3: a broken ramdisk fails truly, the rack comes back, a good change passes", async () => {
    const broken = await demo("--break");
    expect([broken.exitCode, broken.summary]).toMatchObject([
      0,
      {
        event: "summary",
        ok: true,
        expected: "FAILURE",
        result: "FAILURE",
        vote: { label: "Verified", value: -1 },
        attempts: 1,
        certificate: { valid: true },
        failure: null,
      },
    ]);
    expect(broken.steps).toEqual(expect.arrayContaining(["seed-up", "finished", "reset"]));
    expect(broken.steps).not.toContain("machine-up");
    const { evidence } = broken.summary;
    expect(evidence.some(({ url }) => url.includes("/rack/console-"))).toBe(true);
    for (const { url, line, text } of evidence) {
      const lines = (await (await fetch(url)).text()).split("\n");
      expect(lines[line - 1], `${url}:${line}`).toContain(text);
    }

    const good = await demo();
    expect([good.exitCode, good.summary]).toMatchObject([
      0,
      { ok: true, result: "SUCCESS", te: broken.summary.te, vote: { value: 1 } },
    ]);
    expect(BigInt(good.summary.epoch)).toBeGreaterThan(BigInt(broken.summary.epoch));
    expect(good.steps.filter((step) => step === "machine-up")).toHaveLength(2);
    const times = good.summary.timeline.map(({ atMs }) => atMs);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
  });

  test("surface.md §8 interrupted, it ends with its summary and 130", async () => {
    const child = launch(process.execPath, yard.argv("demo", "--json"), { env: plainEnv() });
    const lines: string[] = [];
    const heard = forEachLine(child.stdout!, (line) => {
      lines.push(line);
      // the summary's own time line names the step too
      if (line.startsWith('{"event":"step","step":"pushed"')) child.kill("SIGINT");
    });
    const { code } = await child.exited;
    await heard;
    const last = JSON.parse(lines.at(-1) ?? "") as Summary;
    expect([code, last]).toMatchObject([130, { event: "summary", ok: false }]);
    expect(last).toMatchObject({ failure: "interrupted", change: { patchset: 1 } });
  });
});

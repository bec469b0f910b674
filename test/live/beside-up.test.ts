/**
 * Row 12: a run of tests beside a running `up` leaves it alone. The tests that start, kill and end
 * installations, cells and mounts run as `rackyard test` runs them, with its search for leftovers.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { findLeftovers } from "../../src/main/test/leftovers.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

const root = join(import.meta.dirname, "../..");
const disturbing = ["installation", "leaks", "hypervisor-cells"];

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: tests beside a running up", () => {
  let yard: Yard;
  beforeAll(async () => {
    const node = "nodes.labels.worker={ image: debian-12, minReady: 0 }";
    yard = await openYard({ set: ["teHost.kinds.two.count=1", node] });
  });
  afterAll(() => yard[Symbol.asyncDispose]());

  test("issue 3, row 12: they pass, and it goes on: same processes, same racks, well", async () => {
    const facts = async () => {
      const { pid, health, processes, hosts } = await yard.status();
      return { pid, health, processes, hosts };
    };
    const before = await facts();
    const directory = await mkdtemp(join(tmpdir(), "beside-up-"));
    const files = disturbing.map((name) => `test/live/${name}.test.ts`);
    const vitest = join(root, "node_modules/vitest/vitest.mjs");
    const done = await run(process.execPath, [vitest, "run", "--project=live", ...files], {
      cwd: root,
      env: { ...ownEnvironment(), TMPDIR: directory, RACKYARD_TEST_DIRECTORY: directory },
      accept: "any",
      timeoutMs: 600_000,
    });
    expect(done.exitCode, `${done.stdout}${done.stderr}`.slice(-6_000)).toBe(0);
    expect(await findLeftovers(directory)).toEqual([]);
    await rm(directory, { recursive: true, force: true });
    expect(await facts()).toEqual(before);
  });
});

function ownEnvironment(): Record<string, string> {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("VITEST"));
  return Object.fromEntries(own) as Record<string, string>;
}

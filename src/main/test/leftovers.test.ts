/** What a run of tests leaves is found by its directory, and nothing else is. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { launch, run } from "../../base/command.ts";
import { until } from "../../base/wait.ts";
import { mountsBelow } from "../../hypervisor/mounts.ts";
import { findLeftovers, isMadeOf } from "./leftovers.ts";

test("a process whose command names the run's directory is found and ended by its pid", async () => {
  const directory = mkdtempSync(join(tmpdir(), "rackyard-left-"));
  await using own = launch("tail", ["-f", "/dev/null", join(directory, "none")]);
  await using other = launch("tail", ["-f", "/dev/null"]);
  const find = () => findLeftovers(directory);
  const left = async () => (await find()).length === 1;
  await until(left, { timeoutMs: 10_000, what: "tail to start" });
  const [found] = await find();
  expect(found?.name).toMatch(new RegExp(`^process ${own.pid}: tail -f`));
  await found?.end();
  expect((await own.exited).signalNumber).toBe(9);
  expect(await find()).toEqual([]);
  expect(other.process.exitCode).toBeNull();
  rmSync(directory, { recursive: true });
});

test.runIf(process.getuid?.() === 0)(
  "what is left mounted in the run's directory is found, and no process that sees it",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "rackyard-left-"));
    const [point, source] = [join(directory, "root/proc"), join(directory, "source")];
    for (const path of [point, source]) mkdirSync(path, { recursive: true });
    await run("mount", ["-t", "proc", "proc", point]);
    await run("mount", ["--bind", source, source]);
    await using aside = launch("unshare", ["--mount", "tail", "-f", "/dev/null"]);
    const settled = async () => (await findLeftovers(directory)).length >= 2;
    await until(settled, { timeoutMs: 10_000, what: "the mounts to be seen" });
    const found = (await findLeftovers(directory)).filter(
      ({ name }) => !name.startsWith(`process ${aside.pid}:`),
    );
    expect(found.map(({ name }) => name)).toEqual([`mount ${point}`, `mount ${source}`]);
    await found[0]?.end();
    expect(await mountsBelow(directory)).toEqual([]);
    rmSync(directory, { recursive: true });
  },
);

test.each<[string, string, boolean]>([
  [
    "a cell of the run",
    "31 20 254:0 /tmp/rackyard-test-a/s/te/cell/etc/passwd /etc/passwd rw - ext4 /dev/vda rw",
    true,
  ],
  [
    "another installation's cell, made while the run had something mounted",
    "32 20 0:49 / /tmp/rackyard-test-a/leaks-b/work/root/proc rw - proc proc rw",
    false,
  ],
  ["another run's cell", "33 20 254:0 /tmp/rackyard-test-b/s/bin /run/bin rw - ext4 d rw", false],
])("issue 3, row 12: a world made of the run's directory or not: %s", (_what, line, found) => {
  expect(isMadeOf(`20 1 254:0 / / rw - ext4 /dev/vda rw\n${line}\n`, "rackyard-test-a")).toBe(
    found,
  );
});

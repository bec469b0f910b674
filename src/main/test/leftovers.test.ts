/** What a run of tests leaves is found by its directory, and nothing else is. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { launch } from "../../base/command.ts";
import { until } from "../../base/wait.ts";
import { endLeftover, findLeftovers } from "./leftovers.ts";

test("a process whose command names the run's directory is found and ended by its pid", async () => {
  const directory = mkdtempSync(join(tmpdir(), "rackyard-left-"));
  await using own = launch("tail", ["-f", "/dev/null", join(directory, "none")]);
  await using other = launch("tail", ["-f", "/dev/null"]);
  const find = () => findLeftovers(directory);
  await until(() => find().length === 1, { timeoutMs: 10_000, what: "tail to start" });
  expect(find()).toEqual([{ pid: own.pid, command: expect.stringContaining("tail -f") as string }]);
  for (const leftover of find()) endLeftover(leftover);
  expect((await own.exited).signalNumber).toBe(9);
  expect(find()).toEqual([]);
  expect(other.process.exitCode).toBeNull();
  rmSync(directory, { recursive: true });
});

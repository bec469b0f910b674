/**
 * The archive on a disk that is really full: a small tmpfs. Nothing ends, everything goes on when
 * there is room, and the build has one honest end.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { openTroubles } from "../../src/base/troubles.ts";
import { untilDone } from "../../src/base/retry.ts";
import { until } from "../../src/base/wait.ts";
import { openFileArchive } from "../../src/ci/archive/archive.ts";

let directory: string;
const signal = new AbortController().signal;
const build = {
  id: "aaaaaaaa-1111-4222-8333-444444444444",
  project: "tool",
  changes: [],
  job: { name: "unit" },
  logsPath: "04/4/1/check/unit/aaaaaaa",
  logsUrl: "http://x/",
  buildUrl: "http://x/",
};

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-full-"));
  await run("mount", ["-t", "tmpfs", "-o", "size=2m", "none", directory]);
});
afterEach(async () => {
  await run("umount", [directory]);
  await rm(directory, { recursive: true });
});

/** Takes all the room there is. */
async function fill(): Promise<void> {
  for (const bytes of [1_000_000, 100_000, 4_096, 1]) {
    for (let number = 0; number < 30; number++) {
      const path = join(directory, `fill.${bytes}.${number}`);
      const fits = await writeFile(path, Buffer.alloc(bytes)).then(
        () => true,
        () => false,
      );
      if (!fits) break;
    }
  }
}

const free = () => run("sh", ["-c", `rm -f ${directory}/fill.*`]);

test("section 1 the archive's disk is full while a build runs and ends, then freed", async () => {
  const troubles = openTroubles({ log: silentLog, wallMs: () => Date.now() });
  await using archive = openFileArchive({
    directory,
    keepDays: 30,
    maxBytes: 2 ** 30,
    clock: systemClock,
    log: silentLog,
    troubles,
  });
  await archive.begin(build);
  archive.output(build.id, "before");
  await until(async () => (await readFile(consoleOf(), "utf8")).includes("before"), {
    timeoutMs: 5_000,
    what: "the console",
  });
  await fill();
  for (let number = 0; number < 5_000; number++) {
    archive.output(build.id, `${number} ${"x".repeat(900)}`);
    await archive.room(build.id);
  }
  archive.say(build.id, "run: exit 1");
  await archive.put(build, "manifest.json", "{}");
  const ending = { result: "FAILURE", lease: null, timeline: [] };
  let tries = 0;
  const finished = untilDone(
    "archiving builds",
    () => {
      tries++;
      return archive.finish(build, ending, signal);
    },
    { signal, troubles, firstMs: 50, lastMs: 200 },
  );
  await until(() => tries > 2, { timeoutMs: 10_000, what: "some tries" });
  expect(troubles.list().map(({ what }) => what)).toContain("writing the archive");
  await free();
  await finished;
  expect(troubles.list()).toEqual([]);
  const lines = (await readFile(join(directory, build.logsPath, "console.log"), "utf8")).split(
    "\n",
  );
  expect(lines[1]).toMatch(/\| before$/);
  expect(lines.slice(-3)).toEqual([
    expect.stringMatching(/\| run: exit 1$/),
    expect.stringMatching(/\| Result: FAILURE$/),
    "",
  ]);
  expect(lines.filter((line) => line.includes("lines of output were lost"))).toHaveLength(1);
  expect((await archive.files(build)).map(({ path }) => path)).toContain("manifest.json");
});

const consoleOf = (): string => join(directory, ".running", build.id, "console.log");

/**
 * `doctor --leaks` against real namespaces and mounts: it tells what nobody owns, and `down`
 * ends it.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { launch, plainEnv, run } from "../../src/base/command.ts";
import { silentLog } from "../../src/base/log.ts";
import { endCell } from "../../src/hypervisor/cell-end.ts";
import { prepareCell } from "../../src/hypervisor/cell.ts";
import { until } from "../../src/base/wait.ts";
import { mountsBelow, unmountBelow } from "../../src/hypervisor/mounts.ts";
import { leaks } from "../../src/main/leaks.ts";
import { noteBuild } from "../../src/nodehost/abandoned-build.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));
const down = (state: string) =>
  run(process.execPath, [entry, "down", "--purge", "--json", "--state", state], {
    env: plainEnv(),
    accept: "any",
  });

test("issue 3, row 11: a cell is left over when its programs or its state are gone", async () => {
  const state = mkdtempSync(join(tmpdir(), "leaks-"));
  const cell = await prepareCell({ state, cidr: "auto", mtu: 1_500, log: silentLog });
  const kinds = async (of: string): Promise<string[]> =>
    (await leaks(of))
      .filter(({ name, why }) => `${name} ${why}`.includes(cell.netns.slice("ry-".length)))
      .map(({ kind }) => kind);
  try {
    expect((await kinds(state)).toSorted()).toEqual(
      expect.arrayContaining(["link", "netns", "process"]),
    );
    expect(await kinds("/nonexistent")).toEqual([]);
    rmSync(state, { recursive: true });
    expect(await kinds("/nonexistent")).toEqual(["process"]);
  } finally {
    mkdirSync(state, { recursive: true });
    await endCell(state);
  }
  expect(await kinds(state)).toEqual([]);
  rmSync(state, { recursive: true });
});

test("issue 3, row 11: an image build whose agent was killed is ended, its mounts are undone", async () => {
  const state = mkdtempSync(join(tmpdir(), "leaks-"));
  const work = join(state, "images/work");
  const root = join(work, "0123456789abcdef/work/root/proc");
  mkdirSync(root, { recursive: true });
  const build = launch("sh", ["-c", `mount -t proc proc ${root} && exec tail -f /dev/null`]);
  try {
    await noteBuild(work, build.pid);
    await until(async () => (await mountsBelow(work)).length > 0, {
      timeoutMs: 10_000,
      what: "the build to mount",
    });
    // cells that others left are told too
    const ours = (await leaks(state)).filter(({ name }) => name.includes(state));
    expect(ours).toEqual([{ kind: "mount", name: root, why: "an image build left it" }]);
    const { exitCode, stdout } = await down(state);
    expect([exitCode, JSON.parse(stdout)]).toMatchObject([
      0,
      { left: [], stopped: [{ name: "image-build", pid: build.pid }], removed: { mounts: 1 } },
    ]);
    expect((await build.exited).signalNumber).toBe(9);
    expect([existsSync(state), await mountsBelow(state)]).toEqual([false, []]);
  } finally {
    await build.end();
    await unmountBelow(state);
  }
});

test("issue 3, row 11: nothing is purged through somebody else's mount", async () => {
  const state = mkdtempSync(join(tmpdir(), "leaks-"));
  const archive = join(state, "server/archive");
  mkdirSync(archive, { recursive: true });
  await run("mount", ["-t", "tmpfs", "theirs", archive]);
  try {
    const { exitCode, stderr } = await down(state);
    expect([exitCode, stderr]).toEqual([64, expect.stringContaining(`${archive} is mounted`)]);
    expect(existsSync(archive)).toBe(true);
  } finally {
    await run("umount", [archive]);
    rmSync(state, { recursive: true });
  }
});

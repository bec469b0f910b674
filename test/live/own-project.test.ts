/**
 * A stranger's own project, as the README's tour has it (must-hold 4): a job without a rack that
 * succeeds and one that fails, a job with a rack, a conflict, a commit without Change-Id, and a
 * second user. By the command line and git alone.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

const layout = `
- job:
    name: hello-unit
    nodeset: { nodes: [ { name: node, label: worker } ] }
    timeout: 60
    run: ./check
- job:
    name: hello-rack
    parent: hello-unit
    testenv: { machines: 2 }
    run: ./rack
- project:
    name: hello
    check: { jobs: [ hello-unit ] }
- project:
    name: racked
    check: { jobs: [ hello-rack ] }
- project:
    name: plain
    check: { jobs: [ noop ] }
`;
const rack = `#!/bin/bash
set -euo pipefail
te() { jq -r "$1" "$TE_DATAFILE"; }
gate="$(te '."ssh-user"')@$(te '."host-ip"')"
for name in $(te '.nodes[].name'); do
  ssh "$gate" virsh start "baremetalbrbm$(te '."env-num"')_\${name##*-n}"
done
ssh "$gate" virsh list | tee "$WORKSPACE/logs/running.txt"
test "$(grep -c running "$WORKSPACE/logs/running.txt")" = "$(te '.nodes | length')"
`;
const yes = "#!/bin/sh\ntrue\n";
const no = "#!/bin/sh\nfalse\n";
let yard: Yard;

beforeAll(async () => {
  yard = await openYard({ set: ["teHost.kinds.two.count=1"] });
  const reloaded = await yard.layout("hello.yaml", layout);
  if (reloaded.exitCode !== 0) throw new Error(reloaded.stderr);
  await yard.content("hello", { check: yes });
  await yard.content("racked", { rack });
  await yard.content("plain", { README: "plain\n" });
});
afterAll(() => yard[Symbol.asyncDispose]());

const lastComment = async (number: number): Promise<string> =>
  (await yard.change(number)).comments.at(-1)?.text ?? "";

test("must-hold 4: a job that is true is voted +1, one that is false −1, a patchset mends it", async () => {
  const good = await yard.push("hello", { files: { check: "#!/bin/sh\nuname -a\n" } });
  const bad = await yard.push("hello", { files: { check: no } });
  expect((await yard.voted(good.number)).votes).toMatchObject([{ label: "Verified", value: 1 }]);
  expect((await yard.voted(bad.number)).votes).toMatchObject([{ label: "Verified", value: -1 }]);
  expect(await lastComment(bad.number)).toMatch(
    /^Build failed\.\n\n- hello-unit http\S+ : FAILURE in /,
  );
  const files = { check: "#!/bin/sh\ntrue # mended\n" };
  const mended = await yard.push("hello", { files, id: bad.id });
  expect(mended).toMatchObject({ number: bad.number, patchset: 2 });
  expect((await yard.voted(bad.number)).votes).toMatchObject([{ value: 1 }]);
});

test("must-hold 4: a job with a rack powers its machines on and sees them run", async () => {
  const { number } = await yard.push("racked", { files: { README: "racked\n" } });
  expect((await yard.voted(number)).votes).toMatchObject([{ label: "Verified", value: 1 }]);
  const [build] = await yard.builds(number);
  const path = new URL(build?.logsUrl ?? "").pathname;
  expect(await (await yard.read(`${path}logs/running.txt`)).text()).toContain("running");
  expect(await (await yard.read(`${path}rack/console-te1-n0.log`)).text()).toContain("iPXE");
});

test("must-hold 5: two pushes at once, and a series of 3 in one, are a change each with a vote", async () => {
  const [one, two] = await Promise.all(
    ["one", "two"].map((name) => yard.push("plain", { files: { [name]: name } })),
  );
  const said = await yard.clone("plain", async (git) => {
    for (const n of ["a", "b", "c"]) {
      const words = ["-m", `Part ${n}`, "-m", `Change-Id: I${n.repeat(40)}`];
      await git("commit", "--quiet", "--allow-empty", ...words);
    }
    return git("push", "origin", "HEAD:refs/for/master");
  });
  const series = [...said.matchAll(/remote: change (\d+) patchset 1: Part/g)].map(([, n]) =>
    Number(n),
  );
  expect(series).toHaveLength(3);
  expect((await yard.change(series[2]!)).dependsOn).toEqual([series[1]]);
  const numbers = [one!.number, two!.number, ...series];
  expect(new Set(numbers).size).toBe(5);
  for (const number of numbers) {
    expect((await yard.voted(number)).votes).toMatchObject([{ label: "Verified", value: 1 }]);
  }
});

test("must-hold 5: a conflict names the files, and a commit without Change-Id the cure", async () => {
  const { number } = await yard.push("hello", { files: { check: "#!/bin/sh\necho mine\n" } });
  expect((await yard.voted(number)).votes).toMatchObject([{ value: 1 }]);
  await yard.content("hello", { check: "#!/bin/sh\necho theirs\n" });
  expect((await yard.cli("change", "recheck", String(number))).exitCode).toBe(0);
  const rechecked = await yard.commented(number, "Merge Failed.");
  expect(rechecked.votes).toMatchObject([{ label: "Verified", value: -1 }]);
  expect(rechecked.comments.at(-1)?.text).toContain("check");

  const push = yard.clone("hello", async (git) => {
    await git("commit", "--quiet", "--allow-empty", "-m", "No id");
    await git("push", "origin", "HEAD:refs/for/master");
  });
  await expect(push).rejects.toThrow(/has no Change-Id[\s\S]*commit-msg/);
});

test("surface.md §2 SIGHUP reads configuration again; a wrong one is refused and nothing dies", async () => {
  const pidsOf = async (): Promise<(number | undefined)[]> => {
    const { processes } = await yard.status();
    return ["server", "te-host"].map((name) => processes.find((one) => one.name === name)?.pid);
  };
  const before = await pidsOf();
  const path = join(yard.state, "rackyard.yaml");
  const toldOf = async (program: string, text: string): Promise<void> => {
    const log = join(yard.state, "log", `${program}.jsonl`);
    const told = async (): Promise<boolean> => (await readFile(log, "utf8")).includes(text);
    await until(told, { timeoutMs: 30_000, everyMs: 100, what: `${program}: ${text}` });
  };
  try {
    await writeFile(path, "server:\n  lisen: []\n");
    process.kill(yard.ready.pid, "SIGHUP");
    await toldOf("server", "the old ones stay");
    await toldOf("te-host", "the old one stays");
    const refused = await yard.cli("reload");
    expect(refused.exitCode).toBe(78);
    expect(refused.stderr).toContain("rackyard.yaml:2:3: server.lisen: unknown key");
  } finally {
    await rm(path, { force: true });
  }
  expect((await yard.cli("reload")).exitCode).toBe(0);
  expect(await pidsOf()).toEqual(before);
});

test("surface.md §6 a second user pushes changes, but no branch; a wrong token does nothing", async () => {
  const made = await yard.json<{ token: string }>("token", "create", "dora");
  const pushed = await yard.clone(
    "hello",
    async (git) => {
      await git(
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "Dora's",
        "-m",
        `Change-Id: I${"d".repeat(40)}`,
      );
      return git("push", "origin", "HEAD:refs/for/master");
    },
    made.token,
  );
  const number = Number(/remote: change (\d+)/.exec(pushed)?.[1]);
  expect((await yard.change(number)).owner).toBe("dora");
  const branch = yard.clone(
    "hello",
    async (git) => {
      await git("commit", "-q", "--allow-empty", "-m", "Direct");
      await git("push", "origin", "HEAD:refs/heads/master");
    },
    made.token,
  );
  await expect(branch).rejects.toThrow(/remote: error: /);
  await expect(yard.clone("hello", async () => undefined, "ry_wrong")).rejects.toThrow(
    /could not read Username|Authentication failed/,
  );
  expect((await yard.cli("token", "revoke", "dora")).exitCode).toBe(0);
});

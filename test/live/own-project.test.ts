/**
 * A stranger's own project, as the README's tour has it (must-hold 4): a job without a rack that
 * succeeds and one that fails, a job with a rack, a conflict, a commit without Change-Id, and a
 * second user. By the command line and git alone.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
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

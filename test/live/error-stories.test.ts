/**
 * What goes wrong in a job or around it, on real nodes and racks (must-hold 5, 9 and 10): each
 * story by its real input, told to people as docs/errors.md says.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "../../src/base/wait.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import { calibrateBoot } from "./calibrate.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

// only the job that hangs meets its timeout, however slow the machine is
const job = (name: string, more = "", { label = "worker", timeout = 240 } = {}): string => `
- job:
    name: ${name}
    nodeset: { nodes: [ { name: node, label: ${label} } ] }
    timeout: ${timeout}
    attempts: 2
    run: ./check
${more}- project:
    name: ${name}
    check: { jobs: [ ${name} ] }
`;
const racked = "    testenv: { machines: 1 }\n";
const gate = `te() { jq -r "$1" "$TE_DATAFILE"; }
gate="$(te '."ssh-user"')@$(te '."host-ip"')" N="$(te '."env-num"')"
`;
const scripts = {
  hang: `echo begun >"$WORKSPACE/logs/begun"; sleep 600`,
  fill: `fallocate -l "$(($(df --output=avail -B1 / | tail -1) - 8192))" /home/ci/big
cat /bin/bash /bin/bash >/home/ci/more; echo never`,
  slow: `sleep 15`,
  // a qcow2 header, version 3: its backing file's name is at 512, 11 bytes; clusters of 64 KiB
  image: `${gate}{ printf 'QFI\\373\\0\\0\\0\\2\\0\\0\\0\\0\\0\\0\\2\\0\\0\\0\\0\\13\\0\\0\\0\\20'
printf '\\0\\0\\0\\0\\0\\20\\0\\0'; head -c 480 /dev/zero; printf '/etc/shadow'; head -c 65013 /dev/zero; } >evil
ssh "$gate" copyseed "$N" <evil`,
  rack: `${gate}ssh "$gate" virsh list --all; sleep 12`,
  // longer than a host may be silent
  gone: `${gate}ssh "$gate" virsh list --all; sleep 75`,
  odd: `true`,
};
const script = (name: keyof typeof scripts): string =>
  `#!/bin/bash\nset -euo pipefail\n${scripts[name]}\n`;

describe.runIf(process.env["RACKYARD_TEST_DEEP"])("deep: stories of errors", () => {
  let yard: Yard;
  let boot: number;
  let recipe: string;
  beforeAll(async () => {
    boot = await calibrateBoot();
    recipe = await mkdtemp(join(tmpdir(), "stories-recipe-"));
    const build = "#!/bin/sh\necho step: tools\necho no package nosuchthing >&2\nexit 1\n";
    await writeFile(join(recipe, "build"), build, { mode: 0o755 });
    yard = await openYard({
      set: [
        "teHost.kinds.two.count=1",
        "nodes.images.broken.driver=mmdebstrap",
        `nodes.images.broken.recipe=${recipe}`,
        "nodes.labels.odd.image=broken",
        "nodes.labels.odd.minReady=0",
        'nodes.providers.here.labels=["worker","odd"]',
      ],
    });
    const layout = [
      job("hang", "", { timeout: 20 }) +
        job("fill") +
        job("slow") +
        job("odd", "", { label: "odd" }),
      job("image", racked) + job("rack", racked) + job("gone", racked),
    ].join("");
    const reloaded = await yard.layout("stories.yaml", layout);
    if (reloaded.exitCode !== 0) throw new Error(reloaded.stderr);
    for (const name of Object.keys(scripts) as (keyof typeof scripts)[]) {
      await yard.content(name, { check: script(name) });
    }
  });
  afterAll(async () => {
    await yard[Symbol.asyncDispose]();
    await rm(recipe, { recursive: true, force: true });
  });

  const pushed = async (project: string): Promise<number> =>
    (await yard.push(project, { files: { note: `${Date.now()}\n` } })).number;
  const story = async (project: string) => {
    const change = await yard.voted(await pushed(project), 120);
    const builds = await yard.builds(change.number);
    return { change, builds, report: change.comments.at(-1)?.text ?? "" };
  };

  test("F-0 a hanging job: TIMED_OUT, −1, its logs are home", async () => {
    const { change, builds, report } = await story("hang");
    expect(change.votes).toMatchObject([{ value: -1 }]);
    expect(builds).toMatchObject([{ result: "TIMED_OUT", attempt: 1 }]);
    expect(report).toMatch(/- hang http\S+ : TIMED_OUT in /);
    const path = new URL(builds[0]?.logsUrl ?? "").pathname;
    expect(await (await yard.read(`${path}logs/begun`)).text()).toBe("begun\n");
  });

  test("X-5 a job that fills its node's disk: DISK_FULL, −1", async () => {
    const { change, builds } = await story("fill");
    expect(change.votes).toMatchObject([{ value: -1 }]);
    expect(builds).toMatchObject([{ result: "DISK_FULL", attempt: 1 }]);
  });

  test("H-7.5 a dangerous image is refused by the gate, and the job fails saying why", async () => {
    const { change, builds } = await story("image");
    expect(change.votes).toMatchObject([{ value: -1 }]);
    const path = new URL(builds[0]?.logsUrl ?? "").pathname;
    const console = await (await yard.read(`${path}console.log`)).text();
    expect(console).toContain("image-dangerous");
    expect(console).toContain("backing file");
  });

  test("Q-1 a second patchset supersedes the running build: CANCELED, and only the new one votes", async () => {
    const first = await yard.push("slow", { files: { note: "1\n" } });
    await until(async () => (await yard.builds(first.number))[0]?.state === "running", {
      timeoutMs: boot * 60,
      what: "the first build to run",
    });
    const second = await yard.push("slow", { files: { note: "2\n" }, id: first.id });
    expect(second).toMatchObject({ number: first.number, patchset: 2 });
    const change = await yard.voted(first.number, 120);
    expect(change.votes).toMatchObject([{ value: 1 }]);
    const builds = await yard.builds(first.number);
    expect(builds.map(({ patchset, result }) => [patchset, result])).toEqual([
      [2, "SUCCESS"],
      [1, "CANCELED"],
    ]);
    expect(change.comments.filter(({ text }) => text.includes("- slow"))).toHaveLength(1);
  });

  test("must-hold 9: two changes, one rack: the second waits and reads who has it, until when", async () => {
    const numbers = [await pushed("rack"), await pushed("rack")];
    const waiting = await until(
      async () => {
        const { items } = await yard.json<{ items: LeaseView[] }>("lease", "list");
        const active = items.find(({ state }) => state === "active");
        const waits = items.find(({ state }) => state === "waiting");
        return active && waits?.why?.some(({ te }) => te === "here:1") && waits;
      },
      { timeoutMs: boot * 60, everyMs: 250, what: "one lease active, one waiting" },
    );
    const why = waiting.why?.find(({ te }) => te === "here:1");
    expect(why?.holder).toMatch(/^build /);
    expect(Date.parse(why?.untilAt ?? "")).toBeGreaterThan(Date.now());
    for (const number of numbers) {
      await yard.voted(number, 120);
      expect(await yard.builds(number)).toMatchObject([{ result: "SUCCESS", errorDetail: null }]);
      expect((await yard.change(number)).votes).toMatchObject([{ value: 1 }]);
    }
  });

  test("N-4 an image whose recipe fails: NODE_FAILURE with the recipe's last words, −1", async () => {
    const { change, builds, report } = await story("odd");
    expect(change.votes).toMatchObject([{ value: -1 }]);
    expect(builds).toMatchObject([{ result: "NODE_FAILURE", attempt: 1 }]);
    expect(report).toMatch(/- odd http\S+ : NODE_FAILURE[\s\S]*exit 1: no package nosuchthing/);
  });

  test("must-hold 10: the host is gone in the middle: TE_LOST, tried again, and then success", async () => {
    const number = await pushed("gone");
    await until(async () => (await yard.builds(number))[0]?.state === "running", {
      timeoutMs: boot * 60,
      what: "the build to run",
    });
    const { processes } = await yard.status();
    const host = processes.find(({ name }) => name === "te-host");
    process.kill(host?.pid ?? -1, "SIGSTOP");
    try {
      await until(async () => (await yard.builds(number)).some((one) => one.attempt === 2), {
        timeoutMs: 180_000,
        everyMs: 1_000,
        what: "the second attempt",
      });
      const { items } = await yard.json<{ items: { state: string }[] }>("host", "list");
      expect(items).toMatchObject([{ state: "lost" }]);
      const over = await yard.json<{ items: LeaseView[] }>("lease", "list", "--in", "ended");
      expect(over.items[0]).toMatchObject({ reason: "te-lost", testenvs: [{ id: "here:1" }] });
      expect((await yard.status()).health).toBe("failing");
    } finally {
      process.kill(host?.pid ?? -1, "SIGCONT");
    }
    const change = await yard.voted(number, 160);
    expect(change.votes).toMatchObject([{ value: 1 }]);
    const builds = await yard.builds(number);
    expect(builds.map(({ attempt, result }) => [attempt, result])).toEqual([
      [2, "SUCCESS"],
      [1, "TE_LOST"],
    ]);
    expect(change.comments.at(-1)?.text).toContain("TE_LOST");
  });
});

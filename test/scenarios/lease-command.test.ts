// `rackyard lease … -- CMD` as a program of its own against a real server: what CMD finds, which
// exit code comes out in which case, what the status file says, signals, and that the rack is
// given back whatever happens (surface.md §2, lease.md §4).
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { launch } from "../../src/base/command.ts";
import type { Child } from "../../src/base/command.ts";
import { processStart, readTextIfAny } from "../../src/base/files.ts";
import { readText } from "../../src/base/http-client.ts";
import { until } from "../../src/base/wait.ts";
import { openLeaseCalls } from "../../src/lease/holder/lease-calls.ts";
import { makeLeaseDirectory, openLeaseServer } from "./lease-world.ts";
import type { LeaseServer } from "./lease-world.ts";
import { openScriptedHost } from "./scripted-host.ts";
import type { ScriptedHost } from "./scripted-host.ts";

let directory: Awaited<ReturnType<typeof makeLeaseDirectory>>;
let server: LeaseServer;
let host: ScriptedHost;
const running: Child[] = [];
const soon = { timeoutMs: 30_000, everyMs: 20 };
const programFile = join(import.meta.dirname, "../../src/main/rackyard.ts");

beforeEach(async () => {
  directory = await makeLeaseDirectory();
  server = await openLeaseServer(directory.path);
  host = openScriptedHost({ url: server.hostUrl });
  host.start();
  await teIs("ready");
});
afterEach(async () => {
  for (const child of running.splice(0)) await child.end();
  await host.die();
  await server.close();
  await directory[Symbol.asyncDispose]();
});

async function teIs(state: string): Promise<void> {
  await until(
    async () => {
      const [te] = await server.broker.fleet.testenvs();
      const [there] = await server.broker.fleet.hosts();
      return te?.state === state && there?.state === "connected";
    },
    { ...soon, what: `here:1 to be ${state}` },
  );
}

const inFolder = (name: string): string => join(directory.path, name);

async function script(name: string, text: string, mode = 0o755): Promise<string> {
  await writeFile(inFolder(name), text);
  await chmod(inFolder(name), mode);
  return inFolder(name);
}

function rackyard(words: readonly string[], env: Record<string, string> = {}) {
  const child = launch(process.execPath, [programFile, ...words], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: directory.path,
      TMPDIR: directory.path,
      RACKYARD_URL: server.endpoint.url,
      RACKYARD_TOKEN: "ry_holder",
      FOLDER: directory.path,
      ...env,
    },
    cwd: directory.path,
  });
  running.push(child);
  const cutShort = (): string => ""; // killed in the middle of a word
  const stdout = readText(child.stdout!, 1e6).catch(cutShort);
  const stderr = readText(child.stderr!, 1e6).catch(cutShort);
  return {
    child,
    async done() {
      const exit = await child.exited;
      const status = await readTextIfAny(inFolder("status.json"));
      return {
        exitCode: exit.code,
        stdout: await stdout,
        stderr: await stderr,
        status: status === undefined ? undefined : (JSON.parse(status) as Record<string, unknown>),
      };
    },
  };
}

const lease = (...words: string[]) => rackyard(["lease", "--status-file", "status.json", ...words]);

test("lease.md §4 CMD finds its rack, exits with its own status, and the rack comes back", async () => {
  const command = await script(
    "cmd.sh",
    `#!/bin/sh
stat -c '%a' "$TE_DATAFILE" "$(dirname "$TE_DATAFILE")"
ssh -G te1@10.99.0.1 | grep -E '^(identityfile|userknownhostsfile|port|user) '
echo "$TE_DATAFILE" > "$FOLDER/datafile"
cat "$TE_DATAFILE" > "$FOLDER/copy.json"
exit 3
`,
  );
  const done = await lease("--name", "my test", "--", command, "a b").done();
  expect(done, done.stderr).toMatchObject({
    exitCode: 3,
    status: { outcome: "exited", exitCode: 3 },
  });
  expect(done.stdout).toMatch(/^600\n700\n/);
  expect(done.stdout).toMatch(/identityfile .*rackyard-rack-.*\/identity/);
  expect(done.stdout).toMatch(/userknownhostsfile .*rackyard-rack-.*\/known_hosts/);
  const data = JSON.parse(await readFile(inFolder("copy.json"), "utf8")) as Record<string, unknown>;
  expect(data).toMatchObject({ "env-num": "1", "ssh-user": "te1" });
  const file = (await readFile(inFolder("datafile"), "utf8")).trim();
  await expect(stat(file)).rejects.toThrow("ENOENT"); // the key goes with the lease
  await teIs("ready");
  const { items } = await server.broker.leases.list({ limit: 10 });
  expect(items).toMatchObject([
    { id: done.status!["lease"], reason: "released", holder: { name: "my test" } },
  ]);
  expect(done.stderr).toContain("here:1 (epoch 1)");
});

describe("surface.md §2 exit codes", () => {
  test("127 not found, 126 not executable, 126 no interpreter", async () => {
    const missing = await lease("--", "no-such-program-anywhere").done();
    expect(missing).toMatchObject({ exitCode: 127, status: { outcome: "exited", lease: null } });
    const plain = await script("plain.sh", "#!/bin/sh\n", 0o644);
    expect(await lease("--", plain).done()).toMatchObject({ exitCode: 126 });
    const odd = await script("odd.sh", "#!/no/such/interpreter\n");
    expect(await lease("--", odd).done()).toMatchObject({ exitCode: 126 });
    await teIs("ready");
  });

  test("128 + n where a signal ended CMD", async () => {
    const command = await script("kill.sh", "#!/bin/sh\nkill -9 $$\n");
    expect(await lease("--", command).done()).toMatchObject({
      exitCode: 137,
      status: { outcome: "exited", exitCode: 137 },
    });
  });

  test("69 unsatisfiable, naming what is missing", async () => {
    const done = await lease("--machines", "9", "--", "true").done();
    expect(done).toMatchObject({
      exitCode: 69,
      status: { outcome: "unsatisfiable", exitCode: 69, lease: null },
    });
    expect(done.stderr).toContain("no test environment has more than 2");
  });

  test("69 waited too long, having said why", async () => {
    const calls = openLeaseCalls(server.endpoint);
    const first = await calls.ask({ durationSeconds: 600, holder: { name: "greedy" } }, "g");
    await teIs("leased");
    await calls.data(first);
    const done = await lease("--wait", "1s", "--", "true").done();
    expect(done).toMatchObject({ exitCode: 69, status: { outcome: "waited-too-long" } });
    expect(done.stderr).toMatch(/place 1; here:1 is leased by greedy until .* at the latest/);
    await calls.release(first);
  });

  test("--wait 0 takes what is free", async () => {
    expect(await lease("--wait", "0", "--", "true").done()).toMatchObject({ exitCode: 0 });
  });

  test("77 wrong token, 64 wrong usage, 69 no server", async () => {
    const wrong = await rackyard(["lease", "--", "true"], { RACKYARD_TOKEN: "ry_wrong" }).done();
    expect(wrong).toMatchObject({ exitCode: 77 });
    expect(wrong.stderr).toContain("bad-token");
    expect(await lease("--for", "soon", "--", "true").done()).toMatchObject({ exitCode: 64 });
    expect(await lease("--label", "a &&", "--", "true").done()).toMatchObject({
      exitCode: 64,
      status: { outcome: "refused" },
    });
    expect(await lease().done()).toMatchObject({ exitCode: 64 });
    const away = await rackyard(["lease", "--state", inFolder("none"), "--", "true"], {
      RACKYARD_URL: "",
    }).done();
    expect(away).toMatchObject({ exitCode: 69 });
  });

  test("75 the lease was lost: CMD's group gets TERM, then KILL after the grace", async () => {
    const command = await script(
      "stubborn.sh",
      `#!/bin/sh
trap 'echo TERM > "$FOLDER/got"' TERM
sh -c 'trap "" TERM; echo $$ > "$FOLDER/inner"; exec tail -f /dev/null' &
echo up > "$FOLDER/up"
while :; do wait; done
`,
    );
    const run = lease("--", command);
    await until(() => readTextIfAny(inFolder("inner")), { ...soon, what: "CMD" });
    host.endAlone(1, "te-lost");
    const done = await run.done();
    expect(done, done.stderr).toMatchObject({
      exitCode: 75,
      status: { outcome: "lost", exitCode: 75 },
    });
    expect(await readTextIfAny(inFolder("got"))).toBe("TERM\n");
    expect(done.stderr).toContain("te-lost");
    const inner = Number(await readTextIfAny(inFolder("inner")));
    expect(await processStart(inner), "the whole group is gone").toBe(undefined);
  });
});

describe("surface.md §2 signals", () => {
  test("go to CMD, which decides how it ends; the rack is given back", async () => {
    const command = await script(
      "polite.sh",
      `#!/bin/sh
trap 'echo USR1 >> "$FOLDER/got"' USR1
trap 'echo TERM >> "$FOLDER/got"; exit 9' TERM
echo up > "$FOLDER/up"
while :; do sleep 0.05; done
`,
    );
    const run = lease("--", command);
    await until(() => readTextIfAny(inFolder("up")), { ...soon, what: "CMD" });
    process.kill(run.child.pid, "SIGUSR1");
    await until(() => readTextIfAny(inFolder("got")), { ...soon, what: "the first signal" });
    process.kill(run.child.pid, "SIGTERM");
    expect(await run.done()).toMatchObject({ exitCode: 9, status: { outcome: "exited" } });
    expect(await readTextIfAny(inFolder("got"))).toBe("USR1\nTERM\n");
    await teIs("ready");
  });

  test("while waiting, one gives the place back at once", async () => {
    const calls = openLeaseCalls(server.endpoint);
    const first = await calls.ask({ durationSeconds: 600, holder: { name: "greedy" } }, "g");
    await teIs("leased");
    await calls.data(first);
    const run = lease("--", "true");
    const waiting = async () =>
      (await server.broker.leases.list({ limit: 9, state: "waiting" })).items;
    await until(async () => (await waiting()).length === 1, { ...soon, what: "the request" });
    process.kill(run.child.pid, "SIGINT");
    expect(await run.done()).toMatchObject({ exitCode: 130, status: { exitCode: 130 } });
    expect(await waiting()).toEqual([]);
    await calls.release(first);
  });
});

test("L14 after kill -9 of the client its lease ends as holder-lost, and the rack comes back", async () => {
  await host.die();
  await server.close();
  server = await openLeaseServer(directory.path, { holderTtlMs: 1_000 });
  host.start();
  await teIs("ready");
  const command = await script(
    "long.sh",
    '#!/bin/sh\necho $$ > "$FOLDER/up"\nexec tail -f /dev/null\n',
  );
  const run = lease("--", command);
  const up = await until(() => readTextIfAny(inFolder("up")), { ...soon, what: "CMD" });
  const { items } = await server.broker.leases.list({ limit: 1 });
  const inner = JSON.parse(JSON.stringify(items)) as { id: string; state: string }[];
  expect(inner).toMatchObject([{ state: "active" }]);
  process.kill(run.child.pid, "SIGKILL");
  await until(async () => (await server.broker.leases.get(inner[0]!.id)).state === "ended", {
    ...soon,
    what: "the end",
  });
  expect(await server.broker.leases.get(inner[0]!.id)).toMatchObject({ reason: "holder-lost" });
  process.kill(Number(up), "SIGKILL"); // nobody was left to end it
  await teIs("ready");
});

test("must-hold 9: lease list and lease why say who has which TE until when", async () => {
  const calls = openLeaseCalls(server.endpoint);
  await calls.ask({ durationSeconds: 600, holder: { name: "greedy" } }, "g");
  await teIs("leased");
  const second = await calls.ask({ durationSeconds: 600, holder: { name: "patient" } }, "p");
  const listed = await rackyard(["lease", "list"]).done();
  expect(listed.stdout).toMatch(
    /patient .* place 1\n[^]* waits:\n {2}here:1 is leased by greedy until/,
  );
  const why = await rackyard(["lease", "why", second.id.slice(0, 8)]).done();
  expect(why.stdout).toMatch(/place 1; start between .*\n {2}here:1 is leased by greedy until/);
  const json = await rackyard(["lease", "list", "--json"]).done();
  const { items } = JSON.parse(json.stdout) as { items: { state: string }[] };
  expect(items.map(({ state }) => state).sort()).toEqual(["active", "waiting"]);
  const testenvs = await rackyard(["te", "list"]).done();
  expect(testenvs.stdout).toMatch(/here:1 +two +leased +1/);
  const proof = await rackyard(["te", "certificate", "here:1", "--json"]).done();
  expect(JSON.parse(proof.stdout)).toMatchObject({ schema: "reset/1", te: 1 });
  const refused = await rackyard(["lease", "release", second.id]).done();
  expect(refused).toMatchObject({ exitCode: 77 });
  const operator = { RACKYARD_TOKEN: "ry_operator" };
  expect(await rackyard(["lease", "release", second.id], operator).done()).toMatchObject({
    exitCode: 0,
  });
});

/**
 * The program `server` as a process, with the commands of people around it: it starts, is pushed
 * to, is killed and takes up what it had, refuses what it cannot have. No host: builds wait, and
 * say why.
 */
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { launch, plainEnv, run } from "../../src/base/command.ts";
import type { Child, CommandResult } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));
const node = ["--disable-sigusr1", "--disable-warning=ExperimentalWarning", entry];
let root: string;
let state: string;
const children: Child[] = [];

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "server-"));
  state = join(root, "state");
});
afterAll(async () => {
  for (const child of children) await child.end("end", 10_000);
  await rm(root, { recursive: true, force: true });
});

function rackyard(...words: string[]): Promise<CommandResult> {
  return run(process.execPath, [...node, ...words], {
    env: plainEnv({ RACKYARD_STATE: state }),
    accept: "any",
  });
}

async function startServer(...more: string[]): Promise<Child> {
  const child = launch(process.execPath, [...node, "server", "--state", state, ...more], {
    env: plainEnv(),
    stdio: "ignore",
  });
  children.push(child);
  await until(async () => (await status())["pid"] === child.pid, {
    timeoutMs: 20_000,
    what: "the server",
  });
  return child;
}

async function status(): Promise<Record<string, unknown>> {
  const { stdout } = await rackyard("status", "--json");
  return JSON.parse(stdout) as Record<string, unknown>;
}

async function git(folder: string, ...words: string[]): Promise<string> {
  const identity = ["AUTHOR", "COMMITTER"].flatMap((who) => [
    [`GIT_${who}_NAME`, "dora"],
    [`GIT_${who}_EMAIL`, "dora@example.invalid"],
  ]);
  const env = plainEnv({ HOME: root, GIT_CONFIG_NOSYSTEM: "1", ...Object.fromEntries(identity) });
  const { stderr } = await run("git", ["-C", folder, ...words], { env, accept: "any" });
  return stderr;
}

test("surface.md §8 where nothing runs: absent, 69; clients say what to do", async () => {
  const absent = await rackyard("status", "--json");
  expect([absent.exitCode, JSON.parse(absent.stdout)]).toEqual([69, { event: "absent", state }]);
  const list = await rackyard("build", "list");
  expect(list.exitCode).toBe(69);
  expect(list.stderr).toMatch(/^error: .*\(not-running\)\n {2}start one with/);
  const down = await rackyard("down", "--json");
  expect([down.exitCode, JSON.parse(down.stdout)]).toMatchObject([0, { event: "down", left: [] }]);
});

test("surface.md §§1–8 the server's way: start, push, kill, again, stop", async () => {
  const first = await startServer();
  const line = await status();
  expect(line).toMatchObject({
    event: "ready",
    gearman: null,
    apiForNodes: null,
    hosts: [],
    health: "degraded",
    tokenFile: join(state, "tokens/admin"),
    apiSocket: join(state, "run/api.sock"),
  });
  const admin = (await readFile(join(state, "tokens/admin"), "utf8")).trim();
  expect((await stat(join(state, "tokens/admin"))).mode & 0o777).toBe(0o600);

  // one state directory, one server
  const second = await rackyard("server");
  expect(second.exitCode).toBe(73);
  expect(second.stderr).toContain("(state-in-use)");

  // a layout with faults is refused whole, and the old one stays
  await mkdir(join(state, "layout"), { recursive: true });
  await writeFile(join(state, "layout/p.yaml"), "- job: { name: unit, semaphore: x }\n");
  const refused = await rackyard("reload");
  expect(refused.exitCode).toBe(78);
  expect(refused.stderr).toMatch(/p\.yaml:1:\d+/);
  await writeFile(
    join(state, "layout/p.yaml"),
    [
      "- job: { name: unit, nodeset: { nodes: [ { name: n, label: worker } ] }, run: 'true' }",
      "- project: { name: p, check: { jobs: [ unit ] } }\n",
    ].join("\n"),
  );
  expect((await rackyard("reload")).stdout).toContain("1 projects, 1 jobs");

  // the author's side
  const url = new URL(String(line["git"]));
  const made = await rackyard("token", "create", "dora", "--json");
  const { token } = JSON.parse(made.stdout) as { token: string };
  const clone = join(root, "clone");
  await mkdir(clone);
  await git(clone, "init", "--quiet", "-b", "master");
  await writeFile(join(clone, "a"), "one\n");
  await git(clone, "add", "a");
  await git(clone, "commit", "--quiet", "-m", "First");
  const remote = (user: string, secret: string): string =>
    `http://${user}:${secret}@${url.host}/git/p`;
  await git(clone, "push", remote("admin", admin), "HEAD:refs/heads/master");
  await writeFile(join(clone, "a"), "two\n");
  const changeId = `I${"0".repeat(39)}1`;
  await git(clone, "commit", "--quiet", "-am", `Second\n\nChange-Id: ${changeId}`);
  const said = await git(clone, "push", remote("dora", token), "HEAD:refs/for/master");
  expect(said).toContain("remote: change 1 patchset 1: Second");
  const wrong = await git(clone, "push", remote("dora", "ry_wrong"), "HEAD:refs/for/master");
  expect(wrong).toMatch(/Authentication failed|403|401/);

  const build = await until(
    async () => {
      const { stdout } = await rackyard("build", "list", "--json");
      return (JSON.parse(stdout) as { items: { id: string; state: string }[] }).items[0];
    },
    { timeoutMs: 20_000, what: "the build" },
  );
  const pipelines = async (): Promise<string> => {
    const { stdout } = await run("curl", ["-s", `${String(line["api"])}/v1/pipelines`]);
    return stdout;
  };
  await until(async () => (await pipelines()).includes("no host"), {
    timeoutMs: 10_000,
    what: "the reason why it waits",
  });

  // killed, it comes back at the same address with all it had
  first.kill("SIGKILL");
  await first.exited;
  await startServer();
  expect((await status())["api"]).toBe(line["api"]);
  const shown = await rackyard("build", "show", build.id.slice(0, 8), "--json");
  expect(JSON.parse(shown.stdout)).toMatchObject({ id: build.id, change: 1, result: null });
  const events = await run("curl", ["-s", `${String(line["api"])}/v1/events?after=0&wait=1s`]);
  expect(events.stdout).toContain(`"subject":"${build.id}"`);

  // case faulty-layout-at-start: the old one stays over a restart too, and status quotes the fault
  await writeFile(join(state, "layout/faulty.yaml"), "- job: { name: x, parent: nobody }\n");
  children.at(-1)!.kill("SIGTERM");
  await children.at(-1)!.exited;
  await startServer();
  expect((await status())["problems"]).toContainEqual(
    expect.stringMatching(
      /faulty\.yaml:1:27: .* no job "nobody".*the last good layout is in force/,
    ),
  );
  expect((await run("curl", ["-s", `${String(line["api"])}/v1/pipelines`])).stdout).toContain(
    "check",
  );
  await rm(join(state, "layout/faulty.yaml"));
  expect((await rackyard("reload")).exitCode).toBe(0);
  expect(String((await status())["problems"])).not.toContain("faulty.yaml");

  // cancelled by an operator: no vote
  expect((await rackyard("build", "cancel", build.id)).exitCode).toBe(0);
  await until(async () => (await rackyard("build", "show", build.id)).stdout.includes("CANCELED"), {
    timeoutMs: 20_000,
    what: "the end of the build",
  });
  const change = await rackyard("change", "show", "1", "--json");
  expect(JSON.parse(change.stdout)).toMatchObject({ number: 1, votes: [] });

  // and stopped
  const down = await rackyard("down", "--json", "--purge");
  expect([down.exitCode, JSON.parse(down.stdout)]).toMatchObject([0, { event: "down", left: [] }]);
  await expect(stat(state)).rejects.toMatchObject({ code: "ENOENT" });
}, 120_000);

test("surface.md §2 a port that is taken: 73 port-taken, and which", async () => {
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
  const { port } = holder.address() as AddressInfo;
  const taken = await rackyard("server", "--set", `server.listen=["127.0.0.1:${port}"]`);
  await new Promise((resolve) => holder.close(resolve));
  expect(taken.exitCode).toBe(73);
  expect(taken.stderr).toContain(`127.0.0.1:${port} is taken`);
});

test("surface.md §4 an open listener is refused: 78 bad-config", async () => {
  const open = await rackyard("server", "--set", 'server.listen=["0.0.0.0:0"]');
  expect([open.exitCode, open.stderr]).toEqual([78, expect.stringContaining("(bad-config)")]);
});

test("case sigterm-of-the-server: ends in seconds with a host and a stream open", async () => {
  const child = await startServer();
  const { api, apiSocket } = (await status()) as { api: string; apiSocket: string };
  // A host that was let in and says nothing, and one that does not even read.
  const upgraded = [1, 2].map(() => connect(apiSocket));
  for (const socket of upgraded) {
    socket.on("error", () => undefined);
    socket.write(
      "GET /v1/hosts/session HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toContain("101 Switching Protocols");
  }
  upgraded[1]!.pause();
  const stream = launch("curl", ["-sN", `${api}/v1/events`], { stdio: "ignore" });
  children.push(stream);
  const half = connect(Number(new URL(api).port), "127.0.0.1"); // a request that never ends
  half.on("error", () => undefined);
  half.write("POST /v1/changes HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx");
  await once(half, "connect");
  const began = performance.now();
  child.kill("SIGTERM");
  expect((await child.exited).code).toBe(0);
  expect(performance.now() - began).toBeLessThan(10_000);
  for (const socket of [...upgraded, half]) socket.destroy();
}, 60_000);

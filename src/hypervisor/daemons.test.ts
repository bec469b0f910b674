/** H-1.12, H-1.11: daemons are restarted, adopted by pid file, and never mistaken for others. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { launch } from "../base/command.ts";
import { processStart } from "../base/files.ts";
import { silentLog } from "../base/log.ts";
import { until } from "../base/wait.ts";
import { openDaemons } from "./daemons.ts";
import type { Supervision } from "./daemons.ts";
import type { DaemonSpec } from "./hypervisor-port.ts";

let directory: string;
let daemons: Supervision;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "daemons-"));
  daemons = open();
});
afterEach(async () => {
  for (const { name } of await daemons.list()) await daemons.stop(name);
  await daemons[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const open = () => openDaemons({ pids: directory, logs: directory }, silentLog);
const sleeper = (name: string, more: Partial<DaemonSpec> = {}): DaemonSpec => ({
  name,
  program: "/bin/sleep",
  args: ["600"],
  ready: async () => true,
  ...more,
});
const pidOf = async (name: string): Promise<number | undefined> =>
  (await daemons.list()).find((each) => each.name === name)?.pid;
const changed = (name: string, from: number | undefined) =>
  until(async () => (await pidOf(name)) !== from && (await pidOf(name)), {
    timeoutMs: 5_000,
    everyMs: 10,
    what: `another ${name}`,
  });

test("H-1.12 killed, it is started again within a second and told", async () => {
  const told: string[] = [];
  daemons.onRestart((name) => told.push(name));
  expect(await daemons.ensure(sleeper("one"))).toBe("started");
  expect(await daemons.ensure(sleeper("one"))).toBe("adopted");
  const pid = await pidOf("one");
  const began = performance.now();
  process.kill(pid!, "SIGKILL");
  await changed("one", pid);
  expect(performance.now() - began).toBeLessThan(2_000);
  await until(() => told.length > 0, { timeoutMs: 2_000, what: "the callback" });
  expect(told).toEqual(["one"]);
});

test("H-1.12 one that is dead, or does not serve again yet, is missing until it does", async () => {
  let serves = true;
  await daemons.ensure(sleeper("one", { ready: async () => serves }));
  await daemons.ensure(sleeper("two"));
  expect(await daemons.missing()).toEqual([]);
  serves = false;
  process.kill((await pidOf("one"))!, "SIGKILL");
  await until(async () => (await daemons.missing()).length > 0, {
    timeoutMs: 2_000,
    everyMs: 5,
    what: "its absence",
  });
  expect(await daemons.missing()).toEqual(["one"]);
  serves = true;
  await until(async () => (await daemons.missing()).length === 0, {
    timeoutMs: 5_000,
    everyMs: 5,
    what: "its return",
  });
});

test("H-1.12 one that cannot live without another is renewed with it, once", async () => {
  await daemons.ensure(sleeper("database"));
  await daemons.ensure(sleeper("switch", { with: ["database"] }));
  const [database, other] = [await pidOf("database"), await pidOf("switch")];
  process.kill(database!, "SIGKILL");
  await changed("database", database);
  const renewed = await changed("switch", other);
  expect(await processStart(other!)).toBeUndefined();
  await daemons.restart("switch");
  expect(await pidOf("switch")).not.toBe(renewed);
});

test("H-1.11 the next agent adopts it: the same process", async () => {
  await daemons.ensure(sleeper("one"));
  const pid = await pidOf("one");
  await daemons[Symbol.asyncDispose]();
  daemons = open();
  expect(await daemons.running(sleeper("one"))).toBe(true);
  expect(await daemons.ensure(sleeper("one"))).toBe("adopted");
  expect(await pidOf("one")).toBe(pid);
});

test("H-1.11 a pid file that names a stranger: neither adopted nor ended", async () => {
  const stranger = launch("/bin/sleep", ["600"], { stdio: "ignore" });
  await writeFile(join(directory, "one.pid"), `${stranger.pid} 1\n`);
  expect(await daemons.running(sleeper("one"))).toBe(false);
  expect(await daemons.ensure(sleeper("one"))).toBe("started");
  expect(await processStart(stranger.pid)).toBeDefined();
  await stranger.end();
});

test("H-1.12 a keeper's worker is shown, its change is told, and both end together", async () => {
  const pidFile = join(directory, "worker.pid");
  const loop = `while :; do sleep 600 & echo $! >${pidFile}; wait $!; done`;
  const worker = { pidFile, executable: "sleep" };
  const program = "/bin/dash";
  const ready = async () => (await readFile(pidFile, "utf8").catch(() => "")) !== "";
  const told: string[] = [];
  daemons.onRestart((name) => told.push(name));
  await daemons.ensure(sleeper("kept", { program, args: ["-c", loop], worker, ready }));
  const first = await until(() => pidOf("kept"), { timeoutMs: 2_000, what: "the worker" });
  await until(() => daemons.running(sleeper("kept", { program })), { timeoutMs: 2_000, what: "x" });
  process.kill(first, "SIGKILL");
  const second = await changed("kept", first);
  await until(() => told.includes("kept"), { timeoutMs: 2_000, what: "the callback" });
  await daemons.stop("kept");
  expect(await processStart(second)).toBeUndefined();
});

test("H-1.12 one that does not start is an error with its program, and leaves none behind", async () => {
  await expect(daemons.ensure(sleeper("none", { program: "/nowhere/x" }))).rejects.toThrow(
    /nowhere/,
  );
  const early = sleeper("early", { args: ["0.3"], ready: async () => false });
  await expect(daemons.ensure(early)).rejects.toThrow(/early/);
  expect(await daemons.list()).toEqual([]);
});

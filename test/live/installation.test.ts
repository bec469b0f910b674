/**
 * One machine's installation as people run it: `up`, a second `up`, its supervisor killed, its
 * server and agent killed, `down`. Real daemons in a cell of its own; no machine is booted.
 */
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { plainEnv, run } from "../../src/base/command.ts";
import type { CommandResult } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import { hostKeyAt, startMachineSshd } from "./machine-sshd.ts";
import type { MachineSshd } from "./machine-sshd.ts";
import { asNobody } from "../samples/as-nobody.ts";

const entry = fileURLToPath(new URL("../../src/main/rackyard.ts", import.meta.url));
const node = ["--disable-sigusr1", "--disable-warning=ExperimentalWarning", entry];
let state: string;
let sshd: MachineSshd;

beforeAll(async () => {
  sshd = await startMachineSshd();
  state = await mkdtemp(join(tmpdir(), "installation-"));
});
afterAll(async () => {
  await rackyard("down", "--purge");
  await rm(state, { recursive: true, force: true });
  await sshd[Symbol.asyncDispose]();
});

/** Two small racks; no CI node, so that no image has to be built. */
const settings = ["teHost.carve.max=1", "nodes.labels.worker={ image: debian-12, minReady: 0 }"];

function rackyard(...words: string[]): Promise<CommandResult> {
  return run(process.execPath, [...node, ...words, "--state", state], {
    env: plainEnv(),
    accept: "any",
    timeoutMs: 240_000,
  });
}
const up = (): Promise<CommandResult> =>
  rackyard("up", "--detach", "--json", ...settings.flatMap((one) => ["--set", one]));

type Line = {
  event: string;
  pid: number;
  api: string;
  readyMs: number;
  hosts: {
    testenvs: { state: string }[];
    cell: { netns: string };
    ssh: { host: string; hostKey: string };
  }[];
  processes: { name: string; pid: number }[];
  health: string;
};
const lineOf = (result: CommandResult): Line => JSON.parse(result.stdout) as Line;
const pidOf = (line: Line, name: string): number | undefined =>
  line.processes.find((one) => one.name === name)?.pid;

async function healthy(other: number | undefined, name: string): Promise<Line> {
  return until(
    async () => {
      const shown = await rackyard("status", "--json");
      const line = lineOf(shown);
      const pid = line.processes && pidOf(line, name);
      const back = shown.exitCode === 0 && line.health === "ok" && pid !== other && pid;
      return back && line;
    },
    { timeoutMs: 90_000, what: `${name} to be back` },
  );
}

/** What the machine has of accounts, and of mounts of this installation. */
async function onMachine(): Promise<string[]> {
  const accounts = ["/etc/passwd", "/etc/group", "/etc/shadow"];
  const mounts = (await readFile("/proc/self/mounts", "utf8")).split("\n");
  return [
    ...(await Promise.all(accounts.map((path) => readFile(path, "utf8")))),
    ...mounts.filter((line) => line.includes(state)),
  ];
}

test("surface.md §8 up, again, killed, taken over, down: nothing is left", async () => {
  const machine = await onMachine();
  const machineKey = await sshd.hostKey();
  const first = lineOf(await up());
  expect(first).toMatchObject({ event: "ready", health: "ok", gearman: null });
  expect(JSON.parse(await readFile(join(state, "run/ready.json"), "utf8"))).toEqual(first);
  expect(first.hosts[0]?.testenvs.map((te) => te.state)).toEqual(["ready"]);
  const names = [
    "server",
    "te-host",
    "libvirtd",
    "ovs-vswitchd",
    "ovsdb-server",
    "dnsmasq",
    "sshd",
  ];
  expect(first.processes.map(({ name }) => name)).toEqual(expect.arrayContaining(names));

  // the gate has port 22 of its own address, whatever listens on the machine's wildcard address
  const gate = first.hosts[0]!.ssh;
  expect(await hostKeyAt(gate.host)).toBe(gate.hostKey);
  expect(await sshd.hostKey()).toBe(machineKey);

  // a second one is content with the first
  const second = await up();
  expect([second.exitCode, lineOf(second).pid]).toEqual([0, first.pid]);

  // what dies is started again; what it kept lives on
  for (const name of ["server", "te-host"]) {
    const before = pidOf(first, name);
    process.kill(before!, "SIGKILL");
    const back = await healthy(before, name);
    expect(pidOf(back, "libvirtd")).toBe(pidOf(first, "libvirtd"));
    expect(back.api).toBe(first.api);
  }

  // the supervisor's death: its children live on, and the next one takes them over
  const beforeTakeover = lineOf(await rackyard("status", "--json"));
  process.kill(first.pid, "SIGKILL");
  const next = lineOf(await up());
  expect(next.pid).not.toBe(first.pid);
  for (const name of ["server", "te-host"]) {
    expect(pidOf(next, name)).toBe(pidOf(beforeTakeover, name));
  }

  const down = await rackyard("down", "--json");
  const told = JSON.parse(down.stdout) as { left: unknown[]; stopped: { name: string }[] };
  expect([down.exitCode, told.left]).toEqual([0, []]);
  const stopped = told.stopped.map(({ name }) => name);
  expect(stopped).toEqual(expect.arrayContaining(["up", "te-host", "server", "libvirtd"]));
  // what others of this machine have left is theirs
  const cell = first.hosts[0]!.cell.netns.slice("ry-".length);
  const { stdout } = await rackyard("doctor", "--leaks", "--json");
  const leaks = JSON.parse(stdout) as { left: { name: string; why: string }[] };
  const ours = leaks.left.filter(({ name, why }) => `${name} ${why}`.includes(cell));
  expect(ours).toEqual([]);
  expect((await rackyard("status", "--json")).exitCode).toBe(69);
  expect(await onMachine()).toEqual(machine);
  expect(await sshd.hostKey()).toBe(machineKey);

  // all dead already, once more, and with the state
  const again = await rackyard("down", "--json", "--purge");
  const nothing = { domains: 0, bridges: 0, processes: 0, mounts: 0 };
  expect([again.exitCode, JSON.parse(again.stdout)]).toMatchObject([
    0,
    { stopped: [], removed: nothing, left: [] },
  ]);
  await expect(stat(state)).rejects.toMatchObject({ code: "ENOENT" });
});

test("surface.md §2 up needs root: 77, with what to do", async () => {
  const told = await run("setpriv", [...asNobody, process.execPath, ...node, "up"], {
    env: plainEnv({ RACKYARD_STATE: state }),
    accept: "any",
  });
  expect([told.exitCode, told.stderr]).toEqual([77, expect.stringContaining("(not-root)")]);
});

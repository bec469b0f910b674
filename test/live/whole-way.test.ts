/**
 * One change goes all the way on real parts, by public means alone: pushed, tested on a rack of
 * its own, logs home, vote cast, rack proved clean; then nothing is left of it all.
 */
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../../src/base/command.ts";
import { processesWith } from "../../src/hypervisor/process-scan.ts";
import { until } from "../../src/base/wait.ts";
import type { BuildView } from "../../src/model/build.ts";
import { verifyCertificate } from "../../src/model/certificate.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import type { Certificate, HostView, TestenvView } from "../../src/model/testenv.ts";
import { bringExample, exampleDirectory, exampleProjects } from "./example.ts";
import { openYard } from "./yard.ts";
import type { Yard } from "./yard.ts";

let yard: Yard;
let build: BuildView;
let epochBefore: string;

beforeAll(async () => {
  yard = await openYard({ set: ["teHost.kinds.two.count=1"] });
  await bringExample(yard);
});
afterAll(() => yard[Symbol.asyncDispose]());

const lists = async <T>(...words: string[]): Promise<T[]> => {
  const value = await yard.json<T[] | { items: T[] }>(...words);
  return Array.isArray(value) ? value : value.items;
};
const fileOf = async (path: string): Promise<Response> => {
  const answer = await yard.read(`${new URL(build.logsUrl).pathname}${path}`);
  expect([path, answer.status]).toEqual([path, 200]);
  return answer;
};

test("N-1 X-3 R-2 a pushed change gets a node and a rack, boots it, and a vote of +1", async () => {
  const before = await lists<TestenvView>("te", "list");
  expect(before.map(({ state }) => state)).toEqual(["ready"]);
  epochBefore = before[0]?.epoch ?? "";
  const patch = join(exampleDirectory, "good.patch");
  const { number } = await yard.push("tinyrack-node", { patch, subject: "Say more" });
  const change = await yard.voted(number);
  expect(change.votes).toMatchObject([{ label: "Verified", value: 1 }]);
  const report = change.comments.at(-1)?.text ?? "";
  expect(report).toMatch(/^Build succeeded\.\n\n- tinyrack-deploy http\S+ : SUCCESS in /);
  [build] = (await yard.builds(number)) as [BuildView];
  expect(build).toMatchObject({ result: "SUCCESS", attempt: 1, interruptions: [] });
});

test("L-1 L-2 everything came home: console, manifest, consoles, tarballs of all machines", async () => {
  const console = await (await fileOf("console.log")).text();
  expect(console).toContain("all 2 machines are up");
  const manifest = (await (await fileOf("manifest.json")).json()) as {
    repositories: { project: string; ref: string | null }[];
  };
  expect(manifest.repositories.map(({ project }) => project).toSorted()).toEqual(
    exampleProjects.toSorted(),
  );
  expect(manifest.repositories.filter(({ ref }) => ref !== null)).toMatchObject([
    { project: "tinyrack-node" },
  ]);
  expect(await (await fileOf("zuul.json")).json()).toMatchObject({ build: build.id });
  const machines = ["te1-seed", "te1-n0", "te1-n1"];
  for (const name of machines) {
    expect(await (await fileOf(`rack/console-${name}.log`)).text()).toContain("@rackyard up");
  }
  const folder = await mkdtemp(join(tmpdir(), "whole-way-"));
  for (const name of machines) {
    const path = join(folder, name);
    const bytes = await (await fileOf(`logs/machines/${name}.tar.gz`)).arrayBuffer();
    await writeFile(path, Buffer.from(bytes));
    const { stdout } = await run("tar", ["-tzf", path]);
    expect(stdout).toContain("etc/");
    expect(stdout).not.toMatch(/shadow|host_key$/m);
  }
  await rm(folder, { recursive: true });
  expect(await (await fileOf("rack/timeline.jsonl")).text()).toContain('"mark":"up"');
  expect(await (await fileOf("")).text()).toContain("rack/console-te1-n0.log");
});

test("L5 H-8.2 the rack is ready again under its signed certificate; node and machines are gone", async () => {
  const te = await until(
    async () => {
      const [only] = await lists<TestenvView>("te", "list");
      return only?.state === "ready" && only;
    },
    { timeoutMs: 30_000, what: "the rack to be ready" },
  );
  expect(te).toMatchObject({ lease: null, epoch: build.epoch });
  expect(BigInt(te.epoch)).toBeGreaterThan(BigInt(epochBefore));
  const lease = await yard.json<LeaseView>("lease", "show", build.lease ?? "");
  expect(lease).toMatchObject({ state: "ended", reason: "released" });
  const certificate = (await (await fileOf("rack/certificate.json")).json()) as Certificate;
  const [host] = await lists<HostView>("host", "list");
  expect(verifyCertificate(certificate, host?.certificateKey ?? "")).toBe(true);
  expect(certificate).toMatchObject({ te: 1, lease: build.lease, reason: "released" });
  await until(async () => !(await lists<{ id: string }>("node", "list")).some(isOurs), {
    timeoutMs: 30_000,
    what: "the build's node to be gone",
  });
  expect(te.machineList.map(({ power }) => power)).toEqual(["off", "off", "off"]);
  const netns = (await yard.status()).hosts[0]?.cell.netns ?? "none";
  const inCell = (await run("ip", ["netns", "pids", netns])).stdout.split("\n").map(Number);
  const racks = processesWith(/^qemu-system/, "guest=").filter((pid) => inCell.includes(pid));
  const names = await Promise.all(racks.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8")));
  expect(names.filter((line) => /guest=(?:seed_|baremetal)/.test(line))).toEqual([]);
});
const isOurs = ({ id }: { id: string }): boolean => id === build.node;

test("H-1.3 on the idle host a pass plans nothing, and the installation is well", async () => {
  const planned = await yard.json<{ actions?: unknown[] } | unknown[]>("te-host", "plan");
  expect(Array.isArray(planned) ? planned : planned.actions).toEqual([]);
  expect((await yard.status()).health).toBe("ok");
});

test("must-hold 11: after down nothing is left of it, and with --purge no state", async () => {
  const [host] = (await yard.status()).hosts;
  const down = await yard.json<{ left: unknown[] }>("down", "--purge");
  expect(down.left).toEqual([]);
  expect(existsSync(yard.state)).toBe(false);
  const id = (host?.cell.netns ?? "ry-none").slice("ry-".length);
  const links = (await run("ip", ["-o", "link"])).stdout;
  expect(links).not.toContain(id);
  const groups = await readdir("/sys/fs/cgroup", { recursive: true }).catch(() => []);
  expect(groups.filter((name) => name.includes(id))).toEqual([]);
  expect((await yard.leaks()).filter((leak) => leak.includes(id))).toEqual([]);
  const names = (await run("ip", ["netns", "list"])).stdout;
  expect(names).not.toContain(host?.cell.netns ?? "none");
  const routes = (await run("ip", ["-4", "route"])).stdout;
  expect(routes).not.toContain(host?.testNetwork.cidr.replace(/0\/24$/, "") ?? "none");
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  expect(mounts).not.toContain(yard.state);
});

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { openImageStore } from "../../image/content-store.ts";
import { kindSchema } from "../../model/machine.ts";
import { simHypervisor } from "../../sim/hypervisor.ts";
import { newTestenv } from "../testenv-state.ts";
import type { Terms, Testenv } from "../testenv-state.ts";
import { partsOf } from "../parts.ts";
import { openPower } from "../power.ts";
import { makeRecordFolder, openRecorder } from "../recorder/recorder.ts";
import type { GateRequest } from "./rack-sockets.ts";
import type { GateAnswer } from "./verb-codec.ts";
import { openVerbs } from "./verbs.ts";

const lease = "00000000-0000-4000-8000-000000000001";
const terms = { lease, epoch: 7, holderAddresses: [] } as unknown as Terms;
const leased: Testenv = {
  ...newTestenv(1, "two"),
  epoch: 7,
  phase: { state: "leased", terms, deadline: { bootId: "b", monoMs: 1, at: "" } },
};
const ground = {
  hostId: "11111111-2222-4333-8444-555555555555",
  macKey: "key",
  disksFolder: "/d",
  consolesFolder: "/c",
  socketsFolder: "/s",
  mtu: 1500,
  testBridge: "br-ctlplane",
  seedIp: () => "10.99.0.11",
};
const kind = kindSchema.parse({ machines: { count: 2, running: 1 } });
const parts = partsOf(ground, 1, "two", kind);

const grant = { lease, testenv: 1, epoch: 7 };
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-verbs-"));
});
afterEach(() => rm(directory, { recursive: true }));

async function openBench(te: Testenv = leased) {
  const hypervisor = simHypervisor();
  for (const { spec } of parts.all) await hypervisor.domains.define(spec);
  const recorder = await openRecorder(join(directory, "recorder"), systemClock);
  await makeRecordFolder(recorder, grant);
  const record = recorder.open(grant);
  const posted: unknown[] = [];
  const told: string[] = [];
  const answer = openVerbs({
    power: openPower(hypervisor.domains, async () => 8_000),
    domains: hypervisor.domains,
    disks: hypervisor.disks,
    images: await openImageStore(join(directory, "images")),
    maxVirtualGiB: 100,
    registry: {
      find: (number) => (number === 1 ? { te, parts } : undefined),
      post: async (_, event) => void posted.push(event),
      watched: () => ({ te, parts, record }),
    },
    told: (_, command, said) => void told.push(`${command}: ${said.exitCode}`),
    monoMs: () => systemClock.monoMs(),
  });
  const ask = (command: string, change: Partial<GateRequest> = {}): Promise<GateAnswer> =>
    answer({
      number: 1,
      lease,
      epoch: 7,
      command,
      from: "10.99.0.180",
      again: false,
      stdin: () => Readable.from([]),
      bytesRead: () => 0,
      signal: new AbortController().signal,
      ...change,
    });
  const lines = async (): Promise<{ kind: string }[]> => {
    const text = await readFile(join(recorder.folder(grant), "timeline.jsonl"), "utf8");
    return text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { kind: string });
  };
  return { hypervisor, ask, posted, told, lines };
}

test("L3 an act of another lease or epoch is refused, and moves nothing", async () => {
  const { hypervisor, ask } = await openBench();
  for (const change of [
    { epoch: 6 },
    { epoch: 8 },
    { lease: "00000000-0000-4000-8000-000000000002" },
    { number: 2 },
  ]) {
    expect(await ask("virsh start seed_1", change)).toMatchObject({ exitCode: 1 });
  }
  const powers = [...hypervisor.world.domains.values()].map(({ power }) => power);
  expect(new Set(powers)).toEqual(new Set(["off"]));
});

test("L3 L4 once the lease is over nothing is carried out", async () => {
  const resetting: Testenv = {
    ...leased,
    phase: { state: "resetting", terms, reason: "released", attempt: 1, endedAt: null },
  };
  const { ask } = await openBench(resetting);
  expect((await ask("virsh list")).stderr).toBe("error: the lease is over\n");
});

test("H-6.6 H-6.9 verbs act, answer in virsh's words, and stand in the time line", async () => {
  const { ask, told, lines } = await openBench();
  expect((await ask("virsh start seed_1")).stdout).toBe("Domain seed_1 started\n\n");
  expect((await ask("virsh start seed_1")).exitCode).toBe(1);
  // its first agent died over it: what it did then is no error now
  expect((await ask("virsh start seed_1", { again: true })).exitCode).toBe(0);
  expect((await ask("virsh list")).stdout).toContain("seed_1");
  expect((await ask("rm -rf /")).stderr).toBe("Unknown command\n");
  expect((await ask("virsh start seed_2")).stderr).toContain("failed to get domain");
  expect(told).toHaveLength(6);
  const recorded = await lines();
  expect(recorded.map((line) => line.kind)).toEqual(Array(6).fill("verb"));
  expect(recorded[4]).toMatchObject({ command: "rm -rf /", exitCode: 1, from: "10.99.0.180" });
});

test("H-1.8 a machine beyond the kind's `running` stays off, and the answer says why", async () => {
  const { ask } = await openBench();
  await ask("virsh start seed_1");
  expect((await ask("virsh start baremetalbrbm1_0")).exitCode).toBe(0);
  const refused = await ask("virsh start baremetalbrbm1_1");
  expect(refused).toMatchObject({ exitCode: 1 });
  expect(refused.stderr).toContain("at most 1 may be");
});

test("H-7.4 H-7.6 copyseed makes the image the base of a fresh overlay, recorded first", async () => {
  const { hypervisor, ask, posted } = await openBench();
  const bytes = Buffer.alloc(1024 * 1024, 7);
  const done = await ask("copyseed 1", { stdin: () => Readable.from([bytes]) });
  expect(done).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("raw 1048576 bytes") });
  const digest = done.stdout.split(" ")[0]!;
  expect(posted).toEqual([{ kind: "seed-image", epoch: 7, digest }]);
  const base = hypervisor.world.disks.get(parts.seed.disk.path)?.base;
  expect(base).toContain(digest.slice("sha256:".length));
});

test("H-6.7 H-7.4 copyseed: one at a time, never under a running seed, cut with its lease", async () => {
  const { hypervisor, ask } = await openBench();
  const stop = new AbortController();
  const open = new Readable({ read: () => undefined });
  const first = ask("copyseed 1", { stdin: () => open, signal: stop.signal });
  open.push(Buffer.alloc(1000));
  expect((await ask("copyseed 1")).stderr).toContain("another copyseed");
  stop.abort(new Error("the lease is over"));
  open.push(Buffer.alloc(1000));
  open.push(null);
  expect((await first).exitCode).toBe(1);
  expect(hypervisor.world.disks.size).toBe(0);
  await ask("virsh start seed_1");
  expect((await ask("copyseed 1")).stderr).toContain("seed_1 is running");
});

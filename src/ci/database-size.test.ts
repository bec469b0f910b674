import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { sha256Hex } from "../base/ids.ts";
import type { PreparedRepo } from "../model/job.ts";
import { openSqliteStore } from "../store/store.ts";
import type { Store } from "../store/store.ts";
import { stepBuild } from "./builds/build-life.ts";
import type { BuildEvent } from "./builds/build-life.ts";
import { buildLife } from "./builds/record.ts";
import type { Build } from "./builds/record.ts";
import { sampleBuild, sampleFacts, sampleNode } from "./builds/samples.test.ts";
import { buildsetLife } from "./buildset.ts";
import type { Item } from "./pipeline/item.ts";

let directory: string;
let store: Store;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "rackyard-size-"));
  store = await openSqliteStore(join(directory, "test.db"));
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

/** All repositories as frozen for the n-th change; each change moved one branch of one before. */
function frozen(repos: number, branches: number, n: number): PreparedRepo[] {
  return Array.from({ length: repos }, (_one, r) => {
    const moved = n - ((n - r) % repos);
    const names = Array.from({ length: branches }, (_b, b) => `stable/20${b}`);
    const commitOf = (b: number): string =>
      sha256Hex(`${r} ${b} ${b === 0 ? Math.max(moved, 0) : ""}`).slice(0, 40);
    return {
      project: `openstack/project-${r}`,
      branch: "stable/200",
      commit: commitOf(0),
      zuulRef: null,
      baseCommit: commitOf(0),
      defaultBranch: "stable/200",
      branches: Object.fromEntries(names.map((name, b) => [name, commitOf(b)])),
      why: "branch stable/200 as the change's own branch",
    };
  });
}

const job = { run: ["echo deploy\n".repeat(100)], preRun: ["sudo apt-get install -y x\n"] };
const mark = (step: string, machine: string): BuildEvent => ({
  kind: "noted",
  mark: { step, machine, atMs: 1_700_000_000_000, detail: "DHCP acknowledgement of 10.50.0.21" },
});
const done = { kind: "stepped", outcome: { kind: "done" } } as const;
/** A build with a rack of two machines, as the time line of the demo has it. */
const story: readonly BuildEvent[] = [
  { kind: "asked", lease: "6a1f7c1e-1111-4222-8333-444455556666" },
  {
    kind: "acquired",
    node: { ...sampleNode("6a1f7c1e-1111-4222-8333-444455556667"), hostKey: "k".repeat(80) },
    nodeReadyMs: 1_700_000_000_000,
    rack: { te: "here:1", epoch: "8", host: "here" },
  },
  done,
  mark("seed-up", "seed"),
  mark("machine-up", "te1-n0"),
  mark("machine-up", "te1-n1"),
  done,
  done,
  { kind: "released", interruptions: [], nodeLost: null },
  { kind: "reported", evidence: [{ file: "console.log", line: 118, text: "e", rule: "panic" }] },
  mark("voted", ""),
  mark("reset", ""),
  mark("node-deleted", ""),
];

async function put(build: Build, from: string | null, event: string): Promise<void> {
  const { state: to, record: body } = build;
  const step = { id: body.facts.id, from, event, to, body, atMs: 1 };
  await store.transaction((tx) => store.append(tx, buildLife, step));
}

async function runBuild(n: number, repos: readonly PreparedRepo[]): Promise<Build> {
  const id = sha256Hex(`build ${n}`).slice(0, 36);
  const merged = { zuulRef: `refs/zuul/stable/200/Z${id}`, zuulCommit: sha256Hex(id), repos };
  const facts = { ...sampleFacts(id, job), buildset: `item-${n}`, ...merged };
  let build = sampleBuild(facts);
  const item: Item = {
    id: `item-${n}`,
    pipeline: "check",
    changes: [{ ...facts.changes[0]!, connection: "local", commit: sha256Hex(`c${n}`) }],
    ahead: [],
    stage: "running",
    pushedMs: 1,
    enqueuedMs: 1,
    buildset: {
      id: `item-${n}`,
      mergedMs: 1,
      merged,
      jobs: [{ job: facts.job, current: { build: id, attempt: 1 }, ended: [], final: null }],
    },
    outcome: null,
    detail: [],
    endedMs: null,
  };
  await putItem({ ...item, buildset: { ...item.buildset, merged: null, jobs: [] } }, "enqueued");
  await putItem(item, "prepared");
  await put(build, null, "created");
  for (const event of story) {
    const before = build.state;
    build = stepBuild(build, event, 1_700_000_000_000).build;
    await put(build, before, event.kind);
  }
  await putItem({ ...item, outcome: "SUCCESS", endedMs: 5 }, "build-ended");
  await putItem({ ...item, stage: "done", outcome: "SUCCESS", endedMs: 5 }, "reported");
  return build;
}

async function putItem(body: Item, event: string): Promise<void> {
  const step = { id: body.id, from: "running", event, to: body.stage, body, atMs: 1 };
  await store.transaction((tx) => store.append(tx, buildsetLife, step));
}

function databaseBytes(): number {
  const looking = new DatabaseSync(join(directory, "test.db"), { readOnly: true });
  const row = looking
    .prepare(
      `select (c.page_count - f.freelist_count) * s.page_size as bytes
      from pragma_page_count() c, pragma_freelist_count() f, pragma_page_size() s`,
    )
    .get() as { bytes: number };
  looking.close();
  return row.bytes;
}

for (const [repos, branches] of [
  [1, 3],
  [10, 60],
  [300, 20],
] as const) {
  test(`a build takes at most 20 KiB of database with ${repos} repositories of ${branches} branches`, async () => {
    const [warm, counted] = [5, 25];
    let last: Build | undefined;
    for (let n = 0; n < warm; n++) await runBuild(n, frozen(repos, branches, n));
    const before = databaseBytes();
    for (let n = warm; n < warm + counted; n++)
      last = await runBuild(n, frozen(repos, branches, n));
    const perBuild = (databaseBytes() - before) / counted;
    expect(perBuild).toBeLessThan(20 * 1_024);
    // What was kept once comes back whole, and rows can still be made from events.
    const row = await store.row(buildLife, last!.record.facts.id);
    expect(row!.body).toEqual(JSON.parse(JSON.stringify(last!.record)));
    const rows = await store.rows(buildLife, { limit: 100 });
    expect(await store.rebuild(buildLife)).toBe(warm + counted);
    expect(await store.rows(buildLife, { limit: 100 })).toEqual(rows);
  });
}

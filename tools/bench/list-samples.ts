/**
 * A database as some years of work leave it: builds, their leases, changes with comments. Through
 * the store's own calls, many rows a transaction.
 */
import { systemRandom } from "../../src/base/random.ts";
import { buildLife, newBuild } from "../../src/ci/builds/record.ts";
import type { BuildRecord } from "../../src/ci/builds/record.ts";
import type { BuildFacts } from "../../src/ci/builds/build-ports.ts";
import { leaseLife } from "../../src/lease/broker/records.ts";
import type { LeaseRecord } from "../../src/lease/ledger/ledger-state.ts";
import { leaseRequestSchema } from "../../src/model/lease.ts";
import { changeLife, changeLifeId } from "../../src/review/builtin/change.ts";
import type { Change } from "../../src/review/builtin/change.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import type { Store, Tx } from "../../src/store/store.ts";

const A_TRANSACTION = 1_000;
const beganMs = Date.parse("2025-06-01T00:00:00Z");
const commit = (n: number): string => n.toString(16).padStart(40, "c");

export async function sampleLists(path: string, count: number): Promise<void> {
  await using store = await openSqliteStore(path);
  for (let from = 0; from < count; from += A_TRANSACTION) {
    await store.transaction(async (tx) => {
      for (let n = from; n < Math.min(count, from + A_TRANSACTION); n++) {
        if (n % 10 === 0) await putChange(store, tx, n / 10 + 1);
        await putBuild(store, tx, n);
        await putLease(store, tx, n);
      }
    });
  }
}

function factsOf(id: string, n: number): BuildFacts {
  const change = Math.floor(n / 10) + 1;
  const project = `project-${n % 10}`;
  const at = { project, branch: "main", change, patchset: 1 };
  const logs = `${change % 100}/${change}/1`;
  return {
    id,
    buildset: `item-${change}`,
    tenant: "default",
    pipeline: n % 4 === 0 ? "gate" : "check",
    project,
    branch: "main",
    changes: [{ ...at, ref: `refs/changes/${logs}`, url: "http://x/changes/1", subject: "s" }],
    zuulRef: `refs/zuul/main/Z${id}`,
    zuulCommit: commit(n),
    repos: Array.from({ length: 3 }, (_one, r) => ({
      project: `project-${r}`,
      branch: "main",
      commit: commit(n),
      zuulRef: null,
      baseCommit: commit(n),
      defaultBranch: "main",
      branches: { main: commit(n), stable: commit(r) },
    })),
    job: {
      name: `deploy-${n % 20}`,
      definedAt: "jobs.yaml:1",
      voting: true,
      attempts: 3,
      timeoutSeconds: 1_800,
      postTimeoutSeconds: 300,
      node: { name: "node", label: "worker" },
      testenv: null,
      requiredProjects: [project],
      vars: {},
      runIn: project,
      preRun: [],
      run: ["./deploy --all\n".repeat(40)],
      postRun: [],
      cleanupRun: [],
    },
    attempt: 1,
    baseLogPath: logs,
    logsPath: `${logs}/check/deploy/${id.slice(0, 7)}`,
    logsUrl: "http://x/logs",
    buildUrl: "http://x/build",
  };
}

async function putBuild(store: Store, tx: Tx, n: number): Promise<void> {
  const id = systemRandom.uuid4();
  const atMs = beganMs + n * 60_000;
  const marks = Array.from({ length: 10 }, (_one, m) => ({ step: `step-${m}`, atMs: atMs + m }));
  const place = { precedence: 200, enqueuedMs: atMs, index: 0 };
  const given = { place, avoid: { hosts: [], testenvs: [] }, createdMs: atMs, pushedMs: atMs };
  const made = newBuild(factsOf(id, n), { ...given, marks });
  const body: BuildRecord = {
    ...made.record,
    node: {
      id,
      label: "worker",
      provider: "here",
      address: "10.99.0.180",
      hostKey: `ssh-ed25519 ${"A".repeat(60)}`,
      image: "sha256:1",
    },
    result: n % 1_000 === 0 ? "TE_LOST" : n % 7 === 0 ? "FAILURE" : "SUCCESS",
    evidence: [{ file: "console.log", line: 118, text: "Kernel panic", rule: "panic" }],
    startedMs: atMs,
    endedMs: atMs + 60_000,
  };
  const step = { id, from: "archiving", event: "reported", to: "reported", body, atMs };
  await store.append(tx, buildLife, step);
}

async function putLease(store: Store, tx: Tx, n: number): Promise<void> {
  const id = systemRandom.uuid4();
  const atMs = beganMs + n * 60_000;
  const body: LeaseRecord = {
    id,
    order: n,
    tenant: "default",
    caller: "admin",
    group: `project-${n % 10}`,
    request: leaseRequestSchema.parse({
      machines: { count: 2 },
      durationSeconds: 600,
      holder: { name: `build-${n % 500}` },
    }),
    durationMs: 600_000,
    createdAtMs: atMs,
    takeable: true,
    addresses: [],
    requeued: false,
    shunned: [],
    avoidSinceMs: atMs,
    state: {
      kind: "ended",
      reason: "released",
      grant: { te: `here:${n % 20}`, epoch: n, kind: "two", host: "here" },
      preparedAtMs: atMs,
      expiresAt: new Date(atMs).toISOString(),
      endedAt: new Date(atMs).toISOString(),
    },
    interruptions: [],
    certified: true,
  };
  const step = { id, from: "ending", event: "fenced", to: "ended", body, atMs };
  await store.append(tx, leaseLife, step);
}

async function putChange(store: Store, tx: Tx, number: number): Promise<void> {
  const atMs = beganMs + number * 600_000;
  const patchset = {
    number: 1,
    commit: commit(number),
    parents: [commit(number - 1)],
    subject: "Start the hardware agent before reporting",
    uploader: "dora",
    createdAt: new Date(atMs).toISOString(),
  };
  const project = `project-${number % 10}`;
  const body: Change = {
    number,
    project,
    branch: "main",
    changeId: `I${commit(number)}`,
    status: number % 5 === 0 ? "NEW" : "MERGED",
    owner: number % 3 === 0 ? "dora" : "ann",
    patchsets: [patchset],
    votes: [{ label: "Verified", value: 1, by: "rackyard" }],
    mergedAs: null,
  };
  const step = { from: null, event: "create", to: body.status, body, atMs };
  await store.append(tx, changeLife, { id: changeLifeId(number), ...step });
  const name = `review/commit ${project} main ${commit(number)}`;
  await store.setFact(tx, name, `${number}/1`, atMs);
}

/**
 * A scheduler with a world around it: the real store, layout, pipelines and saga; ports that can
 * be held (ci-ports.ts). Review system and merger are handed in: the real ones on real git, or
 * small ones in memory. It can be killed at any transaction and started again on the same state.
 */
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openTroubles } from "../../src/base/troubles.ts";
import { openScope } from "../../src/base/scope.ts";
import type { Scope } from "../../src/base/scope.ts";
import { builtinVotes, checkLayout } from "../../src/ci/layout/layout.ts";
import type { RackPort } from "../../src/ci/builds/rack-port.ts";
import type { Layout } from "../../src/ci/layout/layout.ts";
import type { Merger } from "../../src/ci/merger/merger.ts";
import { openScheduler } from "../../src/ci/scheduler.ts";
import type { Scheduler } from "../../src/ci/scheduler.ts";
import { fail } from "../../src/base/errors.ts";
import type { ReviewEvent } from "../../src/model/change.ts";
import { changeRef } from "../../src/model/change.ts";
import type { ReviewChange, ReviewPort, ReviewReport } from "../../src/review/review-port.ts";
import type { Store } from "../../src/store/store.ts";
import type { Faults } from "./ci-ports.ts";
import { openArchiveStage, openExecutorStage, openNodes, openRacks } from "./ci-ports.ts";

export const checkPipeline = `
- pipeline:
    name: check
    manager: independent
    trigger:
      local:
        - event: [ patchset-created, change-restored ]
        - { event: comment-added, comment: '(?i)^\\s*recheck' }
    start: { local: {} }
    success: { local: { Verified: 1 } }
    failure: { local: { Verified: -1 } }
- nodeset: { name: one, nodes: [ { name: node, label: worker } ] }
`;

export function layoutOf(text: string): Layout {
  const { layout, faults } = checkLayout([{ file: "layout.yaml", text }], {
    labels: ["worker"],
    connections: ["local"],
    votes: builtinVotes,
    longestLeaseSeconds: 14_400,
  });
  if (faults.length > 0) fail("bad-layout", JSON.stringify(faults, null, 1));
  return layout;
}

export type Kill = { readonly at: number; readonly when: "before" | "after" };

/** Ports and what happened; the server in it may come and go. */
export function openWorld(given: {
  readonly store: Store;
  readonly review: ReviewPort;
  readonly merger: Pick<Merger, "prepare" | "sweep">;
  readonly racks?: readonly string[];
  /** Instead of the racks in memory. */
  readonly rackPort?: RackPort;
  readonly maxNodes?: number;
  /** Ports whose calls may be made to fail. */
  readonly faults?: Faults;
}) {
  const nodes = openNodes({ max: given.maxNodes ?? 10 });
  const racks = openRacks(given.racks ?? ["here:1"]);
  const executor = openExecutorStage();
  const archive = openArchiveStage();
  const happened: string[] = [];
  const crashes: unknown[] = [];
  let scope: Scope | undefined;
  const troubles = openTroubles({ log: silentLog, wallMs: () => Date.now() });
  let transactions = 0;
  let skippedMs = 0;
  let endsKept = true;

  /** Opens a server on the state; with `kill`, it dies at its nth transaction. */
  async function start(layout: Layout, kill?: Kill): Promise<Scheduler | undefined> {
    const own = openScope((name, error) => crashes.push(`${name}: ${String(error)}`));
    scope = own;
    transactions = 0;
    let dead = false;
    const die = (): never => {
      dead = true;
      void own.close();
      throw new Error("killed");
    };
    const store: Store = {
      ...given.store,
      async transaction(work) {
        if (dead || own.closed) throw new Error("killed");
        const number = ++transactions;
        if (kill?.at === number && kill.when === "before") die();
        const result = await given.store.transaction(work);
        if (kill?.at === number && kill.when === "after") die();
        return result;
      },
    };
    nodes.forget();
    try {
      return await openScheduler({
        store,
        clock: { ...systemClock, monoMs: () => systemClock.monoMs() + skippedMs },
        random: systemRandom,
        log: silentLog,
        scope: own,
        ...portsOf(),
        fenceMs: 300,
        troubles,
        ends: {
          lease: (id) => Promise.resolve(endsKept ? racks.ends(id) : []),
          node: (id) => Promise.resolve(endsKept ? nodes.ends(id) : []),
        },
        layout,
        urls: { build: (id) => `http://x/builds/${id}`, logs: (path) => `http://x/logs/${path}` },
        ensureProject: () => Promise.resolve(),
        onEvent: (topic, _subject, event, body) => {
          const of = body as { job?: string; pipeline?: string; result?: string | null };
          happened.push(`${topic} ${of.job ?? of.pipeline ?? ""} ${event}`);
        },
      });
    } catch (error) {
      if (dead) return undefined;
      throw error;
    }
  }

  function portsOf() {
    const wrap: Faults["wrap"] = given.faults?.wrap ?? ((_name, port) => ({ ...port }));
    const review = wrap("review", given.review, ["change", "report", "eventsSince"]);
    return {
      reviews: new Map([[review.connection, review]]),
      merger: wrap("merger", given.merger, ["prepare"]),
      nodePool: wrap("nodePool", nodes.pool, ["assign", "release", "lost", "reconcile"]),
      executor: wrap("executor", executor.executor, ["prepare", "run", "collect"]),
      archive: wrap("archive", archive.archive, ["begin", "finish"]),
      racks: wrap("racks", given.rackPort ?? racks.port, [
        "ask",
        "offer",
        "watch",
        "data",
        "release",
        "look",
      ]),
    };
  }

  return {
    troubles,
    /** Whether leases and nodes have recorded their ends yet. */
    keepEnds(kept: boolean): void {
      endsKept = kept;
    },
    /** The monotonic clock jumps; timers go on as they were set. */
    skip(ms: number): void {
      skippedMs += ms;
      nodes.poke();
    },
    nodes,
    racks,
    executor,
    archive,
    happened,
    crashes,
    start,
    transactions: () => transactions,
    isDead: () => scope?.closed ?? true,
    async stop(): Promise<void> {
      await scope?.close();
    },
  };
}

export type World = ReturnType<typeof openWorld>;

/** A review system in memory: changes, durable events, reports once by their key. */
export function openSmallReview() {
  const changes = new Map<number, ReviewChange>();
  const events: ReviewEvent[] = [];
  const reports: ReviewReport[] = [];
  const listeners = new Set<() => void>();
  const commit = (number: number, patchset: number): string =>
    `${number}${patchset}`.padStart(40, "0");
  const port: ReviewPort = {
    connection: "local",
    change: (number) =>
      Promise.resolve(changes.get(number) ?? fail("not-found", `no change ${number}`)),
    eventsSince: (seq, limit) =>
      Promise.resolve(events.filter((event) => event.seq > seq).slice(0, limit)),
    onNews(ring) {
      listeners.add(ring);
      return () => void listeners.delete(ring);
    },
    report(report) {
      const applied = !reports.some((one) => one.idempotencyKey === report.idempotencyKey);
      if (applied) reports.push(report);
      return Promise.resolve({ applied, labelsDropped: [] });
    },
    labels: () => new Map([["Verified", { least: -2, most: 2 }]]),
    neededBy: () => Promise.resolve([]),
    canMerge: () => Promise.resolve({ can: false, why: "there is no branch" }),
    submit: () => Promise.resolve({ kind: "refused", why: "there is no branch" }),
    source: () => "nowhere",
  };
  type Tell = { [T in ReviewEvent["type"]]: Omit<Extract<ReviewEvent, { type: T }>, FactKey> };
  type FactKey = "seq" | "at" | "connection" | "project" | "branch" | "change" | "patchset" | "by";
  const tell = (change: ReviewChange, what: Tell[ReviewEvent["type"]]): void => {
    const facts = {
      seq: events.length + 1,
      at: new Date().toISOString(),
      connection: "local",
      project: change.project,
      branch: change.branch,
      change: change.number,
      patchset: change.patchset,
      by: "dora",
    };
    events.push({ ...facts, ...what });
    for (const ring of listeners) ring();
  };
  return {
    port,
    reports,
    changes,
    push(number: number, project = "app", needs: ReviewChange["needs"] = []): void {
      const patchset = (changes.get(number)?.patchset ?? 0) + 1;
      const change: ReviewChange = {
        project,
        branch: "master",
        number,
        changeId: `I${String(number).padStart(40, "0")}`,
        status: "NEW",
        owner: "dora",
        subject: `change ${number}`,
        url: `http://x/changes/${number}`,
        patchset,
        patchsets: Array.from({ length: patchset }, (_, index) => ({
          number: index + 1,
          commit: commit(number, index + 1),
          ref: changeRef(number, index + 1),
          subject: `change ${number}`,
          parents: [],
        })),
        needs,
      };
      changes.set(number, change);
      tell(change, { type: "patchset-created" });
    },
    comment(number: number, comment: string): void {
      tell(changes.get(number)!, { type: "comment-added", comment });
    },
    abandon(number: number): void {
      const change: ReviewChange = { ...changes.get(number)!, status: "ABANDONED" };
      changes.set(number, change);
      tell(change, { type: "change-abandoned" });
    },
    stages: (): string[] => reports.map((one) => one.idempotencyKey.split("/").at(-1)!),
  };
}

/** Merges everything at once, without git. */
export const smallMerger: Pick<Merger, "prepare" | "sweep"> = {
  prepare: (request) =>
    Promise.resolve({
      kind: "merged",
      repos: [],
      zuulRef: `refs/zuul/master/Z${request.buildset.replaceAll("-", "")}`,
      zuulCommit: "c".repeat(40),
      files: { files: [], more: false },
    }),
  sweep: () => Promise.resolve({ forgotten: 0 }),
};

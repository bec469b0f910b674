/**
 * `/metrics` (Prometheus): how many of what are in which state, made when it is asked for, and
 * counters and histograms of what happened since the start. What happens is seen in the store,
 * where every step of every life passes, once it is committed.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { limits } from "../../base/limits.ts";
import { buildLife } from "../../ci/builds/record.ts";
import type { BuildRecord } from "../../ci/builds/record.ts";
import { nodeLife } from "../../ci/nodepool/record.ts";
import type { NodeBody } from "../../ci/nodepool/record.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import { certificateLife, leaseLife } from "../../lease/broker/records.ts";
import type { CertificateRecord } from "../../lease/broker/records.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import type { LeaseRecord } from "../../lease/ledger/ledger-state.ts";
import { leaseStates } from "../../model/lease.ts";
import { nodeStates } from "../../model/node.ts";
import { hostStates, testenvStates } from "../../model/testenv.ts";
import type { LifeStep, Store, Tx } from "../../store/store.ts";
import { version } from "../version.ts";
import type { Late } from "./late.ts";

export type Metrics = {
  /** The store to hand to others: what is committed through it is counted. */
  readonly store: Store;
  text(parts: { readonly broker: Broker; readonly scheduler: Late<Scheduler> }): Promise<string>;
};

/** From a second to a day: waits and builds. */
const longBuckets = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 21_600, 86_400];
const shortBuckets = [0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300];

export function openMetrics(inner: Store): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const observe = openObserver(registry);
  const gauges = openGauges(registry);
  const pending = new WeakMap<Tx, (() => void)[]>();
  const store: Store = {
    ...inner,
    async transaction(work) {
      const committed: (() => void)[] = [];
      const value = await inner.transaction((tx) => {
        pending.set(tx, committed);
        return work(tx);
      });
      for (const count of committed) count();
      return value;
    },
    async append(tx, kind, step) {
      const seq = await inner.append(tx, kind, step);
      pending.get(tx)?.push(() => observe(kind.life, step));
      return seq;
    },
  };
  return {
    store,
    async text(parts) {
      await fill(gauges, inner, parts);
      return registry.metrics();
    },
  };
}

/** What a committed step of a life adds. */
function openObserver(registry: Registry): (life: string, step: LifeStep<object>) => void {
  const registers = [registry];
  const histogram = <L extends string>(name: string, help: string, labelNames: L[], long = true) =>
    new Histogram<L>({
      name,
      help,
      labelNames,
      registers,
      buckets: long ? longBuckets : shortBuckets,
    });
  const of = {
    builds: new Counter({
      name: "rackyard_builds_total",
      help: "Builds that ended.",
      labelNames: ["pipeline", "job", "result"],
      registers,
    }),
    buildSeconds: histogram(
      "rackyard_build_duration_seconds",
      "From a build's node and rack to its end.",
      ["pipeline", "job", "result"],
    ),
    buildWait: histogram(
      "rackyard_build_wait_seconds",
      "From a build's making to its node and rack.",
      ["pipeline"],
    ),
    vote: histogram("rackyard_push_to_vote_seconds", "From the push to the vote, each build.", [
      "pipeline",
    ]),
    leases: new Counter({
      name: "rackyard_leases_ended_total",
      help: "Leases that ended, by the reason.",
      labelNames: ["reason"],
      registers,
    }),
    leaseWait: histogram("rackyard_lease_wait_seconds", "From asking to having the rack.", []),
    reset: histogram("rackyard_reset_seconds", "Resets of racks that were proved.", [], false),
    boot: histogram("rackyard_node_boot_seconds", "From a node's making to its ssh.", ["label"]),
    nodesFailed: new Counter({
      name: "rackyard_nodes_failed_total",
      help: "Nodes that did not become ready.",
      labelNames: ["label"],
      registers,
    }),
  };
  const jobs = new Set<string>();
  /** A layout that makes job names without end must not fill the memory. */
  const jobOf = (job: string): string => {
    if (jobs.size < limits.metricLabels) jobs.add(job);
    return jobs.has(job) ? job : "other";
  };

  function build({ event, from, to }: LifeStep<object>, record: BuildRecord): void {
    const { pipeline, job } = record.facts;
    const last = record.marks.at(-1);
    if (event === "noted" && last?.step === "voted") {
      of.vote.observe({ pipeline }, seconds(last.atMs - record.pushedMs));
    }
    if (event === "acquired" && record.startedMs !== null) {
      of.buildWait.observe({ pipeline }, seconds(record.startedMs - record.createdMs));
    }
    if (to !== "reported" || from === "reported" || record.result === null) return;
    const labels = { pipeline, job: jobOf(job.name), result: record.result };
    of.builds.inc(labels);
    const { startedMs, endedMs } = record;
    if (startedMs === null || endedMs === null) return;
    of.buildSeconds.observe(labels, seconds(endedMs - startedMs));
  }

  function lease({ from, to, atMs }: LifeStep<object>, { state, createdAtMs }: LeaseRecord): void {
    if (to === "active" && from !== "active") of.leaseWait.observe(seconds(atMs - createdAtMs));
    if (to === "ended" && from !== "ended" && "reason" in state) {
      of.leases.inc({ reason: state.reason });
    }
  }

  function node({ from, to }: LifeStep<object>, { label, createdAt, readyAt }: NodeBody): void {
    if (to === "failed" && from !== "failed") of.nodesFailed.inc({ label });
    if (to !== "ready" || from === "ready" || readyAt === null) return;
    of.boot.observe({ label }, seconds(Date.parse(readyAt) - Date.parse(createdAt)));
  }

  return (life, step) => {
    if (life === buildLife.life) build(step, step.body as BuildRecord);
    else if (life === leaseLife.life) lease(step, step.body as LeaseRecord);
    else if (life === nodeLife.life) node(step, step.body as NodeBody);
    else if (life === certificateLife.life) {
      of.reset.observe(seconds((step.body as CertificateRecord).certificate.durationMs));
    }
  };
}

/** Clocks of two machines, or one that was set back, give no negative span. */
function seconds(ms: number): number {
  return Math.max(0, ms) / 1_000;
}

type Gauges = ReturnType<typeof openGauges>;

function openGauges(registry: Registry) {
  const registers = [registry];
  const byState = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ["state"], registers });
  new Gauge({
    name: "rackyard_info",
    help: "The program that answers.",
    labelNames: ["version"],
    registers,
  }).set({ version }, 1);
  return {
    testenvs: byState("rackyard_testenvs", "Test environments by state."),
    hosts: byState("rackyard_hosts", "Hosts by state."),
    leases: byState("rackyard_leases", "Leases by state, those that are over left out."),
    nodes: byState("rackyard_nodes", "CI nodes by state."),
    queue: new Gauge({
      name: "rackyard_queue_items",
      help: "Changes on their way.",
      labelNames: ["pipeline"],
      registers,
    }),
  };
}

async function fill(
  gauges: Gauges,
  store: Store,
  { broker, scheduler }: { readonly broker: Broker; readonly scheduler: Late<Scheduler> },
): Promise<void> {
  const { fleet } = broker;
  setStates(gauges.testenvs, testenvStates, counted(await fleet.testenvs()));
  setStates(gauges.hosts, hostStates, counted(await fleet.hosts()));
  const alive = leaseStates.filter((state) => state !== "ended");
  setStates(gauges.leases, alive, await store.countStates(leaseLife, alive));
  if (!scheduler.there) return;
  const { views } = scheduler.get();
  const standing = nodeStates.filter((state) => state !== "gone");
  setStates(gauges.nodes, standing, counted(await views.nodes()));
  gauges.queue.reset();
  for (const { name, items } of await views.pipelines()) {
    gauges.queue.set({ pipeline: name }, items.length);
  }
}

/** Each state is there, also with 0: an alert on one must not wait until it was seen once. */
function setStates(
  gauge: Gauge<"state">,
  states: readonly string[],
  counts: ReadonlyMap<string, number>,
): void {
  for (const state of states) gauge.set({ state }, counts.get(state) ?? 0);
}

function counted(of: readonly { readonly state: string }[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { state } of of) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}

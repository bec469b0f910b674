/**
 * The world around the scheduler, in one process: nodes, racks, an executor and an archive that
 * do what a test tells them, can be held at a step, told to fail, and outlive a server that is
 * killed (but for the executor, which dies with it). They keep what was asked of them.
 */
import { fail, RackyardError } from "../../src/base/errors.ts";
import { until } from "../../src/base/wait.ts";
import type {
  Archive,
  BuildFacts,
  Executor,
  ExecutorJob,
  NodePool,
  ReadyNode,
  StepOutcome,
} from "../../src/ci/builds/build-ports.ts";
import type { AskedRack, RackPort } from "../../src/ci/builds/rack-port.ts";
import type { Evidence } from "../../src/model/build.ts";
import type {
  EndReason,
  Interruption,
  LeaseRequestInput,
  LeaseView,
} from "../../src/model/lease.ts";
import type { TestenvData } from "../../src/model/testenv.ts";

/** Waits until something holds. */
export async function soon(what: string, condition: () => unknown): Promise<void> {
  await until(condition, { timeoutMs: 30_000, everyMs: 5, what });
}

// ---- nodes

export function openNodes(options: { max?: number; label?: string } = {}) {
  const label = options.label ?? "worker";
  const max = options.max ?? 10;
  const nodes = new Map<string, { node: ReadyNode; state: "ready" | "in-use"; build?: string }>();
  const listeners = new Set<() => void>();
  const lost = new Map<string, string>();
  let made = 0;
  let looks = 0;
  let failing: string | undefined;
  let launching = true;
  let wanted = 0;
  const changed = (): void => {
    for (const listener of listeners) listener();
  };
  const launch = (): void => {
    const ready = [...nodes.values()].filter((one) => one.state === "ready").length;
    if (!launching || ready >= wanted || nodes.size >= max) return;
    const id = `node-${++made}`;
    nodes.set(id, {
      state: "ready",
      node: {
        id,
        label,
        provider: "here",
        address: `10.99.0.${180 + made}`,
        hostKey: "ssh-ed25519 AAAA",
        image: "sha256:1",
      },
    });
    queueMicrotask(changed);
    launch();
  };
  const pool: NodePool & {
    reconcile(living: ReadonlySet<string>): Promise<void>;
    nodes(): [];
    images(): [];
  } = {
    ready: (of) =>
      [...nodes.values()]
        .filter((one) => one.state === "ready" && one.node.label === of)
        .map((one) => one.node),
    demand(waiting) {
      looks++;
      wanted = waiting.get(label) ?? 0;
      launch();
    },
    assign(id, build) {
      const found = nodes.get(id);
      if (found?.state !== "ready") fail("conflict", `${id} is not free`);
      found.state = "in-use";
      found.build = build;
      return Promise.resolve(found.node);
    },
    release(id) {
      nodes.delete(id);
      launch();
      queueMicrotask(changed);
      return Promise.resolve();
    },
    reconcile(living) {
      for (const [id, one] of nodes) {
        if (one.state === "in-use" && !living.has(one.build!)) nodes.delete(id);
      }
      launch();
      return Promise.resolve();
    },
    lost: (id) => Promise.resolve(lost.get(id)),
    failure: () => failing,
    why: () => "no node is ready",
    onChange: (callback) => void listeners.add(callback),
    nodes: () => [],
    images: () => [],
  };
  return {
    pool,
    made: () => made,
    inUse: () => [...nodes.values()].filter((one) => one.state === "in-use").length,
    failWith(why: string) {
      failing = why;
      changed();
    },
    /** No node is launched until `go`. */
    pause() {
      launching = false;
    },
    go() {
      launching = true;
      launch();
    },
    lose(id: string) {
      nodes.delete(id);
      changed();
    },
    /** The host began anew: nodes in use went with it. */
    restart() {
      for (const [id, one] of nodes) if (one.state === "in-use") lost.set(id, "began anew");
    },
    /** Of nodes that are gone, as their records have it. */
    ends: (id: string) =>
      nodes.has(id) ? [] : [{ step: "node-deleted", atMs: Date.now(), detail: "worker" }],
    /** As after any change of the pool. */
    poke() {
      looks = 0;
      changed();
    },
    /** Passes over the waiting since. */
    looks: () => looks,
    forget: () => listeners.clear(),
  };
}

// ---- racks

type Lease = {
  view: LeaseView;
  readonly request: LeaseRequestInput;
  readonly key: string;
  takeable: boolean;
  addresses: readonly string[];
};

/** A broker of a few racks: grants in order whoever is takeable. */
export function openRacks(testenvs: readonly string[] = ["here:1"]) {
  const leases: Lease[] = [];
  const busy = new Map<string, string>();
  const away = new Set<string>();
  const watchers = new Set<() => void>();
  let epoch = 0;
  let offers = 0;
  let leaseMs = 24 * 3600_000;
  let silent = false;
  const find = (rack: AskedRack): Lease =>
    leases.find((one) => one.view.id === rack.id) ?? fail("not-found", `no lease ${rack.id}`);
  const put = (lease: Lease, change: Partial<LeaseView>): void => {
    lease.view = { ...lease.view, ...change };
    for (const watcher of watchers) watcher();
  };
  const end = (lease: Lease, reason: EndReason): void => {
    if (lease.view.state === "ended") return;
    for (const [te, id] of busy) if (id === lease.view.id && !silent) busy.delete(te);
    put(lease, { state: silent ? "ending" : "ended", reason });
    grant();
  };
  const grant = (): void => {
    for (const lease of leases) {
      if (lease.view.state !== "waiting" || !lease.takeable) continue;
      const te = testenvs.find((one) => !busy.has(one) && !away.has(one));
      if (te === undefined) return;
      busy.set(te, lease.view.id);
      const testenv = { id: te, epoch: String(++epoch), kind: "two", host: te.split(":")[0]! };
      put(lease, { state: "preparing", testenvs: [testenv] });
      put(lease, { state: "active", expiresAt: new Date(Date.now() + leaseMs).toISOString() });
    }
  };
  const port: RackPort = {
    ask(request, key) {
      const known = leases.find((one) => one.key === key);
      if (known) return Promise.resolve({ id: known.view.id, token: `ryl_${known.view.id}` });
      const id = `00000000-0000-4000-8000-${String(leases.length + 1).padStart(12, "0")}`;
      leases.push({
        key,
        request,
        takeable: request.takeable ?? true,
        addresses: [],
        view: {
          id,
          tenant: "default",
          state: "waiting",
          holder: { name: request.holder.name },
          group: request.group ?? "",
          priority: "normal",
          createdAt: "2026-01-01T00:00:00Z",
          testenvs: [],
          interruptions: [],
          why: [{ code: "busy", text: "all racks are taken" }],
        },
      });
      grant();
      return Promise.resolve({ id, token: `ryl_${id}` });
    },
    offer(rack, takeable, addresses) {
      offers++;
      const lease = find(rack);
      if (lease.view.state !== "waiting") {
        if (takeable) return Promise.resolve(lease.view);
        const refusal = new RackyardError("conflict", "only a waiting lease can be held back");
        return Promise.reject(refusal);
      }
      lease.takeable = takeable;
      lease.addresses = addresses;
      grant();
      return Promise.resolve(lease.view);
    },
    async *watch(rack, signal) {
      const lease = find(rack);
      let told: LeaseView | undefined;
      while (!signal.aborted) {
        if (told !== lease.view) {
          told = lease.view;
          yield told;
          if (told.state === "ended") return;
          continue;
        }
        await new Promise<void>((resolve) => {
          const wake = (): void => {
            watchers.delete(wake);
            resolve();
          };
          watchers.add(wake);
          signal.addEventListener("abort", wake, { once: true });
        });
      }
    },
    data(rack) {
      const { view } = find(rack);
      if (view.state !== "active") fail("lease-over", "the lease is over");
      const data: TestenvData = {
        "env-num": "1",
        "host-ip": "10.99.0.1",
        "seed-ip": "10.99.0.11",
        "ssh-user": "te1",
        "ssh-key": "secret",
        nodes: [],
      };
      return Promise.resolve(data);
    },
    extend(rack, durationSeconds) {
      const lease = find(rack);
      const until = Date.parse(lease.view.expiresAt!) + durationSeconds * 1_000;
      put(lease, { expiresAt: new Date(until).toISOString() });
      return Promise.resolve(lease.view);
    },
    release(rack) {
      const lease = find(rack);
      end(lease, lease.view.state === "waiting" ? "cancelled" : "released");
      return Promise.resolve(lease.view);
    },
    look: (rack) => Promise.resolve(find(rack).view),
  };
  return {
    port,
    leases,
    ends: (id: string) => {
      const ended = leases.some((one) => one.view.id === id && one.view.state === "ended");
      return ended ? [{ step: "reset", atMs: Date.now(), detail: "proved in 0.1 s" }] : [];
    },
    offers: () => offers,
    /** From now on a grant ends so soon. */
    expiresIn(ms: number) {
      leaseMs = ms;
    },
    busy: () => [...busy.keys()],
    open: () => leases.filter((one) => one.view.state !== "ended").map((one) => one.view.id),
    endAll(reason: EndReason) {
      for (const lease of leases) end(lease, reason);
    },
    interrupt(interruption: Interruption) {
      for (const lease of leases) {
        if (lease.view.state !== "active") continue;
        put(lease, { interruptions: [...lease.view.interruptions, interruption] });
      }
    },
    /** The host answers no more: leases stay `ending`. */
    fallSilent() {
      silent = true;
    },
    takeAway(te: string) {
      away.add(te);
    },
    bringBack(te: string) {
      away.delete(te);
      grant();
    },
  };
}

type StepName = "prepare" | "run" | "collect";
export type Script = (facts: BuildFacts) => StepOutcome;

/** Steps end at once with success, unless scripted or held. */
export function openExecutorStage() {
  const scripts = new Map<string, Script>();
  const holds = new Map<string, Promise<void>>();
  const calls: string[] = [];
  const now = new Set<string>();
  const key = (job: string, step: StepName): string => `${job} ${step}`;

  async function step(
    name: StepName,
    facts: BuildFacts,
    signal: AbortSignal,
  ): Promise<StepOutcome> {
    const at = key(facts.job.name, name);
    const change = facts.changes.at(-1)!;
    calls.push(`${change.change},${change.patchset} ${at} ${facts.attempt}`);
    now.add(at);
    const aborted = new Promise<StepOutcome>((resolve) => {
      const cut = (): void => resolve({ kind: "aborted" });
      if (signal.aborted) cut();
      else signal.addEventListener("abort", cut, { once: true });
    });
    const whole = (async (): Promise<StepOutcome> => {
      await holds.get(at);
      return scripts.get(at)?.(facts) ?? { kind: "done" };
    })();
    const outcome = await Promise.race([whole, aborted]);
    now.delete(at);
    return outcome;
  }

  let forgets = true;
  /** What an earlier life began is taken up, or nobody can say how it ended. */
  const again = (name: StepName, job: ExecutorJob, signal: AbortSignal): Promise<StepOutcome> =>
    job.resumed && forgets
      ? Promise.resolve({ kind: "lost", detail: "the server was restarted" })
      : step(name, job.facts, signal);
  const executor: Executor = {
    prepare: (job, signal) => again("prepare", job, signal),
    run: (job, signal) => again("run", job, signal),
    collect: ({ facts }, _after, signal) => step("collect", facts, signal),
    pids: () => [],
  };
  return {
    executor,
    calls,
    isAt: (job: string, name: StepName) => now.has(key(job, name)),
    /** From now on a step that an earlier life began is taken up. */
    remember() {
      forgets = false;
    },
    script: (job: string, name: StepName, script: Script) => scripts.set(key(job, name), script),
    /** Holds the step; gives how to let it go on. */
    hold(job: string, name: StepName): () => void {
      const gate = Promise.withResolvers<void>();
      holds.set(key(job, name), gate.promise);
      return () => {
        holds.delete(key(job, name));
        gate.resolve();
      };
    },
  };
}

export function openArchiveStage() {
  const finished: string[] = [];
  const evidence = new Map<string, readonly Evidence[]>();
  const archive: Archive & {
    console(): AsyncIterable<{ seq: number; line: string }>;
    files(): Promise<[]>;
  } = {
    begin: () => Promise.resolve(),
    say: () => undefined,
    finish(facts, { result }) {
      finished.push(`${facts.job.name} ${result}`);
      return Promise.resolve({ evidence: evidence.get(facts.job.name) ?? [] });
    },
    async *console() {
      yield await Promise.resolve({ seq: 1, line: "Detailed logs" });
    },
    files: () => Promise.resolve([]),
  };
  return { archive, finished, evidence };
}

/** What one port does wrong: call number `at` and the `times` after it throw. */
export type PortFault = {
  readonly port: string;
  readonly method: string;
  readonly at: number;
  readonly times: number;
};

/** Wraps a port: counts the calls of each method, and fails those that the fault says. */
export function openFaults() {
  const counts = new Map<string, number>();
  let fault: PortFault | undefined;
  let failed = 0;
  return {
    counts: counts as ReadonlyMap<string, number>,
    failed: () => failed,
    set(next: PortFault | undefined) {
      fault = next;
      failed = 0;
      counts.clear();
    },
    wrap: <Port extends object>(
      name: string,
      port: Port,
      methods: readonly (keyof Port & string)[],
    ): Port => {
      const wrapped = { ...port };
      for (const method of methods) {
        const real = port[method] as (...given: unknown[]) => unknown;
        const faulty = (...given: unknown[]): unknown => {
          const key = `${name}.${method}`;
          const count = (counts.get(key) ?? 0) + 1;
          counts.set(key, count);
          const { at, times } = fault ?? { at: 0, times: 0 };
          const hit = fault?.port === name && fault.method === method;
          if (!hit || count < at || count >= at + times) return real.apply(port, given);
          failed++;
          const error = new RackyardError("unavailable", `${key} was to fail`);
          return method === "watch" ? failingStream(error) : Promise.reject(error);
        };
        Object.assign(wrapped, { [method]: faulty });
      }
      return wrapped;
    },
  };
}

/** A stream whose first look fails. */
function failingStream(error: Error): AsyncIterable<never> {
  return { [Symbol.asyncIterator]: () => ({ next: () => rejected(error) }) };
}

function rejected(error: Error): Promise<never> {
  return Promise.reject(error);
}

export type Faults = ReturnType<typeof openFaults>;

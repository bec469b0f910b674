/**
 * Which TE suits which request: what it must have (L12), what keeps it from being taken now,
 * what is avoided for a while (lease.md §4), and which of several is chosen: the least that
 * does. Order among requests is the queue's (queue.ts).
 */
import { assertNever } from "../../base/assert.ts";
import { matchesLabels } from "./label-expression.ts";
import type { RequestFault } from "./ledger-event.ts";
import type { Host, Lease, Ledger, TestenvRecord } from "./ledger-state.ts";

type World = Pick<Ledger, "testenvs" | "hosts" | "policy">;
type Wants = Pick<Lease, "request" | "wants">;

/** Labels of a TE: its own, its host's, and how its host computes (`kvm` or `emulated`). */
export function labelsOf(te: TestenvRecord, host: Host | undefined): ReadonlySet<string> {
  const accelerator = host?.facts.accelerator === "kvm" ? "kvm" : "emulated";
  return new Set([...te.report.labels, ...(host?.facts.labels ?? []), accelerator]);
}

/** Whether this TE could ever satisfy the request, whatever its state. */
export function fits(world: World, te: TestenvRecord, lease: Wants): boolean {
  if (te.life.kind === "removed") return false;
  const { count, memoryMiB = 0, cpus = 0, diskGiB = 0 } = lease.request.machines;
  const has = te.report.machines;
  return (
    has.count >= count &&
    has.memoryMiB >= memoryMiB &&
    has.cpus >= cpus &&
    has.diskGiB >= diskGiB &&
    (lease.wants === null || matchesLabels(lease.wants, labelsOf(te, world.hosts.get(te.hostId))))
  );
}

/** What keeps a TE from being granted now, beside a lease that has it; null: nothing. */
export type Obstacle = { readonly code: string; readonly text: string };

export function obstacle(world: World, te: TestenvRecord): Obstacle | null {
  const host = world.hosts.get(te.hostId);
  if (!host || host.state === "lost" || te.life.kind === "offline") {
    return {
      code: "te-offline",
      text: `${te.id} is offline: its host ${te.host} is not connected`,
    };
  }
  const stateOnly = lifeObstacle(te);
  if (stateOnly) return stateOnly;
  if (host.state === "suspect" || !host.open) {
    return { code: "host-suspect", text: `${te.id}: its host ${te.host} does not answer now` };
  }
  if (host.facts.draining) {
    return { code: "host-draining", text: `${te.id}: its host ${te.host} is being drained` };
  }
  if (host.vitals.health !== "ok") {
    const said = host.vitals.problems.slice(0, 3).join("; ") || host.vitals.health;
    return { code: "host-unhealthy", text: `${te.id}: its host ${te.host} is not well: ${said}` };
  }
  if (te.draining) return { code: "te-draining", text: `${te.id} is being drained` };
  return null;
}

function lifeObstacle(te: TestenvRecord): Obstacle | null {
  switch (te.life.kind) {
    case "ready":
    case "preparing":
    case "leased":
      return null;
    case "resetting":
      return { code: "te-resetting", text: `${te.id} is being reset after its last lease` };
    case "provisioning":
      return { code: "te-provisioning", text: `${te.id} is being built by its host` };
    case "faulty":
      return { code: "te-faulty", text: `${te.id} is faulty: ${te.life.detail}` };
    case "quarantined":
      return { code: "te-quarantined", text: `${te.id} is quarantined: ${te.life.detail}` };
    case "held":
      return { code: "te-held", text: `${te.id} is held for a post-mortem` };
    case "offline":
    case "removed":
      return { code: "te-offline", text: `${te.id} is offline` };
    default:
      return assertNever(te.life, "test environment state");
  }
}

/** 0: wanted; 1: its host is avoided; 2: itself is (F-2: another host, another TE, this one). */
export function avoidance(te: TestenvRecord, lease: Lease): 0 | 1 | 2 {
  const { hosts, testenvs } = lease.request.avoid;
  if (testenvs.includes(te.id) || lease.shunned.includes(te.id)) return 2;
  return hosts.includes(te.host) || hosts.includes(te.hostId) ? 1 : 0;
}

/** The lowest avoidance that any registered TE that fits has: that much is never waited for. */
export function leastAvoidance(world: World, lease: Lease): 0 | 1 | 2 {
  let least: 0 | 1 | 2 = 2;
  for (const te of world.testenvs.values()) {
    if (!fits(world, te, lease)) continue;
    const rank = avoidance(te, lease);
    if (rank < least) least = rank;
    if (least === 0) break;
  }
  return least;
}

/** TEs that may be granted now: of these, or of all. */
export function freeTestenvs(world: World, among: ReadonlySet<string> | null): TestenvRecord[] {
  const free: TestenvRecord[] = [];
  const look = (te: TestenvRecord | undefined): void => {
    if (te?.life.kind === "ready" && obstacle(world, te) === null) free.push(te);
  };
  if (among) for (const id of among) look(world.testenvs.get(id));
  else for (const te of world.testenvs.values()) look(te);
  return free;
}

/** The free TEs of one look at the queue, by shape: what fits one fits its likes. */
export type Shelf = {
  readonly empty: boolean;
  /** The best for this request, of those named or of all; undefined: none may be taken. */
  choose(lease: Lease, among: ReadonlySet<string> | null): TestenvRecord | undefined;
  take(te: TestenvRecord): void;
};

export function openShelf(
  world: World & { readonly nowMs: number },
  free: readonly TestenvRecord[],
): Shelf {
  const byShape = new Map<string, TestenvRecord[]>();
  for (const te of free) {
    const shape = shapeOf(te, world.hosts.get(te.hostId));
    const same = byShape.get(shape);
    if (same) same.push(te);
    else byShape.set(shape, [te]);
  }
  const sorted = new Set<string>();
  /** What is asked for → the shapes that fit it. */
  const fitting = new Map<string, readonly string[]>();
  let left = free.length;

  /** Sorted when somebody wants one of them. */
  function inOrder(shape: string): readonly TestenvRecord[] {
    const same = byShape.get(shape)!;
    if (!sorted.has(shape)) same.sort(bySize);
    sorted.add(shape);
    return same;
  }

  function shapesFor(lease: Lease): readonly string[] {
    const asked = askedShape(lease);
    const known = fitting.get(asked);
    if (known) return known;
    const shapes: string[] = [];
    for (const [shape, [first]] of byShape)
      if (first && fits(world, first, lease)) shapes.push(shape);
    fitting.set(asked, shapes);
    return shapes;
  }

  return {
    get empty() {
      return left === 0;
    },
    choose(lease, among) {
      let worst: 0 | 1 | 2 | undefined;
      let best: TestenvRecord | undefined;
      let bestRank = 2;
      const avoids = avoidsAnything(lease);
      for (const shape of shapesFor(lease)) {
        for (const te of inOrder(shape)) {
          if (among && !among.has(te.id)) continue;
          const rank = avoids ? avoidance(te, lease) : 0;
          if (rank > 0) {
            const patient = world.nowMs - lease.avoidSinceMs < world.policy.avoidMs;
            worst ??= patient ? leastAvoidance(world, lease) : 2;
            if (rank > worst) continue;
          }
          if (!best || rank < bestRank || (rank === bestRank && bySize(te, best) < 0)) {
            [best, bestRank] = [te, rank];
          }
          if (!avoids) break; // the others of this shape are larger in nothing
        }
      }
      return best;
    },
    take(te) {
      const same = byShape.get(shapeOf(te, world.hosts.get(te.hostId)))!;
      same.splice(same.indexOf(te), 1);
      left--;
    },
  };
}

function avoidsAnything(lease: Lease): boolean {
  const { hosts, testenvs } = lease.request.avoid;
  return hosts.length + testenvs.length + lease.shunned.length > 0;
}

const asked = new WeakMap<object, string>();
const shapes = new WeakMap<object, WeakMap<object, string>>();

/** All that `fits` looks at in a request. */
export function askedShape({ request }: Wants): string {
  const known = asked.get(request);
  if (known !== undefined) return known;
  const made = JSON.stringify([request.machines, request.labels ?? ""]);
  asked.set(request, made);
  return made;
}

/** All that `fits` looks at in a TE: remembered for the report and facts that it is made of. */
export function shapeOf(te: TestenvRecord, host: Host | undefined): string {
  const facts = host?.facts ?? te.report;
  const byFacts = shapes.get(te.report) ?? new WeakMap<object, string>();
  const known = byFacts.get(facts);
  if (known !== undefined) return known;
  const made = JSON.stringify([te.report.machines, [...labelsOf(te, host)].sort()]);
  byFacts.set(facts, made);
  shapes.set(te.report, byFacts);
  return made;
}

/** The smaller one first, so that the big stay free for who needs them. */
function bySize(a: TestenvRecord, b: TestenvRecord): number {
  const [x, y] = [a.report.machines, b.report.machines];
  return (
    x.count - y.count ||
    x.memoryMiB - y.memoryMiB ||
    x.cpus - y.cpus ||
    x.diskGiB - y.diskGiB ||
    a.host.localeCompare(b.host) ||
    a.number - b.number
  );
}

/** L12: what no registered TE has; empty where one could satisfy the request. */
export function missing(world: World, lease: Wants): RequestFault[] {
  const registered = [...world.testenvs.values()].filter((te) => te.life.kind !== "removed");
  if (registered.some((te) => fits(world, te, lease))) return [];
  if (registered.length === 0) {
    return [
      {
        pointer: "/machines",
        code: "no-testenv",
        detail: "no test environment is registered here",
        remedy: "start a TE host: rackyard up",
      },
    ];
  }
  const faults: RequestFault[] = [];
  for (const key of ["count", "memoryMiB", "cpus", "diskGiB"] as const) {
    const asked = lease.request.machines[key] ?? 0;
    const most = Math.max(...registered.map((te) => te.report.machines[key]));
    if (asked > most) {
      const pointer = `/machines/${key}`;
      const detail = `asked for ${key} ${asked}, no test environment has more than ${most}`;
      faults.push({ pointer, code: "too-much", detail, remedy: `ask for at most ${most}` });
    }
  }
  const labels = (te: TestenvRecord): ReadonlySet<string> =>
    labelsOf(te, world.hosts.get(te.hostId));
  if (lease.wants && !registered.some((te) => matchesLabels(lease.wants, labels(te)))) {
    const known = [...new Set(registered.flatMap((te) => [...labels(te)]))].sort();
    const detail = `no test environment has the labels "${lease.request.labels ?? ""}"`;
    const remedy = `labels that there are: ${known.slice(0, 30).join(", ") || "none"}`;
    faults.push({ pointer: "/labels", code: "no-such-labels", detail, remedy });
  }
  if (faults.length > 0) return faults;
  const detail = "no single test environment has all of what was asked for together";
  return [{ pointer: "/machines", code: "not-together", detail, remedy: "see rackyard te list" }];
}

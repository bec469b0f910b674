/**
 * The ready line with present values (surface.md §8), as the server knows it: itself, its hosts
 * and their racks, nodes, builds under way, and what its supervisor wrote down.
 */
import { dirname } from "node:path";
import { isoTime } from "../../base/clock.ts";
import { readTextIfAny } from "../../base/files.ts";
import { limits } from "../../base/limits.ts";
import type { Trouble, Troubles } from "../../base/troubles.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import type { HostView, TestenvView } from "../../model/testenv.ts";
import type { Places } from "../places.ts";
import type { StatusHost, StatusLine } from "../status.ts";
import { version } from "../version.ts";
import type { Late } from "./late.ts";

export type StatusParts = {
  readonly places: Places;
  readonly config: { readonly file: string | null; readonly profile: string };
  readonly startedAt: number;
  readonly url: () => string;
  readonly apiForNodes: () => string | undefined;
  readonly broker: Broker;
  readonly scheduler: Late<Scheduler>;
  /** What is wrong with the layout's folder. */
  readonly layoutFault: string | undefined;
  readonly troubles: Pick<Troubles, "list">;
};

type Supervisor = {
  readonly pid: number;
  readonly startedAt: string;
  readonly readyMs: number | null;
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
};

export async function statusView(parts: StatusParts): Promise<StatusLine> {
  const { places, broker, scheduler } = parts;
  const url = parts.url();
  const supervisor = await readSupervisor(places);
  const hosts = await broker.fleet.hosts();
  const testenvs = await broker.fleet.testenvs();
  const views = scheduler.there ? scheduler.get().views : undefined;
  const nodes = (await views?.nodes()) ?? [];
  const builds = (await views?.list({ limit: limits.pageItemsDefault }))?.items ?? [];
  const scheduling = views !== undefined;
  const fails = { layoutFault: parts.layoutFault, troubles: parts.troubles.list() };
  const problems = problemsOf(hosts, testenvs, scheduling, fails);
  return {
    event: "ready",
    version,
    pid: supervisor?.pid ?? process.pid,
    state: places.state,
    config: parts.config.file,
    log: dirname(places.logFile("server")),
    profile: parts.config.profile,
    accelerator: hosts[0]?.accelerator ?? null,
    startedAt: supervisor?.startedAt ?? isoTime(parts.startedAt),
    readyMs: supervisor?.readyMs ?? null,
    api: url,
    apiSocket: places.apiSocket,
    apiForNodes: parts.apiForNodes() ?? null,
    git: `${url}/git`,
    logs: `${url}/logs`,
    dashboard: `${url}/`,
    metrics: `${url}/metrics`,
    gearman: null,
    tokenFile: places.adminToken,
    hosts: hosts.map((host) => statusHost(host, testenvs)),
    nodes: nodes.map(({ id, label, state, address }) => ({ id, label, state, address })),
    builds: builds
      .filter(({ state }) => state !== "reported")
      .map(({ id, job, state, pids }) => ({ id, job, state, pids })),
    processes: processesOf(supervisor, hosts),
    health: problems.worst,
    problems: problems.texts,
  };
}

function statusHost(host: HostView, testenvs: readonly TestenvView[]): StatusHost {
  return {
    name: host.name,
    id: host.id,
    testNetwork: host.testNetwork,
    cell: host.cell,
    ssh: host.ssh,
    redfish: null,
    ipmi: null,
    ca: host.ca,
    libvirt: host.libvirt,
    testenvs: testenvs
      .filter((te) => te.host === host.name)
      .map(({ id, number, kind, state, epoch, lease }) => ({
        id,
        number,
        kind,
        state,
        epoch,
        lease,
      })),
  };
}

/** Each process once; the supervisor's own knowledge first. */
function processesOf(
  supervisor: Supervisor | undefined,
  hosts: readonly HostView[],
): StatusLine["processes"] {
  const all = [
    { name: "server", pid: process.pid },
    ...(supervisor?.processes ?? []),
    ...hosts.filter(({ state }) => state === "connected").flatMap((host) => host.processes),
  ];
  const seen = new Set<number>();
  return all.filter(({ pid }) => !seen.has(pid) && seen.add(pid));
}

type Fails = {
  readonly layoutFault: string | undefined;
  readonly troubles: readonly Trouble[];
};

function problemsOf(
  hosts: readonly HostView[],
  testenvs: readonly TestenvView[],
  scheduling: boolean,
  { layoutFault, troubles }: Fails,
): { worst: StatusLine["health"]; texts: string[] } {
  const failing = [
    ...(scheduling ? [] : ["the scheduler is starting"]),
    ...hosts
      .filter(({ state, health }) => state !== "connected" || health === "failing")
      .map(({ name, state, health }) =>
        state === "connected" ? `host ${name} is ${health}` : `host ${name} is ${state}`,
      ),
  ];
  const degraded = [
    ...(layoutFault === undefined ? [] : [layoutFault]),
    ...(hosts.length === 0 ? ["no host has connected yet: there are no racks"] : []),
    ...troubles.map(({ what, why, sinceMs }) => {
      return `${what} fails since ${isoTime(sinceMs)} and is tried again: ${why}`;
    }),
    ...hosts.flatMap(({ name, problems }) => problems.map((text) => `host ${name}: ${text}`)),
    ...testenvs
      .filter(({ state }) => ["faulty", "quarantined"].includes(state))
      .map(({ id, state, detail }) => `${id} is ${state}${detail === null ? "" : `: ${detail}`}`),
  ];
  return {
    worst: failing.length > 0 ? "failing" : degraded.length > 0 ? "degraded" : "ok",
    texts: [...failing, ...degraded],
  };
}

async function readSupervisor(places: Places): Promise<Supervisor | undefined> {
  const text = await readTextIfAny(places.supervisor);
  return text === undefined ? undefined : (JSON.parse(text) as Supervisor);
}

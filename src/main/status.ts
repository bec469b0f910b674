/**
 * `rackyard status`: the ready line of surface.md §8 with present values. The server answers it;
 * where it is away, what the supervisor wrote last, marked so; where nothing runs, `absent`.
 */
import { isRackyardError } from "../base/errors.ts";
import { readTextIfAny } from "../base/files.ts";
import { call } from "../base/http-client.ts";
import { limits } from "../base/limits.ts";
import type { CliContext } from "../cli/context.ts";
import { spanText } from "../cli/output.ts";
import type { Output } from "../cli/output.ts";
import type { TestenvState } from "../model/testenv.ts";
import { readPidFile } from "./pid-file.ts";
import { realPlaces } from "./places.ts";
import type { Places } from "./places.ts";

/** surface.md §8: every field is there, null where there is nothing yet. */
export type StatusLine = {
  readonly event: "ready";
  readonly version: string;
  /** The supervisor's, else the server's own. */
  readonly pid: number;
  readonly state: string;
  readonly config: string | null;
  readonly log: string;
  readonly profile: string;
  readonly accelerator: string | null;
  readonly startedAt: string;
  readonly readyMs: number | null;
  readonly api: string;
  readonly apiSocket: string;
  readonly apiForNodes: string | null;
  readonly git: string;
  readonly logs: string;
  readonly dashboard: string;
  readonly metrics: string;
  readonly gearman: null;
  readonly tokenFile: string;
  readonly hosts: readonly StatusHost[];
  readonly nodes: readonly {
    readonly id: string;
    readonly label: string;
    readonly state: string;
    readonly address: string | null;
  }[];
  readonly builds: readonly {
    readonly id: string;
    readonly job: string;
    readonly state: string;
    readonly pids: { readonly ssh: readonly number[] };
  }[];
  readonly processes: readonly { readonly name: string; readonly pid: number }[];
  readonly health: "ok" | "degraded" | "failing";
  readonly problems: readonly string[];
};

export type StatusHost = {
  readonly name: string;
  readonly id: string;
  readonly testNetwork: object | null;
  readonly cell: { readonly netns: string } | null;
  readonly ssh: object | null;
  readonly redfish: null;
  readonly ipmi: null;
  readonly ca: string | null;
  readonly libvirt: string | null;
  readonly testenvs: readonly {
    readonly id: string;
    readonly number: number;
    readonly kind: string;
    readonly state: TestenvState;
    readonly epoch: string;
    readonly lease: string | null;
  }[];
};

/** The line as the server gives it now. Throws `unavailable`. */
export function readStatus(places: Places): Promise<StatusLine> {
  const endpoint = { url: `unix:${places.apiSocket}` };
  return call<StatusLine>(endpoint, "/v1/status", { timeoutMs: limits.commandMs });
}

/**
 * Server and host are connected, the nodes' door is open, and no test environment is still being
 * made. One that stands as `offline` beside a connected host is one that it no longer has.
 */
export function isReady(line: StatusLine): boolean {
  const making = ["provisioning", "resetting"];
  return (
    line.health !== "failing" &&
    line.apiForNodes !== null &&
    line.hosts.length > 0 &&
    line.hosts.every(({ testenvs }) => {
      const present = testenvs.filter(({ state }) => state !== "offline");
      return present.length > 0 && present.every(({ state }) => !making.includes(state));
    })
  );
}

export async function runStatus(context: CliContext): Promise<number> {
  const { globals, out } = context;
  const places = await realPlaces(globals.state);
  if (globals.url !== undefined) {
    const line = (await (await context.client()).status()) as unknown as StatusLine;
    out.result(line, () => readyText(out, line));
    return 0;
  }
  try {
    const line = await present(places, context);
    out.result(line, () => readyText(out, line));
    return 0;
  } catch (error) {
    if (!isRackyardError(error)) throw error;
    if (!["unavailable", "not-running"].includes(error.code)) throw error;
  }
  const last = await lastLine(places);
  if (!last) {
    out.result({ event: "absent", state: places.state }, () => `nothing runs in ${places.state}`);
    return 69;
  }
  out.result(last, () => readyText(out, last));
  return 69;
}

/** By the socket where this user may, else as everybody may read. */
async function present(places: Places, context: CliContext): Promise<StatusLine> {
  if (process.getuid?.() === 0) return readStatus(places);
  return (await (await context.client()).status()) as unknown as StatusLine;
}

/** The supervisor lives, its server does not answer. */
async function lastLine(places: Places): Promise<StatusLine | undefined> {
  const owners = await Promise.all(
    (["up", "te-host", "server"] as const).map((name) => readPidFile(places.pidFile(name))),
  );
  const alive = owners.find((owner) => owner !== undefined);
  const text = await readTextIfAny(places.ready);
  if (!alive || text === undefined) return undefined;
  const line = JSON.parse(text) as StatusLine;
  return { ...line, health: "failing", problems: ["the server does not answer"] };
}

/** For people. */
export function readyText(out: Output, line: StatusLine): string {
  const colour = line.health === "ok" ? "green" : line.health === "degraded" ? "yellow" : "red";
  const testenvs = line.hosts.flatMap((host) => host.testenvs);
  const counted = countBy(testenvs.map(({ state }) => state));
  const facts: (readonly [string, string])[] = [
    ["health", out.style(colour, [line.health, ...line.problems].join("; "))],
    ["dashboard", out.style("cyan", line.dashboard)],
    ["git", `${line.git}/<project>`],
    ["state", line.state],
    ["racks", counted === "" ? "none yet" : counted],
    ["nodes", countBy(line.nodes.map(({ state }) => state)) || "none yet"],
    ["builds", countBy(line.builds.map(({ state }) => state)) || "none running"],
    ...line.hosts.map(
      (host) =>
        [
          "host",
          `${host.name} (${line.accelerator ?? "?"}), cell ${host.cell?.netns ?? "none"}`,
        ] as const,
    ),
    ["token", line.tokenFile],
  ];
  const ready = line.readyMs === null ? "" : `, ready after ${spanText(line.readyMs)}`;
  return [
    `${out.style("bold", `rackyard ${line.version}`)}, pid ${line.pid}${ready}`,
    ...facts.map(([name, value]) => `${out.style("dim", name.padEnd(9))} ${value}`),
  ].join("\n");
}

function countBy(states: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, count]) => `${count} ${state}`).join(", ");
}

/**
 * `/metrics`: how many of what are in which state, as Prometheus reads it (text format 0.0.4).
 */
import { leaseStates } from "../../model/lease.ts";
import { limits } from "../../base/limits.ts";
import { version } from "../version.ts";
import type { Scheduler } from "../../ci/scheduler.ts";
import type { Broker } from "../../lease/broker/broker.ts";
import type { Late } from "./late.ts";

export async function metricsText(parts: {
  readonly broker: Broker;
  readonly scheduler: Late<Scheduler>;
}): Promise<string> {
  const { broker, scheduler } = parts;
  const lines = [
    ...family("rackyard_info", "The program that answers.", [[`version="${version}"`, 1]]),
    ...family("rackyard_up_seconds", "For how long the server runs.", [
      ["", Math.round(process.uptime())],
    ]),
    ...family("rackyard_resident_bytes", "Memory of the server.", [
      ["", process.memoryUsage.rss()],
    ]),
    ...family(
      "rackyard_testenvs",
      "Test environments by state.",
      counted((await broker.fleet.testenvs()).map(({ state }) => state)),
    ),
    ...family(
      "rackyard_hosts",
      "Hosts by state.",
      counted((await broker.fleet.hosts()).map(({ state }) => state)),
    ),
  ];
  const leases: [string, number][] = [];
  for (const state of leaseStates.filter((one) => one !== "ended")) {
    const { items } = await broker.leases.list({ state, limit: limits.pageItems });
    leases.push([`state="${state}"`, items.length]);
  }
  lines.push(
    ...family("rackyard_leases", "Leases by state, those that are over left out.", leases),
  );
  if (scheduler.there) {
    const { views } = scheduler.get();
    const nodes = (await views.nodes()).map(({ state }) => state);
    lines.push(...family("rackyard_nodes", "CI nodes by state.", counted(nodes)));
    const items = (await views.pipelines()).map(
      ({ name, items: queued }) => [`pipeline="${name}"`, queued.length] as [string, number],
    );
    lines.push(...family("rackyard_queue_items", "Changes on their way.", items));
  }
  return `${lines.join("\n")}\n`;
}

function family(name: string, help: string, values: readonly (readonly [string, number])[]) {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} gauge`,
    ...values.map(([labels, value]) => `${name}${labels === "" ? "" : `{${labels}}`} ${value}`),
  ];
}

function counted(states: readonly string[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1);
  return [...counts].map(([state, count]) => [`state="${state}"`, count]);
}

/**
 * What the items of a layout say about each other: names that are taken twice, that nobody
 * defines, parents in a circle. Each fault stands at the word that is wrong and names what is
 * there to choose from. Shapes are checked before, in reader.ts.
 */
import { nearest } from "../../base/nearest.ts";
import { faultAt } from "../../base/yaml-file.ts";
import type { FieldFault } from "../../base/errors.ts";
import type { Place } from "../../base/yaml-file.ts";
import { noop } from "./items.ts";
import type { JobItem, JobOverride } from "./items.ts";
import { reportStages } from "../../model/pipeline.ts";
import type { Items, Located, Path } from "./reader.ts";

/** What the operator's configuration gives the layout to name. */
export type Surroundings = {
  /** Node labels (`nodes.labels`). */
  readonly labels: readonly string[];
  /** `connections` */
  readonly connections: readonly string[];
  /** Review labels and what the CI may vote. */
  readonly votes: Readonly<Record<string, { readonly min: number; readonly max: number }>>;
  /** `leases.maxDurationSeconds`: no rack is lent for longer. */
  readonly longestLeaseSeconds: number;
};

/** Every name of a kind that stands in the layout, broken items too; each once. */
function namesOf(items: Items, kind: keyof Items["broken"]): string[] {
  const whole: readonly Located<{ name: string }>[] = items[`${kind}s`];
  return Array.from(new Set([...whole.map((item) => item.value.name), ...items.broken[kind]]));
}

export function checkItems(items: Items, around: Surroundings): FieldFault[] {
  return [
    ...checkDuplicates("pipeline", items.pipelines),
    ...checkDuplicates("job", items.jobs),
    ...checkDuplicates("nodeset", items.nodesets),
    ...checkDuplicates("project", items.projects),
    ...checkPipelines(items, around),
    ...checkJobs(items, around),
    ...checkNodesets(items, around),
    ...checkProjects(items, around),
  ];
}

function checkDuplicates(kind: string, list: readonly Located<{ name: string }>[]): FieldFault[] {
  const first = new Map<string, Place>();
  const faults: FieldFault[] = [];
  for (const item of list) {
    const { name } = item.value;
    const before = first.get(name);
    if (before) {
      const variants = kind === "job" ? "; variants of a job are not supported yet" : "";
      faults.push(
        faultAt(
          item.placeOf(["name"]),
          "duplicate",
          `${kind}.name: ${name} stands already at ${before.file}:${before.line}${variants}`,
        ),
      );
    } else first.set(name, item.placeOf(["name"]));
  }
  return faults;
}

function unknown(
  place: Place,
  path: string,
  what: string,
  name: string,
  known: readonly string[],
): FieldFault {
  const near = nearest(name, known);
  const there = known.length > 0 ? known.slice(0, 20).join(", ") : "none";
  return faultAt(
    place,
    `unknown-${what.replaceAll(" ", "-")}`,
    `${path}: there is no ${what} ${JSON.stringify(name)}; there are: ${there}`,
    near === undefined ? undefined : `did you mean ${near}?`,
  );
}

function checkPipelines(items: Items, around: Surroundings): FieldFault[] {
  const faults: FieldFault[] = [];
  const connectionFault = (place: Place, path: string, name: string): void => {
    if (around.connections.includes(name)) return;
    faults.push(unknown(place, path, "connection", name, around.connections));
  };
  for (const { value, placeOf } of items.pipelines) {
    for (const name of Object.keys(value.trigger)) {
      connectionFault(placeOf(["trigger", name], true), "pipeline.trigger", name);
    }
    for (const stage of reportStages) {
      for (const [connection, labels] of Object.entries(value[stage] ?? {})) {
        const path = [stage, connection];
        connectionFault(placeOf(path, true), `pipeline.${stage}`, connection);
        for (const [label, vote] of Object.entries(labels)) {
          const place = placeOf([...path, label], true);
          const fault = voteFault(place, `pipeline.${path.join(".")}`, label, vote, around);
          if (fault) faults.push(fault);
        }
      }
    }
  }
  return faults;
}

function voteFault(
  place: Place,
  path: string,
  label: string,
  vote: number,
  around: Surroundings,
): FieldFault | undefined {
  const range = around.votes[label];
  if (!range) return unknown(place, path, "review label", label, Object.keys(around.votes));
  if (vote >= range.min && vote <= range.max) return undefined;
  const allowed = `${range.min} to ${range.max}`;
  return faultAt(place, "bad-vote", `${path}.${label}: allowed are ${allowed}, found ${vote}`);
}

function checkJobs(items: Items, around: Surroundings): FieldFault[] {
  const byName = new Map(items.jobs.map((job) => [job.value.name, job]));
  const faults: FieldFault[] = [];
  for (const job of items.jobs) {
    faults.push(...checkParent(job, byName, namesOf(items, "job")));
    faults.push(...checkAttributes(job.value, job.placeOf, "job", items, around));
    if (job.value.name === noop) {
      const detail = "job.name: noop is built in: it succeeds at once, without a node";
      faults.push(faultAt(job.placeOf(["name"]), "duplicate", detail));
    }
  }
  return faults;
}

function checkParent(
  job: Located<JobItem>,
  byName: ReadonlyMap<string, Located<JobItem>>,
  known: readonly string[],
): FieldFault[] {
  const { name, parent } = job.value;
  if (parent === undefined || parent === null) return [];
  const place = job.placeOf(["parent"]);
  if (!known.includes(parent)) return [unknown(place, "job.parent", "job", parent, known)];
  const way = [name];
  for (let at: string | null | undefined = parent; at && byName.has(at);) {
    way.push(at);
    if (at === name) {
      const circle = way.join(" → ");
      return [faultAt(place, "parent-cycle", `job.parent: goes round in a circle: ${circle}`)];
    }
    if (way.length > byName.size + 1) break; // a circle further up: told there
    at = byName.get(at)!.value.parent;
  }
  return [];
}

/** What a job, or a project's override of one, names elsewhere. */
function checkAttributes(
  value: JobOverride,
  placeOf: (path: Path) => Place,
  at: string,
  items: Items,
  around: Surroundings,
): FieldFault[] {
  const faults: FieldFault[] = [];
  const nodesets = namesOf(items, "nodeset");
  const projects = namesOf(items, "project");
  const { nodeset } = value;
  if (typeof nodeset === "string") {
    if (!nodesets.includes(nodeset)) {
      faults.push(unknown(placeOf(["nodeset"]), `${at}.nodeset`, "nodeset", nodeset, nodesets));
    }
  } else if (nodeset) {
    for (const [index, node] of nodeset.nodes.entries()) {
      if (around.labels.includes(node.label)) continue;
      const path = ["nodeset", "nodes", index, "label"];
      faults.push(
        unknown(placeOf(path), `${at}.nodeset.label`, "node label", node.label, around.labels),
      );
    }
  }
  const projectFault = (path: Path, name: string): void => {
    if (projects.includes(name)) return;
    faults.push(unknown(placeOf(path), `${at}.${String(path[0])}`, "project", name, projects));
  };
  for (const [index, project] of (value["required-projects"] ?? []).entries()) {
    projectFault(["required-projects", index], project.name);
  }
  if (value["run-in"] !== undefined) projectFault(["run-in"], value["run-in"]);
  return faults;
}

function checkNodesets(items: Items, around: Surroundings): FieldFault[] {
  return items.nodesets.flatMap(({ value, placeOf }) =>
    value.nodes.flatMap((node, index) => {
      if (around.labels.includes(node.label)) return [];
      const place = placeOf(["nodes", index, "label"]);
      return [unknown(place, "nodeset.nodes.label", "node label", node.label, around.labels)];
    }),
  );
}

function checkProjects(items: Items, around: Surroundings): FieldFault[] {
  const pipelines = namesOf(items, "pipeline");
  const jobs = Array.from(new Set([...namesOf(items, "job"), noop]));
  const faults: FieldFault[] = [];
  for (const project of items.projects) {
    for (const pipeline of project.value.pipelines) {
      const path = `project.${pipeline.name}`;
      if (!pipelines.includes(pipeline.name)) {
        faults.push(unknown(pipeline.place, path, "pipeline", pipeline.name, pipelines));
      }
      const seen = new Set<string>();
      for (const [index, use] of pipeline.jobs.entries()) {
        const where = `${path}.jobs[${index}]`;
        if (!jobs.includes(use.job)) faults.push(unknown(use.place, where, "job", use.job, jobs));
        if (seen.has(use.job)) {
          faults.push(faultAt(use.place, "duplicate", `${where}: ${use.job} is listed twice`));
        }
        seen.add(use.job);
        if (!use.override) continue;
        const placeOf = (inside: Path): Place =>
          project.placeOf([pipeline.name, "jobs", index, use.job, ...inside]);
        faults.push(
          ...checkAttributes(use.override, placeOf, `${where}.${use.job}`, items, around),
        );
      }
    }
  }
  return faults;
}

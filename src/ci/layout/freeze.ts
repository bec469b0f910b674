/**
 * Freezes the jobs of a project in a pipeline (ci.md J-5): parents flattened as Zuul does, and
 * everything decided. Deterministic: same layout, same result, in the order that the project
 * lists. What cannot be frozen is a fault with its place. Pure.
 */
import { limits } from "../../base/limits.ts";
import { faultAt } from "../../base/yaml-file.ts";
import type { FieldFault } from "../../base/errors.ts";
import type { Place } from "../../base/yaml-file.ts";
import type { FrozenJob } from "../../model/job.ts";
import { noop } from "./items.ts";
import type { JobItem, JobOverride } from "./items.ts";
import type { Definitions, JobUse, Located } from "./reader.ts";

export type Frozen = { readonly jobs: FrozenJob[]; readonly faults: FieldFault[] };

/** Jobs that run for a change of `project` in `pipeline`; none where the project lists none. */
export function freezeJobs(layout: Definitions, pipeline: string, project: string): Frozen {
  const listed = layout.projects
    .get(project)
    ?.value.pipelines.find((candidate) => candidate.name === pipeline);
  const frozen: Frozen = { jobs: [], faults: [] };
  for (const use of listed?.jobs ?? []) {
    if (use.job === noop) frozen.jobs.push(noopJob(use, project));
    else freezeJob(layout, use, project, frozen);
  }
  return frozen;
}

function freezeJob(layout: Definitions, use: JobUse, project: string, frozen: Frozen): void {
  const chain = lineage(layout, use.job);
  const last = chain.at(-1);
  if (!last) {
    // The layout was checked; a job can be missing only where it was not.
    const detail = `there is no job ${JSON.stringify(use.job)}`;
    frozen.faults.push(faultAt(use.place, "unknown-job", detail));
    return;
  }
  const merged = mergeAll([...chain.map((job) => job.value), use.override ?? {}]);
  const place = last.placeOf([]);
  const requiredProjects = required(merged, project);
  const node = nodeOf(layout, merged);
  const faults = meetingFaults(use, place, { merged, requiredProjects, project, node });
  frozen.faults.push(...faults);
  if (faults.length > 0 || !node) return;
  frozen.jobs.push({
    name: use.job,
    definedAt: `${place.file}:${place.line}`,
    voting: merged.voting ?? true,
    attempts: merged.attempts ?? limits.attempts,
    timeoutSeconds: merged.timeout ?? limits.jobTimeoutSeconds,
    postTimeoutSeconds: merged["post-timeout"] ?? limits.jobPostTimeoutSeconds,
    node,
    testenv: testenvOf(merged),
    requiredProjects,
    vars: merged.vars ?? {},
    runIn: merged["run-in"] ?? project,
    preRun: merged["pre-run"] ?? [],
    run: merged.run ?? [],
    postRun: merged["post-run"] ?? [],
    cleanupRun: merged["cleanup-run"] ?? [],
  });
}

function noopJob(use: JobUse, project: string): FrozenJob {
  return {
    name: noop,
    definedAt: `${use.place.file}:${use.place.line}`,
    voting: use.override?.voting ?? true,
    attempts: 1,
    timeoutSeconds: limits.jobTimeoutSeconds,
    postTimeoutSeconds: limits.jobPostTimeoutSeconds,
    node: null,
    testenv: null,
    requiredProjects: [project],
    vars: {},
    runIn: project,
    preRun: [],
    run: [],
    postRun: [],
    cleanupRun: [],
  };
}

/** The job and its parents, the outermost first; cycles are refused when the layout is read. */
function lineage(layout: Definitions, name: string): Located<JobItem>[] {
  const chain: Located<JobItem>[] = [];
  let at: string | null | undefined = name;
  while (at && chain.length <= layout.jobs.size) {
    const job = layout.jobs.get(at);
    if (!job) break;
    chain.unshift(job);
    at = job.value.parent;
  }
  return chain;
}

/**
 * Zuul's rules: phases nest (pre outer → inner; post and cleanup inner → outer), vars merge
 * deep, required projects add up, everything else is the innermost one's word.
 */
function mergeAll(parts: readonly JobOverride[]): JobOverride {
  let merged: JobOverride = {};
  for (const part of parts) {
    const given = Object.fromEntries(
      Object.entries(part).filter(([, value]) => value !== undefined),
    ) as JobOverride;
    const nested: JobOverride = {};
    const before = merged;
    const add = (key: "pre-run" | "post-run" | "cleanup-run", innerFirst: boolean): void => {
      if (!given[key] || !before[key]) return;
      nested[key] = innerFirst ? [...given[key], ...before[key]] : [...before[key], ...given[key]];
    };
    add("pre-run", false);
    add("post-run", true);
    add("cleanup-run", true);
    if (given.vars && before.vars) nested.vars = mergeDeep(before.vars, given.vars);
    if (given["required-projects"] && before["required-projects"]) {
      nested["required-projects"] = [...before["required-projects"], ...given["required-projects"]];
    }
    merged = { ...before, ...given, ...nested };
  }
  return merged;
}

type Vars = Record<string, unknown>;

/** Maps merge key by key; anything else is replaced. */
function mergeDeep(outer: Vars, inner: Vars): Vars {
  const merged: Vars = { ...outer };
  for (const [key, value] of Object.entries(inner)) {
    const before = merged[key];
    merged[key] = isMap(before) && isMap(value) ? mergeDeep(before, value) : value;
  }
  return merged;
}

function isMap(value: unknown): value is Vars {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** As written, without repetition; the change's own project always, first if not written. */
function required(merged: JobOverride, project: string): string[] {
  const written = (merged["required-projects"] ?? []).map((entry) => entry.name);
  return Array.from(new Set(written.includes(project) ? written : [project, ...written]));
}

function nodeOf(layout: Definitions, merged: JobOverride): FrozenJob["node"] {
  const { nodeset } = merged;
  const found = typeof nodeset === "string" ? layout.nodesets.get(nodeset)?.value : nodeset;
  return found?.nodes[0] ?? null;
}

function testenvOf(merged: JobOverride): FrozenJob["testenv"] {
  const { testenv } = merged;
  if (!testenv) return null;
  return {
    machines: testenv.machines,
    memoryMiB: testenv["memory-mib"] ?? null,
    cpus: testenv.cpus ?? null,
    diskGiB: testenv["disk-gib"] ?? null,
    labels: testenv.labels ?? null,
    leaseWaitSeconds: testenv["lease-wait"],
  };
}

function meetingFaults(
  use: JobUse,
  place: Place,
  facts: {
    merged: JobOverride;
    requiredProjects: readonly string[];
    project: string;
    node: FrozenJob["node"];
  },
): FieldFault[] {
  const { merged, requiredProjects, project, node } = facts;
  const faults: FieldFault[] = [];
  const at = `job ${use.job} (${place.file}:${place.line})`;
  if (!merged.run) {
    const detail = `${at} has no run, nor has a parent: it is a base for others only`;
    faults.push(faultAt(use.place, "no-run", detail));
  }
  if (!node) {
    faults.push(faultAt(use.place, "no-nodeset", `${at} has no nodeset, nor has a parent`));
  }
  const byLast = Map.groupBy(requiredProjects, (name) => name.split("/").at(-1)!);
  for (const [last, names] of byLast) {
    if (names.length < 2) continue;
    faults.push(
      faultAt(
        use.place,
        "same-checkout",
        `${at} needs ${names.join(" and ")} for ${project}: both would stand in ${last}`,
      ),
    );
  }
  const runIn = merged["run-in"];
  if (runIn !== undefined && !requiredProjects.includes(runIn)) {
    const there = requiredProjects.join(", ");
    const detail = `${at}: run-in ${runIn} is not among its projects: ${there}`;
    faults.push(faultAt(use.place, "unknown-project", detail, "add it to required-projects"));
  }
  return faults;
}

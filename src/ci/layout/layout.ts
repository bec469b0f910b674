/**
 * The layout in force: pipelines, jobs and projects read from a folder, checked whole before it
 * replaces the old one. A folder with any fault is refused with all its faults; what is accepted
 * can be frozen for every project and pipeline (freeze.ts). No clock, no review system here.
 */
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { faultAt } from "../../base/yaml-file.ts";
import type { FieldFault } from "../../base/errors.ts";
import { leaseSeconds } from "../../model/job-duration.ts";
import type { FrozenJob } from "../../model/job.ts";
import type { PipelineConfig, Reporter, ReportStage } from "../../model/pipeline.ts";
import { checkItems } from "./checks.ts";
import type { Surroundings } from "./checks.ts";
import { freezeJobs } from "./freeze.ts";
import type { PipelineItem } from "./items.ts";
import { readItems } from "./reader.ts";
import type { Definitions, Items, JobUse, LayoutFile, Located } from "./reader.ts";

/** The built-in review system's labels (surface.md §6). */
export const builtinVotes: Surroundings["votes"] = {
  Verified: { min: -2, max: 2 },
  "Code-Review": { min: -2, max: 2 },
  Workflow: { min: 0, max: 1 },
};

export type Layout = Definitions & {
  readonly pipelines: ReadonlyMap<string, PipelineConfig>;
};

/** Throws `bad-layout` with every fault; the caller then keeps the old layout. */
export function acceptLayout(files: readonly LayoutFile[], around: Surroundings): Layout {
  const { layout, faults } = checkLayout(files, around);
  if (faults.length > 0) {
    const first = faults[0]!;
    const more = faults.length > 1 ? ` (and ${faults.length - 1} more)` : "";
    const only = faults.every((fault) => fault.code === "not-supported-yet");
    fail(
      only ? "not-supported-yet" : "bad-layout",
      `the layout is wrong: ${first.pointer}: ${first.detail}${more}`,
      { faults, remedy: "mend these places; rackyard check-config shows them all" },
    );
  }
  return layout;
}

/** The layout of these files and everything that is wrong with it; pure. */
export function checkLayout(
  files: readonly LayoutFile[],
  around: Surroundings,
): { layout: Layout; faults: FieldFault[] } {
  const items = readItems(files);
  const faults = [...items.faults, ...checkItems(items, around)];
  const layout = layoutOf(items);
  // Only a layout that is right in itself can be frozen without telling each fault twice.
  if (faults.length === 0) faults.push(...freezeFaults(layout, around));
  return { layout, faults: faults.sort(byPlace) };
}

function layoutOf(items: Items): Layout {
  const byName = <T extends { name: string }>(list: readonly Located<T>[]) =>
    new Map(list.map((item) => [item.value.name, item]));
  return {
    pipelines: new Map(items.pipelines.map((item) => [item.value.name, pipelineConfig(item)])),
    jobs: byName(items.jobs),
    nodesets: byName(items.nodesets),
    projects: byName(items.projects),
  };
}

function pipelineConfig(item: Located<PipelineItem>): PipelineConfig {
  const { value } = item;
  const place = item.placeOf([]);
  const reporters = (stage: ReportStage): Reporter[] =>
    Object.entries(value[stage] ?? {}).map(([connection, labels]) => ({ connection, labels }));
  const failure = reporters("failure");
  const orFailure = (stage: ReportStage): Reporter[] =>
    value[stage] === undefined ? failure : reporters(stage);
  return {
    name: value.name,
    definedAt: `${place.file}:${place.line}`,
    manager: "independent",
    precedence: value.precedence,
    dequeueOnNewPatchset: value["dequeue-on-new-patchset"],
    ignoreDependencies: value["ignore-dependencies"],
    triggers: Object.entries(value.trigger).flatMap(([connection, rules]) =>
      rules.map((rule) => ({ connection, events: rule.event, comments: rule.comment ?? [] })),
    ),
    reporters: {
      start: reporters("start"),
      success: reporters("success"),
      failure,
      "merge-conflict": orFailure("merge-conflict"),
      "config-error": orFailure("config-error"),
    },
  };
}

/** What is wrong only in the meeting of a project with a job: told now, not at the first push. */
function freezeFaults(layout: Layout, around: Surroundings): FieldFault[] {
  const faults = new Map<string, FieldFault>();
  for (const project of layout.projects.values()) {
    for (const pipeline of project.value.pipelines) {
      const frozen = freezeJobs(layout, pipeline.name, project.value.name);
      const uses = new Map(pipeline.jobs.map((use) => [use.job, use]));
      const tooLong = frozen.jobs.flatMap((job) => leaseFaults(job, uses.get(job.name), around));
      for (const fault of [...frozen.faults, ...tooLong]) {
        faults.set(`${fault.pointer} ${fault.detail}`, fault);
      }
    }
  }
  return [...faults.values()];
}

/** A job whose own limits outlast every lease would lose its rack in the middle of them. */
function leaseFaults(
  job: FrozenJob,
  use: JobUse | undefined,
  { longestLeaseSeconds: longest }: Surroundings,
): FieldFault[] {
  if (!use || job.testenv === null) return [];
  const seconds = leaseSeconds(job, limits);
  if (seconds <= longest) return [];
  const cleanupSeconds = limits.cleanupMs / 1_000;
  const parts = [
    `timeout ${job.timeoutSeconds} s`,
    `${job.postRun.length} × post-timeout ${job.postTimeoutSeconds} s`,
    `${job.cleanupRun.length} × cleanup ${cleanupSeconds} s`,
    "preparing and collecting",
  ].join(", ");
  const detail =
    `job ${job.name} (${job.definedAt}) may need its rack for ${seconds} s (${parts}), ` +
    `but no lease is longer than ${longest} s`;
  const remedy = "shorten its limits, or raise leases.maxDurationSeconds";
  return [faultAt(use.place, "too-long", detail, remedy)];
}

function byPlace(left: FieldFault, right: FieldFault): number {
  const [a, b] = [left.pointer, right.pointer].map((pointer) => pointer.split(":"));
  const file = a![0]!.localeCompare(b![0]!);
  if (file !== 0) return file;
  return Number(a![1]) - Number(b![1]) || Number(a![2]) - Number(b![2]);
}

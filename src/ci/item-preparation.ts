/**
 * Prepares an item: freezes its jobs, has its repositories merged, says what came of it. What
 * will not be otherwise the next time is a configuration error, with the places that ask for it;
 * what the network or a disk did is tried again and never told as a conflict (ci.md M-3).
 */
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { backoffMs } from "../base/retry.ts";
import { pause } from "../base/wait.ts";
import type { FrozenJob } from "../model/job.ts";
import { freezeJobs } from "./layout/freeze.ts";
import type { Layout } from "./layout/layout.ts";
import type { Merger } from "./merger/merger.ts";
import { testedChange } from "./pipeline/item.ts";
import type { Item } from "./pipeline/item.ts";
import type { PrepareOutcome } from "./pipeline/pipeline.ts";

export type Preparation = {
  readonly merger: Pick<Merger, "prepare">;
  readonly random: Random;
  readonly log: Log;
};

/** Undefined when the item is no longer wanted. */
export async function prepareItem(
  parts: Preparation,
  item: Item,
  layout: Layout,
  isWanted: () => boolean,
  signal: AbortSignal,
): Promise<PrepareOutcome | undefined> {
  const { jobs, faults } = freezeJobs(layout, item.pipeline, testedChange(item).project);
  if (faults.length > 0) {
    const detail = faults.map((fault) => `${fault.pointer}: ${fault.detail}`);
    return { kind: "config-error", detail };
  }
  if (jobs.length === 0) {
    const merged = { zuulRef: "", zuulCommit: "", repos: [] };
    return { kind: "merged", merged, jobs: [] };
  }
  const requiredProjects = Array.from(new Set(jobs.flatMap((job) => job.requiredProjects)));
  const items = [...item.ahead, ...item.changes];
  for (let failures = 1; isWanted(); failures++) {
    const result = await parts.merger.prepare(
      { buildset: item.buildset.id, items, requiredProjects },
      signal,
    );
    switch (result.kind) {
      case "merged": {
        const { zuulRef, zuulCommit, repos } = result;
        const started = jobs.map((job) => ({ job, build: parts.random.uuid4() }));
        return { kind: "merged", merged: { zuulRef, zuulCommit, repos }, jobs: started };
      }
      case "conflict": {
        const detail = result.files.length > 0 ? result.files : [result.message];
        return { kind: "conflict", detail };
      }
      case "error":
        if (!result.retryable) return { kind: "config-error", detail: blame(result.detail, jobs) };
        parts.log.warn({ item: item.id, failures, detail: result.detail }, "merge not done yet");
        await pause(backoffMs(failures, limits.backoffFirstMs, limits.backoffLastMs), signal);
    }
  }
  return undefined;
}

/** The sentence, and who asks for other projects. */
function blame(detail: string, jobs: readonly FrozenJob[]): string[] {
  const asking = jobs.filter((job) => job.requiredProjects.length > 1);
  return [
    detail,
    ...asking.map(
      (job) => `${job.definedAt}: job ${job.name} requires ${job.requiredProjects.join(", ")}`,
    ),
  ];
}

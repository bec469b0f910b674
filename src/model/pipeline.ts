/**
 * A pipeline as configured (ci.md §3): what layout hands to trigger, pipeline and report, which
 * never import each other. Decided once when the layout is read; nothing later looks up YAML.
 */
import type { Priority } from "./job.ts";

/** P-1: a list of these is OR, the fields of one are AND; an empty list matches everything. */
export type TriggerRule = {
  readonly connection: string;
  readonly events: readonly string[];
  /** Searched in the comment, not anchored. */
  readonly comments: readonly { test(text: string): boolean }[];
};

export type Reporter = {
  readonly connection: string;
  /** Votes; none: a comment only. */
  readonly labels: Readonly<Record<string, number>>;
};

/** those that this version reports. */
export const reportStages = [
  "start",
  "success",
  "failure",
  "merge-conflict",
  "config-error",
] as const;
export type ReportStage = (typeof reportStages)[number];

export type PipelineConfig = {
  readonly name: string;
  /** `file:line` */
  readonly definedAt: string;
  readonly manager: "independent";
  readonly precedence: Exclude<Priority, "health">;
  /** */
  readonly dequeueOnNewPatchset: boolean;
  /** I-2 */
  readonly ignoreDependencies: boolean;
  readonly triggers: readonly TriggerRule[];
  /** merge-conflict and config-error fall back to failure: already done here. */
  readonly reporters: Readonly<Record<ReportStage, readonly Reporter[]>>;
};

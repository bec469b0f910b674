/**
 * The items of a layout as people write them, checked one by one: shapes, types, bounds. What
 * one item says about another (parents, pipelines, projects) is checked in checks.ts. Kebab-case
 * stays here: layout.ts turns it into ours.
 */
import { z } from "zod";
import { limits } from "../../base/limits.ts";
import { pathNameFault } from "../../base/path-name.ts";
import { priorities } from "../../model/lease.ts";
import { reportStages } from "../../model/pipeline.ts";
import { keyTable } from "./keys.ts";
import { translateRegex } from "./regex.ts";

const name = z.string().min(1).max(200);
const seconds = z.int().min(1).max(86_400);
const command = z.string().min(1).max(16_384);

function listOf<S extends z.ZodType>(item: S, what: string) {
  return z
    .union([item, z.array(item).min(1)], `must be ${what} or a list of them`)
    .transform((value): z.output<S>[] => (Array.isArray(value) ? value : [value]));
}

const regex = z.string().transform((source, context) => {
  const translated = translateRegex(source);
  if (translated.fault === undefined) return translated.regex;
  context.addIssue({ code: "custom", message: `not a regular expression: ${translated.fault}` });
  return z.NEVER;
});

/** The one job that needs no definition: it succeeds at once (J-4). */
export const noop = "noop";

/** What a trigger may wait for; the rest of Zuul's events is `not-supported-yet`. */
export const events = ["patchset-created", "comment-added", "change-restored"] as const;
export const laterEvents = [
  "change-abandoned",
  "change-merged",
  "change-deleted",
  "draft-published",
  "ref-updated",
  "vote-deleted",
  "topic-changed",
  "hashtags-changed",
  "wip-state-changed",
  "private-state-changed",
  "reviewer-added",
  "reviewer-deleted",
  "parent-change-enqueued",
  "project-change-merged",
];
const event = z.string().superRefine((value, context) => {
  if ((events as readonly string[]).includes(value)) return;
  const later = laterEvents.includes(value);
  context.addIssue({
    code: "custom",
    params: { code: later ? "not-supported-yet" : "unknown-value" },
    message: `${later ? "is not supported yet" : "is unknown"}; allowed: ${events.join(", ")}`,
  });
});

const trigger = z
  .strictObject({
    event: listOf(event, "an event"),
    comment: listOf(regex, "a regular expression").optional(),
  })
  .refine((rule) => rule.comment === undefined || rule.event.includes("comment-added"), {
    path: ["comment"],
    message: "needs the event comment-added",
  });

const laterReporterKeys: readonly string[] = keyTable["pipeline.reporter"].later;
/** Labels and their values; nothing (`local:`) is a comment without a vote. */
const reporter = z.preprocess(
  (value) => value ?? {},
  z.record(z.string(), z.unknown()).transform((entries, context) => {
    const labels: Record<string, number> = {};
    for (const [key, value] of Object.entries(entries)) {
      if (laterReporterKeys.includes(key)) {
        context.addIssue({
          code: "custom",
          path: [key],
          params: { code: "not-supported-yet" },
          message: "is not supported yet; allowed: labels and their values",
        });
      } else if (Number.isInteger(value) && Math.abs(Number(value)) <= 2) {
        labels[key] = Number(value);
      } else {
        const message = "must be a vote, a whole number from -2 to 2";
        context.addIssue({ code: "custom", path: [key], message });
      }
    }
    return labels;
  }),
);
const reporters = z.record(z.string(), reporter);

const manager = z.string().superRefine((value, context) => {
  if (value === "independent") return;
  const later = ["dependent", "serial", "supercedent"].includes(value);
  context.addIssue({
    code: "custom",
    params: { code: later ? "not-supported-yet" : "unknown-value" },
    message: `${later ? "is not supported yet" : "is unknown"}; allowed: independent`,
  });
});

export const pipelineSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, "must be a name of a-z 0-9 _ -"),
  description: z.string().optional(),
  manager,
  precedence: z.enum(priorities.filter((priority) => priority !== "health")).default("normal"),
  trigger: z.record(z.string(), z.array(trigger).min(1)).default({}),
  ...(Object.fromEntries(reportStages.map((stage) => [stage, reporters.optional()])) as Record<
    (typeof reportStages)[number],
    z.ZodOptional<typeof reporters>
  >),
  "dequeue-on-new-patchset": z.boolean().default(true),
  "ignore-dependencies": z.boolean().default(false),
});

const node = z.strictObject({ name, label: name });
const nodes = z
  .array(node)
  .min(1)
  .refine((list) => list.length <= 1, {
    message: "more than one node a job is not supported yet",
    params: { code: "not-supported-yet" },
  });

export const nodesetSchema = z.strictObject({ name, nodes });
const inlineNodeset = z.strictObject({ name: name.optional(), nodes });

const testenv = z.strictObject({
  machines: z.int().min(1).max(limits.machinesPerTestenv).default(1),
  "memory-mib": z.int().min(1).optional(),
  cpus: z.int().min(1).optional(),
  "disk-gib": z.int().min(1).optional(),
  labels: z
    .string()
    .max(1_000)
    .refine(isLabelExpression, "must be names of a-z 0-9 . _ : - with ! && || ( )")
    .optional(),
  "lease-wait": seconds.default(limits.leaseWaitMs / 1_000),
});

const requiredProject = z.union(
  [name.transform((project) => ({ name: project })), z.strictObject({ name })],
  "must be a project's name",
);

/** Everything that a job may say and a project's inline override too. */
const jobAttributes = {
  description: z.string().optional(),
  nodeset: z.union(
    [name, inlineNodeset],
    "must be a nodeset's name, or { nodes: [{ name, label }] }",
  ),
  voting: z.boolean(),
  attempts: z.int().min(1).max(10),
  timeout: seconds,
  "post-timeout": seconds,
  "required-projects": listOf(requiredProject, "a project's name"),
  vars: z.record(z.string(), z.unknown()),
  "run-in": name,
  "pre-run": listOf(command, "a shell command"),
  run: listOf(command, "a shell command"),
  "post-run": listOf(command, "a shell command"),
  "cleanup-run": listOf(command, "a shell command"),
  testenv,
};
export const overrideSchema = z.strictObject(jobAttributes).partial();
export const jobSchema = overrideSchema.extend({
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, "must be a name of letters, digits, . _ -"),
  parent: name.nullable().optional(),
});

const projectNameSchema = z.string().superRefine((project, context) => {
  const message = pathNameFault(project);
  if (message !== undefined) context.addIssue({ code: "custom", message });
});

const jobInProject = z.union(
  [
    name.transform((job) => ({ job, override: undefined })),
    z
      .record(name, z.unknown())
      .refine((entry) => Object.keys(entry).length === 1, "must have one key, the job's name")
      .transform((entry) => ({ job: Object.keys(entry)[0]!, override: Object.values(entry)[0] })),
  ],
  "must be a job's name, or { job: { overrides } }",
);
export const projectPipelineSchema = z.strictObject({ jobs: z.array(jobInProject).default([]) });
export const projectSchema = z
  .object({ name: projectNameSchema, description: z.string().optional() })
  .catchall(projectPipelineSchema);

export type PipelineItem = z.output<typeof pipelineSchema>;
export type JobItem = z.output<typeof jobSchema>;
export type JobOverride = z.output<typeof overrideSchema>;
export type NodesetItem = z.output<typeof nodesetSchema>;

/** surface.md §6: `! && || ( )` over names. Recursive descent over the tokens; no evaluation. */
export function isLabelExpression(text: string): boolean {
  const tokens = text.match(/&&|\|\||[!()]|[a-z0-9][a-z0-9._:-]*|\S/g) ?? [];
  let at = 0;
  const operand = (depth: number): boolean => {
    while (tokens[at] === "!") at++;
    if (tokens[at] === "(") {
      at++;
      return depth < 50 && expression(depth + 1) && tokens[at++] === ")";
    }
    return /^[a-z0-9]/.test(tokens[at++] ?? "");
  };
  const expression = (depth: number): boolean => {
    if (!operand(depth)) return false;
    while (tokens[at] === "&&" || tokens[at] === "||") {
      at++;
      if (!operand(depth)) return false;
    }
    return true;
  };
  return expression(0) && at === tokens.length;
}

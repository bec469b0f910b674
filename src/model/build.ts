/**
 * Builds as they read, their states and results (ci.md §§15, 18; architecture.md: a build is a
 * saga).
 */
import { z } from "zod";
import { interruptionSchema } from "./lease.ts";

export const buildStates = [
  "waiting",
  "acquiring",
  "preparing",
  "running",
  "collecting",
  "releasing",
  "archiving",
  "reported",
] as const;
export type BuildState = (typeof buildStates)[number];

/** ci.md F-0 and F-1: those that this version can come to. */
export const buildResults = [
  "SUCCESS",
  "FAILURE",
  "TIMED_OUT",
  "RETRY",
  "RETRY_LIMIT",
  "POST_FAILURE",
  "NODE_FAILURE",
  "DISK_FULL",
  "MERGE_CONFLICT",
  "CANCELED",
  "ABORTED",
  "SKIPPED",
  "CONFIG_ERROR",
  "TE_UNAVAILABLE",
  "TE_LOST",
] as const;
export type BuildResult = (typeof buildResults)[number];

/** L-4: a place in the logs that explains a failure. `line` counts from 1. */
export const evidenceSchema = z.strictObject({
  file: z.string(),
  line: z.int(),
  text: z.string(),
  rule: z.string(),
  /** The lines around it, each cut; `from`: the first one's number. */
  context: z.strictObject({ from: z.int(), lines: z.array(z.string()) }).optional(),
});
export type Evidence = z.output<typeof evidenceSchema>;

export const buildViewSchema = z.strictObject({
  id: z.uuid(),
  buildset: z.uuid(),
  tenant: z.string(),
  change: z.int().nullable(),
  patchset: z.int().nullable(),
  project: z.string(),
  branch: z.string(),
  pipeline: z.string(),
  job: z.string(),
  state: z.enum(buildStates),
  result: z.enum(buildResults).nullable(),
  attempt: z.int(),
  maxAttempts: z.int(),
  voting: z.boolean(),
  createdAt: z.string(),
  startedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
  node: z.string().nullable(),
  nodeAddress: z.string().nullable(),
  lease: z.string().nullable(),
  te: z.string().nullable(),
  epoch: z.string().nullable(),
  /** Relative to the archive: `04/4/1/check/deploy/0a1b2c3`. */
  logsPath: z.string(),
  logsUrl: z.string(),
  interruptions: z.array(interruptionSchema),
  errorDetail: z.string().nullable(),
  evidence: z.array(evidenceSchema),
  pids: z.strictObject({ ssh: z.array(z.int()) }),
});
export type BuildView = z.output<typeof buildViewSchema>;

/** One line of a build's time line. */
export const timelineEntrySchema = z.strictObject({
  at: z.string(),
  step: z.string(),
  /** Milliseconds since the build's change was pushed, or the build was created. */
  atMs: z.number(),
  durationMs: z.number().nullable(),
  machine: z.string().optional(),
  detail: z.string().optional(),
});
export type TimelineEntry = z.output<typeof timelineEntrySchema>;

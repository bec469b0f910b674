/**
 * A job as frozen for one change (ci.md J-5): what layout hands to pipeline, build and executor.
 * Everything is decided here; nothing later looks into the layout again.
 */
import { z } from "zod";
import type { priorities } from "./lease.ts";

const command = z.string().min(1);

export const frozenJobSchema = z.strictObject({
  name: z.string(),
  /** Where the definition stands: `file:line`. */
  definedAt: z.string(),
  voting: z.boolean(),
  attempts: z.int().min(1).max(10),
  timeoutSeconds: z.int().min(1),
  postTimeoutSeconds: z.int().min(1),
  /** Zero jobs run `noop` without a node (J-4): then null. */
  node: z.strictObject({ name: z.string(), label: z.string() }).nullable(),
  testenv: z
    .strictObject({
      machines: z.int(),
      memoryMiB: z.int().nullable(),
      cpus: z.int().nullable(),
      diskGiB: z.int().nullable(),
      labels: z.string().nullable(),
      leaseWaitSeconds: z.int(),
    })
    .nullable(),
  /** The change's own project is always among them; order as written. */
  requiredProjects: z.array(z.string()),
  vars: z.record(z.string(), z.unknown()),
  /** Project in whose checkout the phases start. */
  runIn: z.string(),
  /** Phases: pre outer → inner, post and cleanup inner → outer, as flattened over parents. */
  preRun: z.array(command),
  run: z.array(command),
  postRun: z.array(command),
  cleanupRun: z.array(command),
});
export type FrozenJob = z.output<typeof frozenJobSchema>;

/** A repository as the merger prepared it (ci.md M-4, M-5, V-0 – V-3). */
export type PreparedRepo = {
  readonly project: string;
  /** Branch that the job works on in this repository, and the commit it stands at. */
  readonly branch: string;
  readonly commit: string;
  /** `refs/zuul/<branch>/Z<uuid>` where a change of the item is merged in, else null. */
  readonly zuulRef: string | null;
  /** Tip of the branch without the change: `origin/<branch>` in the workspace (M-6). */
  readonly baseCommit: string;
  readonly defaultBranch: string;
  /** All branches as frozen, name → commit. */
  readonly branches: Readonly<Record<string, string>>;
  /**
   * A commit at the nodes' door that keeps all branches and tags as frozen; its message lists
   * them, `<id> <full name>` a line. Records of older versions have none.
   */
  readonly state?: string;
  /** Why this revision, a sentence for the manifest (V-3). */
  readonly why?: string;
};

export type Priority = (typeof priorities)[number];

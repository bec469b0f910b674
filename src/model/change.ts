/**
 * Changes of the review system as they read (surface.md §5, ci.md §3).
 */
import { z } from "zod";

export const changeStatuses = ["NEW", "MERGED", "ABANDONED"] as const;

export const voteViewSchema = z.strictObject({
  label: z.string(),
  value: z.int(),
  by: z.string(),
});
export const commentViewSchema = z.strictObject({
  at: z.string(),
  by: z.string(),
  text: z.string(),
  patchset: z.int(),
});
export const patchsetViewSchema = z.strictObject({
  number: z.int(),
  commit: z.string(),
  ref: z.string(),
  uploader: z.string(),
  createdAt: z.string(),
});

export const changeViewSchema = z.strictObject({
  number: z.int(),
  project: z.string(),
  branch: z.string(),
  changeId: z.string(),
  status: z.enum(changeStatuses),
  patchset: z.int(),
  subject: z.string(),
  owner: z.string(),
  url: z.string(),
  votes: z.array(voteViewSchema),
  comments: z.array(commentViewSchema),
  patchsets: z.array(patchsetViewSchema),
  /** Numbers of open changes that are its git parents (ci.md D-1). */
  dependsOn: z.array(z.int()),
  /** Ids of its builds, newest first. */
  builds: z.array(z.string()),
});
export type ChangeView = z.output<typeof changeViewSchema>;

/** In lists: what was said is the change's own, and may be long. */
export const changeSummarySchema = changeViewSchema.omit({ comments: true });
export type ChangeSummary = z.output<typeof changeSummarySchema>;

export const commentRequestSchema = z.strictObject({ message: z.string().min(1).max(16_384) });
export const voteRequestSchema = z.strictObject({
  label: z.string().max(100),
  value: z.int().min(-2).max(2),
  message: z.string().max(16_384).optional(),
});

/** The number in a ref: `refs/changes/NN/NUMBER/PS`. */
export function changeRef(number: number, patchset: number): string {
  return `refs/changes/${String(number % 100).padStart(2, "0")}/${number}/${patchset}`;
}

/** What the CI hears of a review system; others are left out (ci.md E-2). */
export const reviewEventTypes = [
  "patchset-created",
  "comment-added",
  "change-abandoned",
  "change-restored",
  "change-merged",
] as const;

/** What the review system tells the CI (ci.md E-2, the part that exists here). */
export type ReviewEvent = {
  /** Its own sequence number in that system: deduplicates, and says what was seen last. */
  readonly seq: number;
  readonly at: string;
  readonly connection: string;
  readonly project: string;
  readonly branch: string;
  readonly change: number;
  readonly patchset: number;
  readonly by: string;
} & (
  | { readonly type: "patchset-created" }
  | { readonly type: "comment-added"; readonly comment: string }
  | { readonly type: "change-abandoned" }
  | { readonly type: "change-restored" }
  | { readonly type: "change-merged"; readonly newRev: string }
);

/**
 * CI nodes and images as they read (ci.md §19, te-host.md §17).
 */
import { z } from "zod";

export const nodeStates = [
  "requested",
  "building",
  "ready",
  "in-use",
  "used",
  "deleting",
  "gone",
  "failed",
] as const;
export type NodeState = (typeof nodeStates)[number];

/** Why a node failed that was lost when its host, or its cell, began anew: no launch failed. */
export const hostStartedAnew = "the host was started anew";

export const nodeViewSchema = z.strictObject({
  id: z.uuid(),
  label: z.string(),
  provider: z.string(),
  state: z.enum(nodeStates),
  address: z.string().nullable(),
  hostKey: z.string().nullable(),
  image: z.string().nullable(),
  build: z.string().nullable(),
  attempt: z.int(),
  createdAt: z.string(),
  readyAt: z.string().nullable(),
  detail: z.string().nullable(),
});
export type NodeView = z.output<typeof nodeViewSchema>;

export const imageViewSchema = z.strictObject({
  name: z.string(),
  host: z.string(),
  state: z.enum(["building", "ready", "failed"]),
  /** Digest of the recipe: an image is built again when it changes. */
  recipe: z.string(),
  digest: z.string().nullable(),
  sizeBytes: z.int().nullable(),
  builtAt: z.string().nullable(),
  detail: z.string().nullable(),
});
export type ImageView = z.output<typeof imageViewSchema>;

/**
 * What is durable of a node (ci.md §19): its life's body; its state is the row's.
 */
import type { LifeKind } from "../../store/store.ts";

/** A node's durable body; its state is the row's. */
export type NodeBody = {
  readonly label: string;
  readonly provider: string;
  readonly address: string | null;
  readonly hostKey: string | null;
  readonly image: string;
  readonly build: string | null;
  readonly attempt: number;
  readonly createdAt: string;
  readonly readyAt: string | null;
  readonly detail: string | null;
  /** It went when its host began anew, not by a fault of its own. Absent in rows of 0.1. */
  readonly lost?: boolean;
};

/** Search columns: a = label, b = provider, c = build. */
export const nodeLife: LifeKind<NodeBody> = {
  life: "node",
  columns: (body) => ({ a: body.label, b: body.provider, c: body.build }),
};

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
};

/** Search columns: a = label, b = provider, c = build. */
export const nodeLife: LifeKind<NodeBody> = {
  life: "node",
  columns: (body) => ({ a: body.label, b: body.provider, c: body.build }),
};

/**
 * One thing that the doctor looked at (surface.md §8), and what the looks are given.
 */

export type Row = {
  readonly name: string;
  readonly state: "ok" | "warn" | "missing";
  /** What was found. */
  readonly detail: string;
  /** Why it matters. */
  readonly why: string;
  /** The command that helps; null where nothing has to be done. */
  readonly cure: string | null;
};

export type DoctorContext = {
  /** State directory, which may not exist yet. */
  readonly state: string;
  /** Where the server is to listen: `address:port`. */
  readonly listen: readonly string[];
  readonly signal?: AbortSignal;
};

/** A row by its outcome: what is ok needs no cure. */
export function row(
  name: string,
  state: Row["state"],
  detail: string,
  why: string,
  cure: string | null,
): Row {
  return { name, state, detail, why, cure: state === "ok" ? null : cure };
}

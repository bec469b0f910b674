/**
 * Which revision each repository gets (ci.md V-0 – V-3): the tested item's own ref by its exact
 * name, else the tip of the branch, and the same for the project's default branch where it has
 * no such branch. Pure; the manifest's sentence comes with the decision.
 */
import type { PreparedRepo } from "../../model/job.ts";

/** A repository as it was frozen (M-5), and what the item put there. */
export type FrozenRepo = {
  readonly project: string;
  readonly defaultBranch: string;
  /** Branch → commit. */
  readonly branches: ReadonlyMap<string, string>;
  /** Branch → the item's merge result on it. */
  readonly merged: ReadonlyMap<string, string>;
  /** Branch → what it was when only the items ahead were merged (M-6). */
  readonly ahead: ReadonlyMap<string, string>;
  /** The commit that lists all refs as frozen. */
  readonly state: string;
};

export type Revision =
  | { readonly kind: "chosen"; readonly repo: PreparedRepo & { readonly why: string } }
  /** Nothing to stand on, in words. */
  | { readonly kind: "impossible"; readonly detail: string };

/** `refs/zuul/<branch>/Z<uuid>` (M-4), the uuid as 32 digits. */
export function zuulRef(branch: string, buildset: string): string {
  return `refs/zuul/${branch}/${zuulName(buildset)}`;
}

export function zuulName(buildset: string): string {
  return `Z${buildset.replaceAll("-", "")}`;
}

/** The revision of one repository for a job that works on `branch`. */
export function planRevision(frozen: FrozenRepo, branch: string, buildset: string): Revision {
  const { project, branches, defaultBranch, merged, ahead, state } = frozen;
  if (branch === "") return { kind: "impossible", detail: `${project}: the base branch is empty` };
  const wanted = branches.has(branch) ? branch : defaultBranch;
  const tip = branches.get(wanted);
  if (tip === undefined) {
    return {
      kind: "impossible",
      detail: `${project} has neither branch ${branch} nor its default branch ${defaultBranch}`,
    };
  }
  const own = merged.get(wanted);
  const standing = own === undefined ? `tip of ${wanted}` : `the change, merged on ${wanted}`;
  const fallback = wanted === branch ? "" : `, the default branch: there is no branch ${branch}`;
  return {
    kind: "chosen",
    repo: {
      project,
      branch: wanted,
      commit: own ?? tip,
      zuulRef: own === undefined ? null : zuulRef(wanted, buildset),
      baseCommit: ahead.get(wanted) ?? tip,
      defaultBranch,
      state,
      branches: Object.fromEntries([...branches].sort(([one], [other]) => (one < other ? -1 : 1))),
      why: `${standing}${fallback}`,
    },
  };
}

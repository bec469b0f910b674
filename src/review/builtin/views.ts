/**
 * Changes as the API shows them (surface.md §5), and as the CI's port does. What is not in the
 * change's record is joined here: comments, open parents, builds.
 */
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { changeRef, changeStatuses } from "../../model/change.ts";
import type { ChangeSummary, ChangeView } from "../../model/change.ts";
import type { ReviewChange } from "../review-port.ts";
import { currentPatchset } from "./change.ts";
import type { Change } from "./change.ts";
import { openKey } from "./changes.ts";
import type { Changes } from "./changes.ts";

export type ViewParts = {
  readonly changes: Changes;
  readonly urlOf: (change: number) => string;
  /** Ids of these changes' builds, newest first. */
  readonly buildsOf: (changes: readonly number[]) => Promise<ReadonlyMap<number, string[]>>;
};

export type ListQuery = {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly project?: string | undefined;
  readonly status?: string | undefined;
  readonly owner?: string | undefined;
};

export async function viewOf(parts: ViewParts, change: Change): Promise<ChangeView> {
  const comments = await parts.changes.comments(change.number, limits.commentsPerChange);
  const [summary] = await summariesOf(parts, [change]);
  return {
    ...summary!,
    comments: comments.map(({ at, by, text, patchset }) => ({ at, by, text, patchset })),
  };
}

/** As lists show them. However many they are, three looks into the store. */
async function summariesOf(
  { changes, urlOf, buildsOf }: ViewParts,
  of: readonly Change[],
): Promise<ChangeSummary[]> {
  const needs = await needsOf(changes, of);
  const builds = await buildsOf(of.map(({ number }) => number));
  return of.map((change) => {
    const current = currentPatchset(change);
    return {
      number: change.number,
      project: change.project,
      branch: change.branch,
      changeId: change.changeId,
      status: change.status,
      patchset: current.number,
      subject: current.subject,
      owner: change.owner,
      url: urlOf(change.number),
      votes: change.votes.map(({ label, value, by }) => ({ label, value, by })),
      patchsets: change.patchsets.map(({ number, commit, uploader, createdAt }) => ({
        number,
        commit,
        ref: changeRef(change.number, number),
        uploader,
        createdAt,
      })),
      dependsOn: needs(change).map((need) => need.change),
      builds: builds.get(change.number) ?? [],
    };
  });
}

/** Newest first; the cursor is the last one's number. */
export async function listChanges(
  parts: ViewParts,
  query: ListQuery,
): Promise<{ items: ChangeSummary[]; next: string | null }> {
  const { project, status, owner } = query;
  if (status !== undefined && !changeStatuses.some((known) => known === status)) {
    fail("bad-request", `a status is one of ${changeStatuses.join(", ")}`);
  }
  const limit = Math.max(1, Math.min(query.limit, limits.pageItems));
  const rows = await parts.changes.rows({
    limit: limit + 1,
    newestFirst: true,
    after: query.cursor === undefined ? undefined : await place(parts.changes, query.cursor),
    where: {
      ...(project === undefined ? {} : { a: project }),
      ...(status === undefined ? {} : { b: status }),
      ...(owner === undefined ? {} : { c: owner }),
    },
  });
  const items = await summariesOf(
    parts,
    rows.slice(0, limit).map((row) => row.body),
  );
  return { items, next: rows.length > limit ? String(items.at(-1)!.number) : null };
}

async function place(changes: Changes, cursor: string) {
  const row = /^[1-9][0-9]{0,9}$/.test(cursor) ? await changes.row(Number(cursor)) : undefined;
  return row ?? fail("bad-request", "the cursor is none that a list gave");
}

/** ci.md E-4: the change as the CI asks for it. */
export async function reviewChangeOf(
  parts: Pick<ViewParts, "changes" | "urlOf">,
  change: Change,
): Promise<ReviewChange> {
  const current = currentPatchset(change);
  return {
    project: change.project,
    branch: change.branch,
    number: change.number,
    changeId: change.changeId,
    status: change.status,
    owner: change.owner,
    subject: current.subject,
    url: parts.urlOf(change.number),
    patchset: current.number,
    patchsets: change.patchsets.map(({ number, commit, subject, parents }) => ({
      number,
      commit,
      ref: changeRef(change.number, number),
      subject,
      parents,
    })),
    needs: (await needsOf(parts.changes, [change]))(change),
  };
}

/** D-1: open changes that a current commit has as parents, in exactly that patchset. */
export async function needsOf(
  changes: Changes,
  of: readonly Change[],
): Promise<(change: Change) => { change: number; patchset: number }[]> {
  const parents = of.flatMap((change) =>
    currentPatchset(change).parents.map((commit) => {
      const { project, branch } = change;
      return { project, branch, commit };
    }),
  );
  const open = await changes.openByCommits(parents);
  return (change) =>
    currentPatchset(change).parents.flatMap((commit) => {
      const found = open.get(openKey(change, commit));
      return found ? [{ change: found.change.number, patchset: found.patchset }] : [];
    });
}

/** Numbers of open changes whose current commit has a patchset of this change as a parent. */
export async function neededBy(changes: Changes, number: number): Promise<number[]> {
  const change = await changes.get(number);
  const commits = new Set(change.patchsets.map((patchset) => patchset.commit));
  const open = await changes.open(change.project);
  return open
    .filter((other) => currentPatchset(other).parents.some((parent) => commits.has(parent)))
    .map((other) => other.number);
}

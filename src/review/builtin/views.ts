/**
 * Changes as the API shows them (surface.md §5), and as the CI's port does. What is not in the
 * change's record is joined here: comments, open parents, builds.
 */
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { changeRef, changeStatuses } from "../../model/change.ts";
import type { ChangeView } from "../../model/change.ts";
import type { ReviewChange } from "../review-port.ts";
import { currentPatchset } from "./change.ts";
import type { Change } from "./change.ts";
import type { Changes } from "./changes.ts";

export type ViewParts = {
  readonly changes: Changes;
  readonly urlOf: (change: number) => string;
  /** Ids of a change's builds, newest first. */
  readonly buildsOf: (change: number) => Promise<readonly string[]>;
};

export type ListQuery = {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly project?: string | undefined;
  readonly status?: string | undefined;
  readonly owner?: string | undefined;
};

export async function viewOf(parts: ViewParts, change: Change): Promise<ChangeView> {
  const { changes, urlOf, buildsOf } = parts;
  const comments = await changes.comments(change.number, limits.commentsPerChange);
  const needs = await needsOf(changes, change);
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
    comments: comments.map(({ at, by, text, patchset }) => ({ at, by, text, patchset })),
    patchsets: change.patchsets.map(({ number, commit, uploader, createdAt }) => ({
      number,
      commit,
      ref: changeRef(change.number, number),
      uploader,
      createdAt,
    })),
    dependsOn: needs.map((need) => need.change),
    builds: [...(await buildsOf(change.number))],
  };
}

/** Newest first; the cursor is the last one's number. */
export async function listChanges(
  parts: ViewParts,
  query: ListQuery,
): Promise<{ items: ChangeView[]; next: string | null }> {
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
  const items: ChangeView[] = [];
  for (const row of rows.slice(0, limit)) items.push(await viewOf(parts, row.body));
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
    needs: await needsOf(parts.changes, change),
  };
}

/** D-1: open changes that the current commit has as parents, in exactly that patchset. */
export async function needsOf(
  changes: Changes,
  change: Change,
): Promise<{ change: number; patchset: number }[]> {
  const needs: { change: number; patchset: number }[] = [];
  for (const parent of currentPatchset(change).parents) {
    const found = await changes.byCommit(change.project, change.branch, parent);
    if (found?.change.status !== "NEW") continue;
    needs.push({ change: found.change.number, patchset: found.patchset });
  }
  return needs;
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

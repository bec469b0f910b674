/**
 * What a push for review would do: which commits become changes, which become patchsets, or why
 * the push is refused. Pure; the edge (receive.ts) reads commits and known changes, and records
 * what stands here. A push is all or nothing.
 */
import type { ErrorCode } from "../../base/errors.ts";
import { findChangeId, subjectOf } from "./change-message.ts";
import type { Change } from "./change.ts";

export type PushedCommit = {
  readonly id: string;
  readonly parents: readonly string[];
  readonly message: string;
};

export type PlannedChange = {
  readonly commit: PushedCommit;
  readonly changeId: string;
  readonly subject: string;
  /** The change that gets a new patchset; undefined: a new change. */
  readonly amends: Change | undefined;
};

export type PushPlan =
  | { readonly kind: "accepted"; readonly changes: readonly PlannedChange[] }
  | {
      readonly kind: "refused";
      readonly code: ErrorCode;
      readonly sentence: string;
      readonly remedy?: string;
    };

/**
 * `commits`: those that the branch has not, parents before children. `known`: changes of this
 * project and branch by Change-Id. `hookUrl`: where the commit-msg hook is fetched from.
 */
export function planPush(
  commits: readonly PushedCommit[],
  known: ReadonlyMap<string, Change>,
  hookUrl: string,
): PushPlan {
  const seen = new Map<string, PushedCommit>();
  const changes: PlannedChange[] = [];
  for (const commit of commits) {
    const found = findChangeId(commit.message);
    if (found.kind !== "found") return withoutChangeId(commit, found, hookUrl);
    const { changeId } = found;
    const twin = seen.get(changeId);
    if (twin) {
      return refused(
        `${name(twin)} and ${name(commit)} have the same Change-Id: ` +
          "squash them, or give one of them another",
      );
    }
    seen.set(changeId, commit);
    const verdict = judge(commit, known.get(changeId));
    if (typeof verdict === "object") return verdict;
    if (verdict === "skip") continue;
    const subject = subjectOf(commit.message);
    changes.push({ commit, changeId, subject, amends: known.get(changeId) });
  }
  if (changes.length === 0) return refused("no new changes");
  return { kind: "accepted", changes };
}

/** Whether the commit is news for its change. */
function judge(commit: PushedCommit, change: Change | undefined): "take" | "skip" | PushPlan {
  if (!change) return "take";
  if (change.status === "MERGED") {
    return closed(
      `${name(commit)} belongs to change ${change.number}, which is merged`,
      "give the commit a Change-Id of its own: remove the line and amend",
    );
  }
  if (change.status === "ABANDONED") {
    return closed(
      `${name(commit)} belongs to change ${change.number}, which is abandoned`,
      `first restore it: rackyard change restore ${change.number}`,
    );
  }
  const old = change.patchsets.find((patchset) => patchset.commit === commit.id);
  if (!old) return "take";
  if (old.number === change.patchsets.length) return "skip";
  return refused(
    `${name(commit)} is patchset ${old.number} of change ${change.number}, ` +
      `which is at patchset ${change.patchsets.length}: amend the commit to go back to it`,
  );
}

function withoutChangeId(
  commit: PushedCommit,
  found: Exclude<ReturnType<typeof findChangeId>, { kind: "found" }>,
  hookUrl: string,
): PushPlan {
  if (found.kind === "above") {
    return {
      kind: "refused",
      code: "no-change-id",
      sentence: `${name(commit)}: a Change-Id was found, but above the last paragraph`,
      remedy: [
        "move its line into the last paragraph (git commit --amend):",
        `  Change-Id: ${found.changeId}`,
      ].join("\n"),
    };
  }
  if (found.kind === "several") {
    return {
      kind: "refused",
      code: "no-change-id",
      sentence: `${name(commit)} has more than one Change-Id in its last paragraph`,
      remedy: "keep one of them and amend the commit",
    };
  }
  return {
    kind: "refused",
    code: "no-change-id",
    sentence: `${name(commit)} has no Change-Id in its last paragraph`,
    remedy: [
      "install the hook that adds one, and amend the commit:",
      `  curl -fsSL --create-dirs -o "$(git rev-parse --git-path hooks)/commit-msg" ${hookUrl}`,
      '  chmod +x "$(git rev-parse --git-path hooks)/commit-msg"',
      "  git commit --amend --no-edit",
    ].join("\n"),
  };
}

function name(commit: PushedCommit): string {
  return `commit ${commit.id.slice(0, 10)} (${subjectOf(commit.message)})`;
}

function refused(sentence: string): PushPlan {
  return { kind: "refused", code: "push-refused", sentence };
}

function closed(sentence: string, remedy: string): PushPlan {
  return { kind: "refused", code: "change-closed", sentence, remedy };
}

/**
 * The life of a change, docs/specs/change.md as code: NEW, MERGED, ABANDONED, one pure step.
 * What a step refuses comes back as a sentence with its code; the edge throws it. Comments have
 * a life of their own beside this one, so that a change's record does not grow with talk.
 */
import { assertNever } from "../../base/assert.ts";
import type { ErrorCode } from "../../base/errors.ts";
import type { LifeKind } from "../../store/store.ts";
import type { ChangeStatus } from "../review-port.ts";

export type Patchset = {
  readonly number: number;
  readonly commit: string;
  readonly parents: readonly string[];
  readonly subject: string;
  readonly uploader: string;
  readonly createdAt: string;
};

export type Vote = { readonly label: string; readonly value: number; readonly by: string };

export type Change = {
  readonly number: number;
  readonly project: string;
  readonly branch: string;
  readonly changeId: string;
  readonly status: ChangeStatus;
  readonly owner: string;
  /** Oldest first; the last one is current. */
  readonly patchsets: readonly Patchset[];
  /** Of the current patchset: a new one starts without votes. */
  readonly votes: readonly Vote[];
  /** The branch's tip that contained it. */
  readonly mergedAs: string | null;
};

export type ChangeStep =
  | {
      readonly event: "create";
      readonly number: number;
      readonly project: string;
      readonly branch: string;
      readonly changeId: string;
      readonly patchset: Omit<Patchset, "number">;
    }
  | { readonly event: "amend"; readonly patchset: Omit<Patchset, "number"> }
  | { readonly event: "vote"; readonly votes: readonly Vote[] }
  | { readonly event: "comment" }
  | { readonly event: "abandon" }
  | { readonly event: "restore" }
  | { readonly event: "merge"; readonly tip: string };

export type StepResult =
  | { readonly kind: "stepped"; readonly change: Change }
  /** Nothing to do: it is so already, or does not matter in this state. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "refused"; readonly code: ErrorCode; readonly sentence: string };

/** `a` project, `b` status, `c` owner, `n` number. */
export const changeLife: LifeKind<Change> = {
  life: "change",
  columns: (change) => ({
    a: change.project,
    b: change.status,
    c: change.owner,
    n: change.number,
  }),
};

/** Ids sort as numbers do. */
export const changeLifeId = (number: number): string => String(number).padStart(10, "0");

export function currentPatchset(change: Change): Patchset {
  return change.patchsets.at(-1)!;
}

/** One step of the table in docs/specs/change.md. `change` is undefined before its creation. */
export function stepChange(change: Change | undefined, step: ChangeStep): StepResult {
  if (step.event === "create") return change ? exists(change) : stepped(create(step));
  if (!change) return { kind: "refused", code: "not-found", sentence: "there is no such change" };
  switch (change.status) {
    case "NEW":
      return stepNew(change, step);
    case "MERGED":
      return stepMerged(change, step);
    case "ABANDONED":
      return stepAbandoned(change, step);
    default:
      return assertNever(change.status);
  }
}

type LaterStep = Exclude<ChangeStep, { event: "create" }>;

function stepNew(change: Change, step: LaterStep): StepResult {
  switch (step.event) {
    case "amend": {
      const patchset = { ...step.patchset, number: change.patchsets.length + 1 };
      return stepped({ ...change, patchsets: [...change.patchsets, patchset], votes: [] });
    }
    case "vote":
      return stepped({ ...change, votes: withVotes(change.votes, step.votes) });
    case "comment":
      return { kind: "unchanged" };
    case "abandon":
      return stepped({ ...change, status: "ABANDONED" });
    case "restore":
      return refused("conflict", `change ${change.number} is open: there is nothing to restore`);
    case "merge":
      return stepped({ ...change, status: "MERGED", mergedAs: step.tip });
    default:
      return assertNever(step);
  }
}

function stepMerged(change: Change, step: LaterStep): StepResult {
  switch (step.event) {
    case "comment":
    case "merge":
      return { kind: "unchanged" };
    case "amend":
      return refused(
        "change-closed",
        `change ${change.number} is merged: give the new commit a Change-Id of its own`,
      );
    case "vote":
    case "abandon":
    case "restore":
      return refused("change-closed", `change ${change.number} is merged`);
    default:
      return assertNever(step);
  }
}

function stepAbandoned(change: Change, step: LaterStep): StepResult {
  switch (step.event) {
    case "comment":
    case "merge":
      return { kind: "unchanged" };
    case "restore":
      return stepped({ ...change, status: "NEW" });
    case "amend":
    case "vote":
      return refused(
        "change-closed",
        `change ${change.number} is abandoned: first restore it with ` +
          `rackyard change restore ${change.number}`,
      );
    case "abandon":
      return refused("change-closed", `change ${change.number} is abandoned already`);
    default:
      return assertNever(step);
  }
}

function create(step: Extract<ChangeStep, { event: "create" }>): Change {
  return {
    number: step.number,
    project: step.project,
    branch: step.branch,
    changeId: step.changeId,
    status: "NEW",
    owner: step.patchset.uploader,
    patchsets: [{ ...step.patchset, number: 1 }],
    votes: [],
    mergedAs: null,
  };
}

/** One vote a person and label: the last one; 0 takes it back. */
function withVotes(votes: readonly Vote[], cast: readonly Vote[]): Vote[] {
  const same = (one: Vote, other: Vote): boolean =>
    one.label === other.label && one.by === other.by;
  const kept = votes.filter((vote) => !cast.some((other) => same(vote, other)));
  return [...kept, ...cast.filter((vote) => vote.value !== 0)];
}

function exists(change: Change): StepResult {
  return refused("conflict", `change ${change.number} exists already`);
}

function stepped(change: Change): StepResult {
  return { kind: "stepped", change };
}

function refused(code: ErrorCode, sentence: string): StepResult {
  return { kind: "refused", code, sentence };
}

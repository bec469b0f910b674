/**
 * What people and the CI do to a change once it is there: comment, vote, abandon, restore,
 * report. Each act: who may (labels.ts), what it makes of the change (change.ts), one record.
 */
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Caller } from "../../model/identity.ts";
import type { ReportOutcome, ReviewReport } from "../review-port.ts";
import { currentPatchset, stepChange } from "./change.ts";
import type { Change, ChangeStep } from "./change.ts";
import type { Changes, Comment, Entry } from "./changes.ts";
import { checkOwner, checkRole, checkVote, checkVoter, ciAccount } from "./labels.ts";
import type { EventFacts } from "./review-events.ts";

export type Verdicts = {
  comment(number: number, message: string, by: Caller): Promise<void>;
  vote(
    number: number,
    vote: { label: string; value: number; message?: string | undefined },
    by: Caller,
  ): Promise<void>;
  abandon(number: number, by: Caller): Promise<void>;
  restore(number: number, by: Caller): Promise<void>;
  report(report: ReviewReport): Promise<ReportOutcome>;
};

export function openVerdicts(changes: Changes, connection: string): Verdicts {
  /** Decides and records while nobody else acts on the change's project. */
  async function act(number: number, decide: (change: Change) => Entry[]): Promise<void> {
    const { project } = await changes.get(number);
    await changes.inTurn(project, async () => {
      const entries = decide(await changes.get(number));
      if (entries.length > 0) await changes.record(entries);
    });
  }

  return {
    comment: (number, message, by) =>
      act(number, (change) => {
        checkRole(by, "comment");
        const comment = commentOf(change, by.name, message, null);
        const facts = eventFacts(connection, change, by.name);
        return [{ comment, tell: { ...facts, type: "comment-added", comment: comment.text } }];
      }),
    vote: (number, vote, by) =>
      act(number, (change) => {
        checkVote(vote.label, vote.value);
        checkVoter(vote.label, by);
        const cast = { label: vote.label, value: vote.value, by: by.name };
        const step = entryStep(change, { event: "vote", votes: [cast] });
        const text = vote.message ?? "";
        const facts = eventFacts(connection, change, by.name);
        return [
          {
            ...step,
            ...(text === "" ? {} : { comment: commentOf(change, by.name, text, null) }),
            tell: { ...facts, type: "comment-added", comment: text },
          },
        ];
      }),
    abandon: (number, by) =>
      act(number, (change) => {
        checkOwner(by, change.owner, "abandon");
        const tell = {
          ...eventFacts(connection, change, by.name),
          type: "change-abandoned",
        } as const;
        return [{ ...entryStep(change, { event: "abandon" }), tell }];
      }),
    restore: (number, by) =>
      act(number, (change) => {
        checkOwner(by, change.owner, "restore");
        const tell = {
          ...eventFacts(connection, change, by.name),
          type: "change-restored",
        } as const;
        return [{ ...entryStep(change, { event: "restore" }), tell }];
      }),
    report: (report) => takeReport(changes, report),
  };
}

/**
 * votes are set on the current patchset of an open change, and are else left out and named;
 * the message stays in any case. The same key a second time does nothing.
 */
async function takeReport(changes: Changes, report: ReviewReport): Promise<ReportOutcome> {
  const { project } = await changes.get(report.change);
  if (project !== report.project) {
    fail("not-found", `change ${report.change} is not of project ${report.project}`);
  }
  return changes.inTurn(project, async () => {
    const key = `review/report ${report.idempotencyKey}`;
    if (await changes.marked(key)) return { applied: false, labelsDropped: [] };
    const change = await changes.get(report.change);
    const current = change.status === "NEW" && currentPatchset(change).number === report.patchset;
    const votes = current ? report.votes.filter((vote) => isVote(vote)) : [];
    const dropped = report.votes.filter((vote) => !votes.includes(vote)).map((vote) => vote.label);
    const cast = votes.map(({ label, value }) => ({ label, value, by: ciAccount }));
    const comment = {
      ...commentOf(change, ciAccount, report.message, report.tag),
      patchset: report.patchset,
    };
    const step = cast.length > 0 ? entryStep(change, { event: "vote", votes: cast }) : {};
    await changes.record([{ ...step, comment }], new Map([[key, "done"]]));
    return { applied: true, labelsDropped: dropped };
  });
}

function isVote(vote: { label: string; value: number }): boolean {
  try {
    checkVote(vote.label, vote.value);
    return true;
  } catch {
    return false;
  }
}

/** What the step makes of the change; a refusal is thrown. */
export function entryStep(change: Change, step: ChangeStep): Pick<Entry, "step"> {
  const result = stepChange(change, step);
  if (result.kind === "refused") fail(result.code, result.sentence);
  if (result.kind === "unchanged") return {};
  return { step: { event: step.event, from: change.status, to: result.change } };
}

/** What every event of a change tells. */
export function eventFacts(
  connection: string,
  change: Change,
  by: string,
): Omit<EventFacts, "type" | "comment" | "newRev"> {
  return {
    connection,
    project: change.project,
    branch: change.branch,
    change: change.number,
    patchset: currentPatchset(change).number,
    by,
  };
}

export function commentOf(change: Change, by: string, text: string, tag: string | null): Comment {
  return {
    change: change.number,
    patchset: currentPatchset(change).number,
    by,
    text: cutText(text),
    tag,
  };
}

/** A text that is too long ends with a line that says so. */
function cutText(text: string): string {
  const bytes = Buffer.from(text, "utf8");
  if (bytes.length <= limits.commentBytes) return text;
  const note = `\n… (${bytes.length} bytes, cut)`;
  const kept = bytes.subarray(0, limits.commentBytes - Buffer.byteLength(note)).toString("utf8");
  return kept.replace(/\uFFFD+$/, "") + note;
}

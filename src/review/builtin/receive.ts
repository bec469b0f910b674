/**
 * What a push does to a project: for `refs/for/<branch>` changes and patchsets, for `refs/heads/*`
 * (operators only) the branch itself, and nothing else. First asked while git still keeps the
 * objects apart (`check`: a refused push leaves nothing behind), then done (`apply`): numbers,
 * refs, and last the record, so that what is recorded can be fetched, and after a crash the same
 * push either makes the change or finds it.
 */
import { fail, isRackyardError } from "../../base/errors.ts";
import type { RackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Git, GitOptions } from "../../git/git-command.ts";
import { isBranchName, isObjectId, isZeroId } from "../../git/project-name.ts";
import type { Repositories } from "../../git/repositories.ts";
import { areRelated, commitsBetween, readBranches, setRefs } from "../../git/repository.ts";
import { changeRef } from "../../model/change.ts";
import type { Caller } from "../../model/identity.ts";
import { findChangeId } from "./change-message.ts";
import { currentPatchset, stepChange } from "./change.ts";
import type { Change } from "./change.ts";
import type { Changes, Entry } from "./changes.ts";
import { checkRole, mayPushDirectly } from "./labels.ts";
import { planPush } from "./push-plan.ts";
import type { PlannedChange } from "./push-plan.ts";
import { eventFacts } from "./verdicts.ts";

export type PushCommand = { readonly from: string; readonly to: string; readonly ref: string };

/** Who pushes where. */
export type Push = { readonly project: string; readonly caller: Caller };

export type CommandAnswer =
  | { readonly kind: "ok"; readonly lines: readonly string[] }
  | { readonly kind: "refused"; readonly error: RackyardError };

export type Receive = {
  /** Throws what is wrong with the push; `env` shows git the objects it keeps apart. */
  check(push: Push, commands: readonly PushCommand[], env: Record<string, string>): Promise<void>;
  /** Does one command for `refs/for/…`; what the world refuses comes back. */
  apply(push: Push, command: PushCommand): Promise<CommandAnswer>;
};

const FOR = "refs/for/";
const HEADS = "refs/heads/";

export type ReceiveParts = {
  readonly git: Git;
  readonly repositories: Repositories;
  readonly changes: Changes;
  readonly connection: string;
  readonly urlOf: (change: number) => string;
  readonly hookUrl: () => string;
  readonly now: () => string;
};

export function openReceive(parts: ReceiveParts): Receive {
  return {
    async check(push, commands, env) {
      checkRole(push.caller, "push");
      if (commands.length > limits.refsPerPush) {
        fail("push-refused", `more than ${limits.refsPerPush} refs in one push`);
      }
      let commits = 0;
      for (const command of commands) {
        if (!isObjectId(command.from) || !isObjectId(command.to)) {
          fail("push-refused", `${command.ref}: not an object's name`);
        }
        if (command.ref.startsWith(FOR)) {
          commits += (await plan(parts, push.project, command, { env })).length;
        } else {
          await checkDirect(parts, push, command);
        }
      }
      if (commits > limits.commitsPerPush) {
        fail("push-refused", `more than ${limits.commitsPerPush} new changes in one push`);
      }
    },
    async apply(push, command) {
      try {
        const lines = await parts.changes.inTurn(push.project, () => take(parts, push, command));
        return { kind: "ok", lines };
      } catch (error) {
        if (!isRackyardError(error)) throw error;
        return { kind: "refused", error };
      }
    },
  };
}

/** A branch itself: an operator's act, and no branch goes away under open changes. */
async function checkDirect(parts: ReceiveParts, push: Push, command: PushCommand): Promise<void> {
  const branch = command.ref.slice(HEADS.length);
  if (!command.ref.startsWith(HEADS)) {
    fail("push-refused", `${command.ref}: push to refs/for/<branch>, for review`);
  }
  if (!isBranchName(branch)) fail("push-refused", `${branch} is no name for a branch here`);
  if (!mayPushDirectly(push.caller)) {
    fail("push-refused", `${push.caller.name} may not push to branch ${branch} itself`, {
      remedy: `push for review: git push … HEAD:refs/for/${branch}`,
    });
  }
  if (!isZeroId(command.to)) return;
  const open = (await parts.changes.open(push.project)).filter((one) => one.branch === branch);
  if (open.length > 0) {
    const numbers = open.map((change) => change.number).join(", ");
    fail("push-refused", `branch ${branch} has open changes: ${numbers}`);
  }
}

/** What the command would do; throws where it is refused. */
async function plan(
  parts: ReceiveParts,
  project: string,
  command: PushCommand,
  options: GitOptions = {},
): Promise<readonly PlannedChange[]> {
  const branch = command.ref.slice(FOR.length);
  if (isZeroId(command.to)) fail("push-refused", `${command.ref}: there is nothing to delete`);
  if (branch.includes("%")) fail("push-refused", `options after % are not understood: ${branch}`);
  const repository = parts.repositories.path(project);
  const branches = await readBranches(parts.git, repository);
  const base = branches.get(branch);
  if (base === undefined) {
    const names = [...branches.keys()].slice(0, 10).join(", ");
    fail("push-refused", `project ${project} has no branch ${branch}`, {
      remedy:
        names === ""
          ? `an admin or operator pushes its first content: git push … HEAD:refs/heads/${branch}`
          : `its branches: ${names}`,
    });
  }
  if (!(await areRelated(parts.git, repository, base, command.to, options))) {
    fail("push-refused", `the commit shares no history with branch ${branch}`, {
      remedy: `base the work on the branch: git rebase --onto <its tip> …`,
    });
  }
  const query = { base, tip: command.to, most: limits.commitsPerPush };
  const commits = await commitsBetween(parts.git, repository, query, options);
  const known = new Map<string, Change>();
  for (const commit of commits) {
    const found = findChangeId(commit.message);
    if (found.kind !== "found") continue;
    const change = await parts.changes.byChangeId(project, branch, found.changeId);
    if (change) known.set(found.changeId, change);
  }
  const planned = planPush(commits, known, parts.hookUrl());
  if (planned.kind === "accepted") return planned.changes;
  return fail(
    planned.code,
    planned.sentence,
    planned.remedy === undefined ? {} : { remedy: planned.remedy },
  );
}

/** In the project's turn: makes the changes and says so, two lines each (surface.md §6). */
async function take(parts: ReceiveParts, push: Push, command: PushCommand): Promise<string[]> {
  const branch = command.ref.slice(FOR.length);
  const planned = await plan(parts, push.project, command);
  const created = planned.filter((one) => !one.amends).length;
  let next = created > 0 ? await parts.changes.reserveNumbers(created) : 0;
  const entries: Entry[] = [];
  const refs = new Map<string, string>();
  for (const one of planned) {
    const change = changeAfter(one, {
      number: one.amends ? one.amends.number : next++,
      project: push.project,
      branch,
      uploader: push.caller.name,
      at: parts.now(),
    });
    const tell = {
      ...eventFacts(parts.connection, change, push.caller.name),
      type: "patchset-created",
    } as const;
    const from = one.amends?.status ?? null;
    entries.push({ step: { event: one.amends ? "amend" : "create", from, to: change }, tell });
    refs.set(changeRef(change.number, change.patchsets.length), one.commit.id);
  }
  await setRefs(parts.git, parts.repositories.path(push.project), refs);
  await parts.changes.record(entries);
  return entries.flatMap(({ step }) => {
    const change = step!.to;
    const { number, subject } = currentPatchset(change);
    return [
      `change ${change.number} patchset ${number}: ${subject}`,
      `  ${parts.urlOf(change.number)}`,
    ];
  });
}

function changeAfter(
  one: PlannedChange,
  facts: { number: number; project: string; branch: string; uploader: string; at: string },
): Change {
  const patchset = {
    commit: one.commit.id,
    parents: one.commit.parents,
    subject: one.subject,
    uploader: facts.uploader,
    createdAt: facts.at,
  };
  const { number, project, branch } = facts;
  const result = one.amends
    ? stepChange(one.amends, { event: "amend", patchset })
    : stepChange(undefined, {
        event: "create",
        number,
        project,
        branch,
        changeId: one.changeId,
        patchset,
      });
  if (result.kind === "stepped") return result.change;
  return fail("change-closed", result.kind === "refused" ? result.sentence : "nothing changed");
}

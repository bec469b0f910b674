/**
 * A change enters its branch because the CI says so (ci.md G, P-4): whether it may, and the merge
 * itself. The branch is written only as it was looked at; the change is marked afterwards by who
 * looks at the branches (settle.ts), so that a kill between the two is mended by the next look.
 */
import { fail } from "../../base/errors.ts";
import type { Git } from "../../git/git-command.ts";
import { withAttributes } from "../../git/merge-attributes.ts";
import type { Repositories } from "../../git/repositories.ts";
import {
  commitTimes,
  commitTree,
  mergeTrees,
  moveRef,
  readRefs,
  relationOf,
} from "../../git/repository.ts";
import type { MergeAnswer, SubmitOutcome } from "../review-port.ts";
import { currentPatchset } from "./change.ts";
import type { Change } from "./change.ts";
import type { Changes } from "./changes.ts";
import { needsOf } from "./views.ts";

export type SubmitParts = {
  readonly git: Git;
  readonly repositories: Repositories;
  readonly changes: Changes;
  /** Marks what the branches contain now. */
  readonly settle: (project: string) => Promise<void>;
};

export async function canMerge(
  { changes }: Pick<SubmitParts, "changes">,
  number: number,
  patchset: number,
): Promise<MergeAnswer> {
  const change = await changes.get(number);
  const why = await obstacle(changes, change, patchset);
  return why === undefined ? { can: true } : { can: false, why };
}

async function obstacle(
  changes: Changes,
  change: Change,
  patchset: number,
): Promise<string | undefined> {
  const { number } = change;
  if (change.status !== "NEW") return `change ${number} is ${change.status.toLowerCase()}`;
  const current = currentPatchset(change).number;
  if (patchset !== current) return `patchset ${patchset} is not the current one, ${current}`;
  const veto = change.votes.find((vote) => vote.value <= -2);
  if (veto) return `${veto.by} voted ${veto.label} ${veto.value}`;
  const [need] = (await needsOf(changes, [change]))(change);
  return need && `change ${need.change}, which it stands on, is not merged`;
}

export async function submitChange(
  parts: SubmitParts,
  number: number,
  patchset: number,
): Promise<SubmitOutcome> {
  const { changes, settle } = parts;
  const { project } = await changes.get(number);
  const outcome = await changes.inTurn(project, async (): Promise<SubmitOutcome> => {
    const change = await changes.get(number);
    if (change.status === "MERGED" && change.mergedAs !== null) {
      return { kind: "submitted", commit: change.mergedAs };
    }
    const why = await obstacle(changes, change, patchset);
    return why === undefined ? enter(parts, change) : { kind: "refused", why };
  });
  if (outcome.kind === "submitted") await settle(project);
  return outcome;
}

/** In the project's turn. Operators write branches beside it: then the caller comes again. */
async function enter(parts: SubmitParts, change: Change): Promise<SubmitOutcome> {
  const { git } = parts;
  const repository = parts.repositories.path(change.project);
  const ref = `refs/heads/${change.branch}`;
  const tip = (await readRefs(git, repository, [ref])).get(ref);
  if (tip === undefined) return { kind: "refused", why: `there is no branch ${change.branch}` };
  const { commit, number } = currentPatchset(change);
  const relation = await relationOf(git, repository, tip, commit);
  if (relation === "contains") return { kind: "submitted", commit: tip };
  if (relation === "unrelated") {
    return { kind: "refused", why: `it shares no history with branch ${change.branch}` };
  }
  let to = commit;
  if (relation === "diverged") {
    const outcome = await withAttributes(git, repository, tip, (workTree) =>
      mergeTrees(git, repository, { ours: tip, theirs: commit, workTree }),
    );
    if (outcome.kind === "conflict") {
      return { kind: "refused", why: `conflicts in ${outcome.files.join(", ")}` };
    }
    const parents = [tip, commit];
    to = await commitTree(git, repository, {
      tree: outcome.tree,
      parents,
      message: `Merge change ${change.number} patchset ${number} into ${change.branch}\n`,
      atSeconds: Math.max(...(await commitTimes(git, repository, parents))),
    });
  }
  if (await moveRef(git, repository, ref, { from: tip, to })) {
    return { kind: "submitted", commit: to };
  }
  return fail("conflict", `branch ${change.branch} was written meanwhile: submit again`);
}

/**
 * After a branch was written: an open change whose commit it now contains is MERGED, and a
 * project's first branch becomes its default. Looks at what is, takes no input: after a crash
 * the next look does what the last one did not.
 */
import type { Log } from "../../base/log.ts";
import type { Git } from "../../git/git-command.ts";
import type { Repositories } from "../../git/repositories.ts";
import { readBranches, readDefaultBranch, readRefs } from "../../git/repository.ts";
import { changeRef } from "../../model/change.ts";
import { stepChange } from "./change.ts";
import type { Change } from "./change.ts";
import type { Changes, Entry } from "./changes.ts";
import { ciAccount } from "./labels.ts";
import { eventFacts } from "./verdicts.ts";

export type SettleParts = {
  readonly git: Git;
  readonly repositories: Repositories;
  readonly changes: Changes;
  readonly connection: string;
  readonly log: Log;
};

/** Brings a project's changes into line with its branches; `by`: whose push it was, if known. */
export async function settleProject(
  parts: SettleParts,
  project: string,
  by: string = ciAccount,
): Promise<void> {
  const { git, repositories, changes, connection } = parts;
  if (!repositories.has(project)) return;
  const repository = repositories.path(project);
  await changes.inTurn(project, async () => {
    const branches = await readBranches(git, repository);
    await settleDefaultBranch(parts, repository, branches);
    const open = await changes.open(project);
    for (const [branch, mine] of Map.groupBy(open, (change) => change.branch)) {
      const tip = branches.get(branch);
      if (tip === undefined) continue;
      const contained = await readRefs(git, repository, [`--merged=${tip}`, "refs/changes/"]);
      const merged = mine.filter((change) => isContained(change, contained));
      const entries = merged.flatMap((change) => mergeEntry(connection, change, tip, by));
      if (entries.length > 0) await changes.record(entries);
    }
  });
}

function isContained(change: Change, refs: ReadonlyMap<string, string>): boolean {
  return change.patchsets.some(
    (patchset) => refs.get(changeRef(change.number, patchset.number)) === patchset.commit,
  );
}

function mergeEntry(connection: string, change: Change, tip: string, by: string): Entry[] {
  const result = stepChange(change, { event: "merge", tip });
  if (result.kind !== "stepped") return [];
  const tell = {
    ...eventFacts(connection, change, by),
    type: "change-merged",
    newRev: tip,
  } as const;
  return [{ step: { event: "merge", from: change.status, to: result.change }, tell }];
}

/** HEAD names a branch that is there, as soon as there is one. */
async function settleDefaultBranch(
  parts: SettleParts,
  repository: string,
  branches: ReadonlyMap<string, string>,
): Promise<void> {
  const [first] = branches.keys();
  if (first === undefined || branches.has(await readDefaultBranch(parts.git, repository))) return;
  const chosen = ["main", "master"].find((name) => branches.has(name)) ?? first;
  await parts.git.run(repository, ["symbolic-ref", "HEAD", `refs/heads/${chosen}`]);
  parts.log.info({ repository, branch: chosen }, "review: the default branch is set");
}

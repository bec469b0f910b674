import { describe, expect, test } from "vitest";
import { stepChange } from "./change.ts";
import type { Change, ChangeStep } from "./change.ts";
import { planPush } from "./push-plan.ts";
import type { PushedCommit } from "./push-plan.ts";

const HOOK = "http://ci.example/git/hooks/commit-msg";
const id = (n: number): string => `I${String(n).padStart(40, "0")}`;
const commit = (n: number, changeId: string | null = id(n), name = `c${n}`): PushedCommit => ({
  id: Buffer.from(name).toString("hex").padEnd(40, "0"),
  parents: [],
  message: changeId === null ? `Subject ${n}\n` : `Subject ${n}\n\nChange-Id: ${changeId}\n`,
});

function changeOf(number: number, commits: PushedCommit[], ...later: ChangeStep[]): Change {
  const patchset = (one: PushedCommit) => ({
    commit: one.id,
    parents: [],
    subject: "s",
    uploader: "dora",
    createdAt: "",
  });
  const [first, ...rest] = commits;
  const made: ChangeStep[] = [
    {
      event: "create",
      number,
      project: "app",
      branch: "master",
      changeId: id(number),
      patchset: patchset(first!),
    },
    ...rest.map((one) => ({ event: "amend" as const, patchset: patchset(one) })),
    ...later,
  ];
  let change: Change | undefined;
  for (const step of made) {
    const result = stepChange(change, step);
    if (result.kind === "stepped") change = result.change;
  }
  return change!;
}

const known = (...changes: Change[]) => new Map(changes.map((one) => [one.changeId, one]));
const planned = (commits: PushedCommit[], changes: Change[] = []) => {
  const plan = planPush(commits, known(...changes), HOOK);
  return plan.kind === "refused"
    ? plan
    : plan.changes.map((one) => [one.changeId, one.amends?.number]);
};

describe("what a push would do", () => {
  test("D-1 each new commit is a change, an amended one a patchset, the rest is passed by", () => {
    expect(planned([commit(1), commit(2)])).toEqual([
      [id(1), undefined],
      [id(2), undefined],
    ]);
    const changes = [changeOf(1, [commit(1)]), changeOf(2, [commit(2)])];
    const series = [commit(1), commit(2, id(2), "c2b"), commit(3)];
    expect(planned(series, changes)).toEqual([
      [id(2), 2],
      [id(3), undefined],
    ]);
  });

  test("surface.md §6 without Change-Id: the command that installs the hook", () => {
    const plan = planPush([commit(1, null)], known(), HOOK);
    expect(plan).toMatchObject({ kind: "refused", code: "no-change-id" });
    expect((plan as { remedy: string }).remedy).toContain(HOOK);
  });

  const merge: ChangeStep = { event: "merge", tip: "" };
  test.each<[string, PushedCommit[], Change[], RegExp]>([
    ["nothing", [], [], /^no new changes$/],
    ["what is there", [commit(1)], [changeOf(1, [commit(1)])], /^no new changes$/],
    ["one id twice", [commit(1), commit(2, id(1))], [], /have the same Change-Id/],
    ["merged", [commit(1, id(1), "x")], [changeOf(1, [commit(1)], merge)], /which is merged/],
    [
      "abandoned, even unchanged",
      [commit(1)],
      [changeOf(1, [commit(1)], { event: "abandon" })],
      /which is abandoned/,
    ],
    [
      "an earlier patchset",
      [commit(1)],
      [changeOf(1, [commit(1), commit(1, id(1), "y")])],
      /is patchset 1 of change 1, which is at patchset 2/,
    ],
  ])("refused: %s", (_, commits, changes, sentence) => {
    expect(planned(commits, changes)).toMatchObject({
      kind: "refused",
      sentence: expect.stringMatching(sentence),
    });
  });
});

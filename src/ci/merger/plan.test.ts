import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planRevision, zuulRef } from "./plan.ts";

const BUILDSET = "0a1b2c3d-0000-4000-8000-000000000000";
const MASTER = "a".repeat(40);
const STABLE = "b".repeat(40);
const ON_MASTER = "c".repeat(40);
const ON_STABLE = "d".repeat(40);

type Row = {
  situation: string;
  branch: string;
  branches: Record<string, string>;
  merged: Record<string, string>;
  commit: string;
  ref: string | null;
  why: RegExp;
};

const both = { master: MASTER, "stable/x": STABLE };
const zuulMaster = zuulRef("master", BUILDSET);
const zuulStable = zuulRef("stable/x", BUILDSET);

// ci.md §21, V-2; `branch` is the job's: the change's, or an override.
const rows: Row[] = [
  {
    situation: "change on master, project in queue",
    branch: "master",
    branches: both,
    merged: { master: ON_MASTER },
    commit: ON_MASTER,
    ref: zuulMaster,
    why: /^the change, merged on master$/,
  },
  {
    situation: "change on master; project has a queued change only on stable",
    branch: "master",
    branches: both,
    merged: { "stable/x": ON_STABLE },
    commit: MASTER,
    ref: null,
    why: /^tip of master$/,
  },
  {
    situation: "change on stable; project has only master, and queued master changes",
    branch: "stable/x",
    branches: { master: MASTER },
    merged: { master: ON_MASTER },
    commit: ON_MASTER,
    ref: zuulMaster,
    why: /merged on master, the default branch: there is no branch stable\/x$/,
  },
  {
    situation: "change on stable; project not in queue, has stable",
    branch: "stable/x",
    branches: both,
    merged: {},
    commit: STABLE,
    ref: null,
    why: /^tip of stable\/x$/,
  },
  {
    situation: "change on stable; project not in queue, no stable",
    branch: "stable/x",
    branches: { master: MASTER },
    merged: {},
    commit: MASTER,
    ref: null,
    why: /^tip of master, the default branch/,
  },
  {
    situation: "per-project override to master, not in queue",
    branch: "master",
    branches: both,
    merged: {},
    commit: MASTER,
    ref: null,
    why: /^tip of master$/,
  },
  {
    situation: "job override to stable on a master change, stable ref made",
    branch: "stable/x",
    branches: both,
    merged: { master: ON_MASTER, "stable/x": ON_STABLE },
    commit: ON_STABLE,
    ref: zuulStable,
    why: /^the change, merged on stable\/x$/,
  },
  {
    situation: "job override to stable on a master change, no stable ref",
    branch: "stable/x",
    branches: both,
    merged: { master: ON_MASTER },
    commit: STABLE,
    ref: null,
    why: /^tip of stable\/x$/,
  },
  {
    situation: "job override to stable on a master change, no stable branch",
    branch: "stable/x",
    branches: { master: MASTER },
    merged: { master: ON_MASTER },
    commit: ON_MASTER,
    ref: zuulMaster,
    why: /the default branch/,
  },
];

describe("V-2 which revision a repository gets", () => {
  test.each(rows)("V-2 $situation", (row) => {
    const revision = planRevision(
      {
        project: "app",
        defaultBranch: "master",
        branches: new Map(Object.entries(row.branches)),
        merged: new Map(Object.entries(row.merged)),
        ahead: new Map(),
        state: "5".repeat(40),
      },
      row.branch,
      BUILDSET,
    );
    expect(revision).toMatchObject({
      kind: "chosen",
      repo: { commit: row.commit, zuulRef: row.ref, why: expect.stringMatching(row.why) },
    });
  });

  test("V-2 an empty base branch is an error", () => {
    const branches = new Map([["master", MASTER]]);
    const frozen = {
      project: "app",
      defaultBranch: "master",
      branches,
      merged: new Map(),
      ahead: new Map(),
      state: "5".repeat(40),
    };
    expect(planRevision(frozen, "", BUILDSET)).toMatchObject({ kind: "impossible" });
  });

  test("V-3 the default branch is the server's, not the word master", () => {
    const branches = new Map([
      ["main", MASTER],
      ["master", STABLE],
    ]);
    const frozen = {
      project: "app",
      defaultBranch: "main",
      branches,
      merged: new Map(),
      ahead: new Map(),
      state: "5".repeat(40),
    };
    expect(planRevision(frozen, "stable/x", BUILDSET)).toMatchObject({
      repo: { branch: "main", commit: MASTER },
    });
  });

  test("V-3 a branch is found by its whole name", () => {
    const branches = new Map([
      ["master", MASTER],
      ["stable/kilo-eol", STABLE],
    ]);
    const frozen = {
      project: "app",
      defaultBranch: "master",
      branches,
      merged: new Map(),
      ahead: new Map(),
      state: "5".repeat(40),
    };
    expect(planRevision(frozen, "stable/kilo", BUILDSET)).toMatchObject({
      repo: { branch: "master" },
    });
  });

  test("V-1 a ref of the item always wins over the tip of its branch, and none else does", () => {
    const name = fc.constantFrom("master", "stable/x", "stable/y", "dev");
    const commits = fc.dictionary(name, fc.constantFrom(MASTER, STABLE));
    fc.assert(
      fc.property(commits, commits, name, (branches, merged, branch) => {
        const frozen = {
          project: "app",
          defaultBranch: "master",
          branches: new Map(Object.entries(branches)),
          merged: new Map(Object.entries(merged)),
          ahead: new Map(),
          state: "5".repeat(40),
        };
        const revision = planRevision(frozen, branch, BUILDSET);
        const there = branches[branch] ?? branches["master"];
        expect(revision.kind).toBe(there === undefined ? "impossible" : "chosen");
        if (revision.kind !== "chosen") return;
        const { repo } = revision;
        expect(repo.commit).toBe(merged[repo.branch] ?? branches[repo.branch]);
        expect(repo.zuulRef === null).toBe(merged[repo.branch] === undefined);
        expect(repo.baseCommit).toBe(branches[repo.branch]);
      }),
    );
  });
});

test("M-6 the base is the state with the items ahead", () => {
  const frozen = {
    project: "app",
    defaultBranch: "master",
    branches: new Map([["master", MASTER]]),
    merged: new Map([["master", ON_MASTER]]),
    ahead: new Map([["master", STABLE]]),
    state: "5".repeat(40),
  };
  expect(planRevision(frozen, "master", BUILDSET)).toMatchObject({
    repo: { commit: ON_MASTER, baseCommit: STABLE, branches: { master: MASTER } },
  });
});

test("M-4 the ref is of the branch and the buildset", () => {
  expect(zuulMaster).toBe("refs/zuul/master/Z0a1b2c3d000040008000000000000000");
});

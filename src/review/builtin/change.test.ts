import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { currentPatchset, stepChange } from "./change.ts";
import type { Change, ChangeStep } from "./change.ts";

const patchset = {
  commit: "c".repeat(40),
  parents: ["p".repeat(40)],
  subject: "Add a",
  uploader: "dora",
  createdAt: "2026-01-01T00:00:00.000Z",
};
const steps = {
  create: {
    event: "create",
    number: 7,
    project: "app",
    branch: "master",
    changeId: `I${"1".repeat(40)}`,
    patchset,
  },
  amend: { event: "amend", patchset: { ...patchset, commit: "d".repeat(40) } },
  vote: { event: "vote", votes: [{ label: "Code-Review", value: 1, by: "dirk" }] },
  comment: { event: "comment" },
  abandon: { event: "abandon" },
  restore: { event: "restore" },
  merge: { event: "merge", tip: "t".repeat(40) },
} as const satisfies Record<ChangeStep["event"], ChangeStep>;

function after(...events: (keyof typeof steps)[]): Change | undefined {
  let change: Change | undefined;
  for (const event of events) {
    const result = stepChange(change, steps[event]);
    if (result.kind === "stepped") change = result.change;
  }
  return change;
}

const starts = {
  "(none)": undefined,
  NEW: after("create"),
  MERGED: after("create", "merge"),
  ABANDONED: after("create", "abandon"),
};

/** The table of docs/specs/change.md, cell by cell. */
function specified(): Map<string, string> {
  const text = readFileSync(new URL("../../../docs/specs/change.md", import.meta.url), "utf8");
  const lines = text.split("\n").filter((line) => line.startsWith("|"));
  const rows = lines.map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
  const events = rows[0]!.slice(1);
  const cells = new Map<string, string>();
  for (const row of rows.slice(2, 6)) {
    for (const [n, event] of events.entries()) cells.set(`${row[0]} ${event}`, row[n + 1]!);
  }
  return cells;
}

describe("the life of a change", () => {
  const cells = specified();
  const pairs = Object.keys(starts).flatMap((state) =>
    Object.keys(steps).map((event) => [state, event] as const),
  );

  test("docs/specs/change.md has each pair of state and event, and no other", () => {
    expect([...cells.keys()].sort()).toEqual(pairs.map((pair) => pair.join(" ")).sort());
  });

  test.each(pairs)("docs/specs/change.md %s %s", (state, event) => {
    const result = stepChange(starts[state as keyof typeof starts], steps[event as "merge"]);
    const said =
      result.kind === "stepped"
        ? `→ ${result.change.status}`
        : result.kind === "refused"
          ? `\`${result.code}\``
          : "–";
    expect(said).toBe(cells.get(`${state} ${event}`));
  });

  test("C5 a new patchset is the next one and has no votes", () => {
    const change = after("create", "vote", "amend")!;
    expect(change.votes).toEqual([]);
    expect(currentPatchset(change)).toMatchObject({ number: 2, commit: "d".repeat(40) });
    expect(change.owner).toBe("dora");
  });

  test("C6 a person's last vote on a label holds; 0 takes it back; others' stay", () => {
    const cast = (change: Change, label: string, value: number, by: string): Change => {
      const result = stepChange(change, { event: "vote", votes: [{ label, value, by }] });
      return result.kind === "stepped" ? result.change : change;
    };
    let change = after("create")!;
    change = cast(change, "Code-Review", 1, "dirk");
    change = cast(change, "Code-Review", 2, "dora");
    change = cast(change, "Code-Review", -1, "dirk");
    change = cast(change, "Workflow", 1, "dirk");
    expect(change.votes).toHaveLength(3);
    change = cast(change, "Code-Review", 0, "dirk");
    expect(change.votes).toEqual([
      { label: "Code-Review", value: 2, by: "dora" },
      { label: "Workflow", value: 1, by: "dirk" },
    ]);
  });

  test("whatever happens: patchsets only grow, MERGED is the end, identity stays", () => {
    const names = fc.constantFrom(...(Object.keys(steps) as (keyof typeof steps)[]));
    fc.assert(
      fc.property(fc.array(names, { maxLength: 30 }), (events) => {
        let change = after("create")!;
        for (const event of events) {
          const result = stepChange(change, steps[event]);
          if (result.kind !== "stepped") continue;
          expect(change.status).not.toBe("MERGED");
          const next = result.change;
          expect(next.patchsets.slice(0, change.patchsets.length)).toEqual(change.patchsets);
          expect(next.patchsets.map((one) => one.number)).toEqual(
            next.patchsets.map((_, n) => n + 1),
          );
          expect([next.number, next.changeId, next.owner]).toEqual([
            change.number,
            change.changeId,
            change.owner,
          ]);
          change = next;
        }
      }),
    );
  });
});

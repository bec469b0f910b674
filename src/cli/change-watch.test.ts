import { expect, test } from "vitest";
import { look } from "./change-watch.ts";

type World = {
  status?: string;
  underWay?: boolean;
  vote?: number;
  /** What the CI's last report says. */
  report?: string;
  builds?: { id: string; patchset?: number; state: string; result: string | null }[];
};

function seen({ status = "NEW", underWay = false, vote, report = "", builds = [] }: World) {
  const votes = vote === undefined ? [] : [{ label: "Verified", value: vote, by: "ci" }];
  const comments = [{ at: "", by: "ci", text: `Build x ${report}` }];
  const items = underWay ? [{ change: 4, patchset: 2 }] : [];
  const answers = {
    changes: { get: () => Promise.resolve({ number: 4, patchset: 2, status, votes, comments }) },
    builds: {
      list: () =>
        Promise.resolve({ items: builds.map((one) => ({ job: "unit", patchset: 2, ...one })) }),
    },
    pipelines: { list: () => Promise.resolve([{ name: "check", items }]) },
  };
  return look(answers as unknown as Parameters<typeof look>[0], 4);
}

test("issue 6, §10: change watch ends with the vote, and its exit code is the vote's", async () => {
  const done = { id: "0a1b2c3d-x", state: "reported", result: "SUCCESS" };
  expect(await seen({})).toEqual({ lines: ["change 4,2: no check has begun"], over: undefined });
  expect(
    await seen({ underWay: true, builds: [{ ...done, state: "running", result: null }] }),
  ).toEqual({
    lines: ["0a1b2c3d unit: running"],
    over: undefined,
  });
  // A recheck is under way: the vote of the last run is not the one that is waited for.
  expect((await seen({ underWay: true, vote: 1, builds: [done] })).over).toBeUndefined();
  // Nor is it before the report of these builds has come.
  const early = await seen({ vote: 1, builds: [done], report: "deadbeef" });
  expect(early).toMatchObject({ over: undefined, last: "change 4,2: Verified +1" });
  const report = done.id;
  expect(await seen({ vote: 1, builds: [done], report })).toEqual({
    lines: ["0a1b2c3d unit: SUCCESS", "change 4,2: Verified +1"],
    over: 0,
  });
  expect((await seen({ vote: -1, report, builds: [{ ...done, result: "FAILURE" }] })).over).toBe(1);
  expect((await seen({ builds: [{ ...done, result: "CANCELED" }] })).last).toBe(
    "change 4,2: no vote",
  );
  expect((await seen({ status: "MERGED" })).over).toBe(0);
  expect(await seen({ status: "ABANDONED" })).toMatchObject({ over: 1 });
  // Builds of an older patchset say nothing about this one.
  expect((await seen({ builds: [{ ...done, patchset: 1 }] })).over).toBeUndefined();
});

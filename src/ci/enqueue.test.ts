import { expect, test } from "vitest";
import { fail } from "../base/errors.ts";
import { systemRandom } from "../base/random.ts";
import type { ReviewEvent } from "../model/change.ts";
import type { ReviewChange, ReviewReport } from "../review/review-port.ts";
import { enqueueEvents } from "./enqueue.ts";
import { builtinVotes, checkLayout } from "./layout/layout.ts";

const { layout, faults } = checkLayout(
  [
    {
      file: "layout.yaml",
      text: `
- pipeline:
    name: check
    manager: independent
    trigger: { local: [ { event: [ patchset-created, change-restored, comment-added ] } ] }
    success: { local: { Verified: 1 } }
- project: { name: app, check: { jobs: [ noop ] } }
- project: { name: quiet }
`,
    },
  ],
  { labels: [], connections: ["local"], votes: builtinVotes, longestLeaseSeconds: 14_400 },
);

const NOW = Date.parse("2026-01-01T00:00:00Z");

function changeOf(more: Partial<ReviewChange> = {}): ReviewChange {
  const patchset = more.patchset ?? 1;
  return {
    project: "app",
    branch: "master",
    number: 1,
    changeId: "I1",
    status: "NEW",
    owner: "ann",
    subject: "One",
    url: "http://x/1",
    patchset,
    patchsets: Array.from({ length: patchset }, (_, n) => ({
      number: n + 1,
      commit: `${n + 1}`.repeat(40),
      ref: `refs/changes/01/1/${n + 1}`,
      subject: "One",
      parents: [],
    })),
    needs: [],
    ...more,
  };
}

function eventOf(more: Partial<ReviewEvent> = {}): ReviewEvent {
  return {
    seq: 1,
    at: "2025-12-31T23:59:00Z",
    connection: "local",
    project: "app",
    branch: "master",
    change: 1,
    patchset: 1,
    by: "ann",
    type: "patchset-created",
    ...more,
  } as ReviewEvent;
}

async function asked(event: ReviewEvent, change: ReviewChange | undefined) {
  const reports: ReviewReport[] = [];
  const review = {
    connection: "local",
    change: (number: number) =>
      Promise.resolve(
        change && number === 1
          ? change
          : number > 1
            ? changeOf({ number, needs: [{ change: number + 1, patchset: 1 }] })
            : fail("not-found", "no such change"),
      ),
    report(report: ReviewReport) {
      reports.push(report);
      return Promise.resolve({ applied: true, labelsDropped: [] });
    },
  };
  const clock = { wallMs: () => NOW, monoMs: () => 0, after: () => ({ cancel: () => undefined }) };
  const events = await enqueueEvents(event, { review, layout, random: systemRandom, clock });
  return { events, kinds: events.map((one) => one.kind), reports };
}

test("the layout of these tests is right", () => expect(faults).toEqual([]));

test("E-4, Q-1 a new patchset makes the old one leave, and enters", async () => {
  const { events, kinds } = await asked(eventOf({ patchset: 2 }), changeOf({ patchset: 2 }));
  expect(kinds).toEqual(["new-patchset", "enqueue"]);
  expect(events[1]).toMatchObject({
    pipeline: "check",
    changes: [{ change: 1, patchset: 2 }],
    pushedMs: NOW - 60_000,
  });
});

test("E-4 an outdated patchset's event enqueues nothing: a later one tells of what is newer", async () => {
  const { kinds } = await asked(eventOf({ patchset: 1 }), changeOf({ patchset: 2 }));
  expect(kinds).toEqual(["new-patchset"]);
});

test("P-1 what is closed, or of a project that runs nothing, enters nowhere", async () => {
  expect((await asked(eventOf(), changeOf({ status: "MERGED" }))).kinds).toEqual(["new-patchset"]);
  expect((await asked(eventOf({ type: "change-abandoned" }), undefined)).kinds).toEqual(["closed"]);
  expect((await asked(eventOf({ project: "quiet" }), changeOf())).kinds).toEqual(["new-patchset"]);
  expect((await asked(eventOf({ project: "nowhere" }), changeOf())).kinds).toEqual([]);
});

test("E-6 a change that is gone is not found: the one failure that may be skipped", async () => {
  await expect(asked(eventOf(), undefined)).rejects.toMatchObject({ code: "not-found" });
});

test("D-7 a change that needs too many is told so, and blocks nothing", async () => {
  const { kinds, reports } = await asked(
    eventOf(),
    changeOf({ needs: [{ change: 2, patchset: 1 }] }),
  );
  expect(kinds).toEqual(["new-patchset"]);
  expect(reports).toMatchObject([{ change: 1, votes: [] }]);
  expect(reports[0]?.message).toMatch(/Not tested: change 1 needs more than 20 others/);
});

test.each(["2106-02-07T06:28:16Z", "sometime", ""])(
  "a clock that says %j makes no push of the future",
  async (at) => {
    const { events } = await asked(eventOf({ at }), changeOf());
    expect(events[1]).toMatchObject({ kind: "enqueue", pushedMs: NOW });
  },
);

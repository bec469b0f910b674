import { expect, test } from "vitest";
import { RackyardError } from "../base/errors.ts";
import { waitLines, waitsOf } from "./build-waits.ts";

const at = (minute: number): string => `2026-12-01T10:${String(minute).padStart(2, "0")}:00Z`;

/** Two builds that wait for the same rack, and one that waits for a node. */
function yard(predictedStart?: object) {
  const lease = (id: string) => ({
    id,
    state: "waiting",
    predictedStart,
    why: [
      { code: "te-leased", text: "here:1 is leased to dora until 10:20 UTC" },
      { code: "ahead", text: "2 requests are ahead" },
    ],
  });
  const jobs = [
    { build: "a", why: "here:1 is leased to dora until 10:20 UTC; 2 requests are ahead" },
    { build: "c", why: "the image debian-12 is being built" },
  ];
  return {
    pipelines: { list: () => Promise.resolve([{ items: [{ jobs }] }] as never) },
    leases: {
      get: (id: string) =>
        id === "gone"
          ? Promise.reject(new RackyardError("not-found", "swept"))
          : Promise.resolve(lease(id) as never),
    },
  };
}

const builds = [
  { id: "a", job: "deploy", state: "acquiring", lease: "la" },
  { id: "b", job: "upgrade", state: "acquiring", lease: "lb" },
  { id: "c", job: "unit", state: "waiting", lease: null },
  { id: "d", job: "docs", state: "running", lease: null },
] as const;

test("each reason once, with the jobs that it holds up", async () => {
  expect(await waitsOf(yard(), builds)).toEqual([
    {
      reason: "here:1 is leased to dora until 10:20 UTC",
      jobs: ["deploy", "upgrade"],
      start: null,
    },
    { reason: "2 requests are ahead", jobs: ["deploy", "upgrade"], start: null },
    { reason: "the image debian-12 is being built", jobs: ["unit"], start: null },
  ]);
  expect(await waitsOf(yard(), [builds[3]])).toEqual([]);
});

test("the expected start is told once, in UTC", async () => {
  const start = { earliestAt: at(20), likelyAt: at(20), latestAt: at(45) };
  const waits = await waitsOf(yard(start), builds.slice(0, 2));
  expect(waitLines(waits)).toEqual([
    "waiting: deploy, upgrade: here:1 is leased to dora until 10:20 UTC",
    "waiting: deploy, upgrade: 2 requests are ahead",
    "  start expected about 10:20 UTC, by 10:45 UTC",
  ]);
});

test("a lease that is swept meanwhile leaves the pipeline's own reason", async () => {
  const gone = [{ ...builds[0], lease: "gone" }];
  expect((await waitsOf(yard(), gone)).map(({ reason }) => reason)).toHaveLength(2);
});

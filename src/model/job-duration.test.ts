import { expect, test } from "vitest";
import { collectingMs, leaseSeconds } from "./job-duration.ts";

const limits = {
  nodeSetupMs: 60_000,
  gitMs: 300_000,
  commandMs: 30_000,
  cleanupMs: 300_000,
  collectMachineMs: 60_000,
  collectParallel: 4,
  machinesPerTestenv: 15,
  leaseMarginMs: 60_000,
};
const job = { timeoutSeconds: 1_800, postTimeoutSeconds: 300, postRun: ["a"], cleanupRun: ["b"] };

test("T-1 T-2 the lease lasts for every limit between grant and release", () => {
  const seconds = leaseSeconds(job, limits);
  const steps =
    limits.nodeSetupMs + // setup
    limits.gitMs + // workspace
    1_800_000 + // pre and run
    300_000 + // post
    limits.cleanupMs +
    limits.gitMs; // logs/
  expect(seconds * 1_000).toBeGreaterThan(steps + limits.collectMachineMs * 4);
});

test("T-2 each post and each cleanup script has its own limit, and each is asked for", () => {
  const more = { ...job, postRun: ["a", "b", "c"], cleanupRun: ["a", "b"] };
  const extra = leaseSeconds(more, limits) - leaseSeconds(job, limits);
  expect(extra).toBeGreaterThanOrEqual(2 * 300 + limits.cleanupMs / 1_000);
  expect(collectingMs(more, limits)).toBeGreaterThan(collectingMs(job, limits));
});

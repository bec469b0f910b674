import { expect, test } from "vitest";
import type { StepOutcome } from "./build-ports.ts";
import { classify } from "./classify.ts";
import type { Ending } from "./classify.ts";

const done: StepOutcome = { kind: "done" };
const exit = (phase: "pre" | "run" | "post", exitCode: number): StepOutcome => ({
  kind: "exited",
  phase,
  exitCode,
});
const timeout = (phase: "pre" | "run" | "post"): StepOutcome => ({ kind: "timed-out", phase });
const gone: StepOutcome = { kind: "unreachable", detail: "connection lost" };
const full: StepOutcome = { kind: "disk-full", detail: "0 MiB free" };
const own = { kind: "no-workspace", own: true, detail: "error: File name too long" } as const;
const interrupted = [{ at: "2026-01-01T00:00:00Z", code: "agent-restarted", text: "agent anew" }];

const good: Ending = {
  stop: null,
  prepare: done,
  run: exit("run", 0),
  collect: done,
  interruptions: [],
  nodeLost: null,
  noop: false,
};

const rows: [string, Partial<Ending>, string, boolean][] = [
  ["F-0 main phase exit 0", {}, "SUCCESS", false],
  ["F-0 main phase done", { run: done }, "SUCCESS", false],
  ["F-0 main phase exit ≠ 0", { run: exit("run", 1) }, "FAILURE", false],
  ["F-0 run exceeded timeout", { run: timeout("run") }, "TIMED_OUT", false],
  ["F-0 pre exceeded timeout", { run: timeout("pre") }, "TIMED_OUT", false],
  ["F-0 pre phase failed", { run: exit("pre", 3) }, "RETRY", false],
  ["F-0 host unreachable in setup", { prepare: gone, run: null }, "RETRY", false],
  ["F-0 host unreachable in run", { run: gone }, "RETRY", false],
  ["F-0 host unreachable in post", { collect: gone }, "RETRY", false],
  [
    "F-0 host unreachable in post after a failure",
    { run: exit("run", 1), collect: gone },
    "RETRY",
    false,
  ],
  ["F-0 the executor was cut off", { run: { kind: "aborted" } }, "RETRY", false],
  [
    "F-0 what the change holds cannot be checked out",
    { prepare: own, run: null },
    "FAILURE",
    false,
  ],
  [
    "F-0 the workspace could not be fetched",
    { prepare: { ...own, own: false }, run: null },
    "RETRY",
    false,
  ],
  ["F-0 setup failed", { prepare: exit("pre", 1), run: null }, "RETRY", false],
  ["F-0 post phase failed after success", { collect: exit("post", 2) }, "POST_FAILURE", false],
  ["F-0 post phase timed out after success", { collect: timeout("post") }, "POST_FAILURE", false],
  [
    "F-0 post phase failed after failure",
    { run: exit("run", 1), collect: exit("post", 2) },
    "FAILURE",
    false,
  ],
  [
    "F-0 post phase failed after time-out",
    { run: timeout("run"), collect: exit("post", 2) },
    "TIMED_OUT",
    false,
  ],
  [
    "F-0 node failure",
    { stop: { kind: "node-failure", why: "no image" }, prepare: null, run: null, collect: null },
    "NODE_FAILURE",
    false,
  ],
  ["F-0 disk full in setup", { prepare: full, run: null }, "DISK_FULL", false],
  ["F-0 disk full in run", { run: full }, "DISK_FULL", false],
  [
    "X-5 disk full seen after a failure",
    { run: exit("run", 1), collect: full },
    "DISK_FULL",
    false,
  ],
  ["F-0 cancelled by a person", { stop: { kind: "cancelled", why: "by ann" } }, "CANCELED", false],
  ["F-0 superseded", { stop: { kind: "superseded", why: "patchset 2" } }, "CANCELED", false],
  ["F-0 noop", { prepare: null, run: null, collect: null, noop: true }, "SUCCESS", false],
  [
    "F-1 no lease within lease-wait",
    { stop: { kind: "rack-unavailable", why: "3600 s" } },
    "TE_UNAVAILABLE",
    true,
  ],
  [
    "F-1 heartbeat lost",
    { stop: { kind: "rack-lost", why: "host gone" }, run: { kind: "aborted" } },
    "TE_LOST",
    true,
  ],
  [
    "F-1 rack lost after a failure",
    { stop: { kind: "rack-lost", why: "host gone" }, run: exit("run", 1) },
    "TE_LOST",
    true,
  ],
  [
    "F-1 rack lost after success",
    { stop: { kind: "rack-lost", why: "host gone" } },
    "SUCCESS",
    false,
  ],
  [
    "F-1 exit ≠ 0 with an interruption",
    { run: exit("run", 1), interruptions: interrupted },
    "RETRY",
    true,
  ],
  [
    "F-1 time-out with an interruption",
    { run: timeout("run"), interruptions: interrupted },
    "RETRY",
    true,
  ],
  [
    "F-1 pre failed with an interruption",
    { run: exit("pre", 1), interruptions: interrupted },
    "RETRY",
    true,
  ],
  [
    "F-1 post failed with an interruption",
    { collect: exit("post", 1), interruptions: interrupted },
    "RETRY",
    true,
  ],
  ["F-1 exit 0 with an interruption", { interruptions: interrupted }, "SUCCESS", false],
  [
    "F-1 a full disk is the job's, interruption or not",
    { run: full, interruptions: interrupted },
    "DISK_FULL",
    false,
  ],
  [
    "F-1 lease revoked by an operator",
    { stop: { kind: "revoked" }, run: { kind: "aborted" } },
    "ABORTED",
    true,
  ],
  ["F-1 lease revoked after success", { stop: { kind: "revoked" } }, "ABORTED", true],
  [
    "T-1 the lease ran out",
    { stop: { kind: "lease-over", why: "expired" }, run: { kind: "aborted" } },
    "RETRY",
    true,
  ],
  ["F-1 deployment failed after a good probe", { run: exit("run", 7) }, "FAILURE", false],
  [
    "X-4 the server was restarted",
    { stop: { kind: "restarted" }, run: null, collect: null },
    "RETRY",
    false,
  ],
];

test.each(rows)("%s", (_what, change, result, rackFault) => {
  expect(classify({ ...good, ...change })).toMatchObject({ result, rackFault });
});

test("F-1 the interruptions stand in the detail", () => {
  const verdict = classify({ ...good, run: exit("run", 1), interruptions: interrupted });
  expect(verdict.detail).toBe("the rack was interrupted: agent anew");
});

test("F-0 what a shell means by 126 and 127 is said", () => {
  const detail = (code: number): string | null =>
    classify({ ...good, run: exit("run", code) }).detail;
  expect(detail(126)).toBe("the run phase exited with 126: a command is not executable (chmod +x)");
  expect(detail(127)).toBe("the run phase exited with 127: a command was not found");
  expect(detail(1)).toBe("the run phase exited with 1");
});

const lost: StepOutcome = { kind: "lost", detail: "the executor began anew" };
const stop = (kind: "rack-lost" | "lease-over"): Ending["stop"] => ({ kind, why: "w" });

test.each([
  ["the run's end is not known", { run: lost, collect: null }, "RETRY", true],
  [
    "its preparation's end is not known",
    { prepare: lost, run: null, collect: null },
    "RETRY",
    true,
  ],
  ["post's end is not known after a success", { collect: lost }, "RETRY", true],
  [
    "post's end is not known after a failure",
    { run: exit("run", 1), collect: lost },
    "FAILURE",
    false,
  ],
  ["the node's host began anew", { run: gone, nodeLost: "host anew" }, "RETRY", true],
  [
    "node and rack went with their host",
    { run: gone, stop: stop("rack-lost"), nodeLost: "h" },
    "RETRY",
    true,
  ],
  ["the rack alone went", { run: gone, stop: stop("rack-lost") }, "TE_LOST", false],
  [
    "the agent was restarted under a failure",
    { run: exit("run", 1), interruptions: interrupted },
    "RETRY",
    true,
  ],
] as const)("a restart is nobody's fault: %s", (_, change, result, restart) => {
  const verdict = classify({ ...good, ...change });
  expect([verdict.result, verdict.restart]).toEqual([result, restart]);
});

test.each(["run", "pre"] as const)(
  "T-1 an expiry never changes a result that the %s has",
  (phase) => {
    const failed = { ...good, run: timeout(phase), stop: stop("lease-over") };
    expect(classify(failed).result).toBe("TIMED_OUT");
    expect(classify({ ...failed, run: exit("run", 3) }).result).toBe("FAILURE");
    expect(classify({ ...failed, run: { kind: "aborted" } }).result).toBe("RETRY");
  },
);

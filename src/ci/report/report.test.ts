import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { silentLog } from "../../base/log.ts";
import { openScope } from "../../base/scope.ts";
import { until } from "../../base/wait.ts";
import type { ReviewReport } from "../../review/review-port.ts";
import { openSqliteStore } from "../../store/store.ts";
import { openOutbox } from "./outbox.ts";
import type { OutgoingReport } from "./outbox.ts";
import { elapsedText, reportText } from "./text.ts";
import type { ReportedAttempt, ReportedJob, ReportFacts } from "./text.ts";

const attempt = (more: Partial<ReportedAttempt> = {}): ReportedAttempt => ({
  result: "SUCCESS",
  detail: null,
  url: "http://x/b1",
  startedMs: 0,
  endedMs: 3_723_000,
  interruptions: [],
  evidence: [],
  ...more,
});
const job = (more: Partial<ReportedJob> = {}): ReportedJob => ({
  name: "deploy",
  voting: true,
  result: "SUCCESS",
  attempts: [attempt()],
  ...more,
});
const facts = (more: Partial<ReportFacts> = {}): ReportFacts => ({
  stage: "success",
  pipeline: "check",
  url: "http://x/1",
  jobs: [job()],
  detail: [],
  withoutVote: false,
  ...more,
});

test("R-2 success: a sentence, a blank line, one line a job in order", () => {
  const lint = job({ name: "lint", voting: false, result: "FAILURE" });
  expect(reportText(facts({ jobs: [job(), lint] }))).toBe(
    `Build succeeded.

- deploy http://x/b1 : SUCCESS in 1h 02m 03s
- lint http://x/b1 : FAILURE in 1h 02m 03s (non-voting)
`,
  );
});

test("R-2 start, conflict and configuration error", () => {
  expect(reportText(facts({ stage: "start" }))).toBe("Starting check jobs.\nhttp://x/1\n");
  const conflict = reportText(facts({ stage: "merge-conflict", jobs: [], detail: ["a.txt"] }));
  expect(conflict).toMatch(/^Merge Failed\.\n\n.*rebase.*\n\n- a\.txt\n$/);
  const wrong = reportText(
    facts({ stage: "config-error", jobs: [], detail: ["jobs.yaml:3: no such project"] }),
  );
  expect(wrong).toMatch(/^Build failed\.\n\n.*\n- jobs\.yaml:3: no such project\n$/);
});

test("F-2 L-4 attempts, interruptions and evidence stand after the job lines", () => {
  const failed = job({
    result: "FAILURE",
    attempts: [
      attempt({ result: "TE_LOST", detail: "the host went", url: "http://x/b0" }),
      attempt({
        result: "FAILURE",
        detail: "the run phase exited with 1",
        endedMs: 2_000,
        interruptions: [{ at: "2026-01-01T00:00:00Z", code: "c", text: "agent anew", te: "h:1" }],
        evidence: [
          {
            file: "rack/console-te1-n0.log",
            line: 118,
            text: "Oops",
            rule: "oops",
            context: { from: 117, lines: ["mount: no such device", "Oops", "Rebooting"] },
          },
        ],
      }),
    ],
  });
  expect(reportText(facts({ stage: "failure", jobs: [failed] }))).toBe(
    `Build failed.

- deploy http://x/b1 : FAILURE in 2s

deploy took 2 attempts:
  1. TE_LOST (the host went) http://x/b0
  2. FAILURE (the run phase exited with 1) http://x/b1

deploy was interrupted by its rack:
  2026-01-01T00:00:00Z h:1 agent anew

What the logs of deploy show:
  rack/console-te1-n0.log:118: Oops
    117: mount: no such device
    119: Rebooting
`,
  );
});

test("R-2 no elapsed time where a build never started; F-1a says why there is no vote", () => {
  const none = attempt({ result: "TE_UNAVAILABLE", detail: "no rack", startedMs: null });
  const text = reportText(
    facts({
      stage: "failure",
      withoutVote: true,
      jobs: [job({ result: "RETRY_LIMIT", attempts: [none] })],
    }),
  );
  expect(text).toContain("- deploy http://x/b1 : RETRY_LIMIT\n\ndeploy: no rack\n");
  expect(text).toContain("recheck");
});

test("R-3 a message stays under the limit, in bytes, by whole lines", () => {
  const evidence = Array.from({ length: 500 }, (_, line) => ({
    file: "console.log",
    line,
    text: "é".repeat(200),
    rule: "oops",
  }));
  const jobs = Array.from({ length: 40 }, (_, n) =>
    job({ name: `job-${n}`, result: "FAILURE", attempts: [attempt({ evidence })] }),
  );
  const text = reportText(facts({ stage: "failure", jobs }));
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(limits.commentBytes);
  expect(text).toMatch(/\n- job-39 .*\n/);
  expect(text.trimEnd().endsWith("the rest)")).toBe(true);
  expect(text.match(/console\.log:/g)!.length).toBeGreaterThan(5);
});

test.each([
  [0, "0s"],
  [3_000, "3s"],
  [123_000, "2m 03s"],
  [3_723_000, "1h 02m 03s"],
])("R-2 %d ms read %s", (ms, text) => {
  expect(elapsedText(ms)).toBe(text);
});

const outgoing = (buildset: string, stage: string): OutgoingReport => ({
  buildset,
  connection: "local",
  stage,
  project: "p",
  change: 1,
  patchset: 1,
  message: `${buildset} ${stage}`,
  votes: [{ label: "Verified", value: 1 }],
  builds: [],
});

async function world() {
  const store = await openSqliteStore(":memory:");
  onTestFinished(() => store[Symbol.asyncDispose]());
  const got: ReviewReport[] = [];
  const delivered: string[] = [];
  let failing: (report: ReviewReport) => void = () => undefined;
  const start = () => {
    const scope = openScope((_, error) => {
      throw error;
    });
    onTestFinished(() => scope.close());
    const review = {
      report: (report: ReviewReport) => {
        failing(report);
        const applied = !got.some((one) => one.idempotencyKey === report.idempotencyKey);
        if (applied) got.push(report);
        return Promise.resolve({ applied, labelsDropped: [] });
      },
    };
    const dead = { report: () => new Promise<never>(() => undefined) };
    const outbox = openOutbox({
      store,
      clock: systemClock,
      log: silentLog,
      scope,
      troubles: { begin: () => undefined, end: () => undefined },
      reviews: new Map([
        ["local", review],
        ["dead", dead],
      ]),
      onDelivered: (report) => {
        delivered.push(report.message);
        return Promise.resolve();
      },
    });
    const put = async (...reports: OutgoingReport[]) => {
      for (const [index, report] of reports.entries()) {
        await store.transaction((tx) => outbox.put(tx, report, index));
      }
      outbox.wake();
    };
    return { scope, put };
  };
  return {
    store,
    start,
    got,
    delivered,
    failBy: (by: typeof failing) => {
      failing = by;
    },
    has: (count: number) =>
      until(() => delivered.length === count, {
        timeoutMs: 10_000,
        everyMs: 5,
        what: `${count} reports`,
      }),
  };
}

test("R-5 a report is delivered once by its key, and put twice it is one", async () => {
  const w = await world();
  const { put } = w.start();
  await put(outgoing("a", "success"), outgoing("a", "success"));
  await w.has(1);
  expect(w.got).toMatchObject([
    { idempotencyKey: "a/a/1/local/success", tag: "autogenerated:ci", votes: [{ value: 1 }] },
  ]);
});

test("R-5 a failing reporter is tried again in order and holds up no other", async () => {
  const w = await world();
  let failures = 1;
  w.failBy((report) => {
    if (report.message === "a start" && failures-- > 0) fail("unavailable", "away");
  });
  const { put } = w.start();
  await put(outgoing("a", "start"), outgoing("a", "success"), outgoing("b", "success"));
  await w.has(3);
  expect(w.delivered).toEqual(["b success", "a start", "a success"]);
});

test("R-5 killed after the delivery and before its record, the second delivery does nothing", async () => {
  const w = await world();
  const first = w.start();
  let closing: Promise<void> | undefined;
  w.failBy(() => {
    closing = first.scope.close();
  });
  await first.put(outgoing("a", "success"));
  await until(() => closing !== undefined, { timeoutMs: 5_000, everyMs: 5, what: "the kill" });
  await closing;
  w.failBy(() => undefined);
  const second = w.start();
  await second.put(outgoing("b", "success"));
  await until(() => w.delivered.includes("b success"), {
    timeoutMs: 5_000,
    everyMs: 5,
    what: "b",
  });
  expect(w.got.filter((report) => report.idempotencyKey === "a/a/1/local/success")).toHaveLength(1);
});

test("a report on a change that is gone is dropped", async () => {
  const w = await world();
  w.failBy((report) => {
    if (report.message.startsWith("a")) fail("not-found", "no such change");
  });
  const { put } = w.start();
  await put(outgoing("a", "success"), outgoing("b", "success"));
  await w.has(1);
  expect(w.delivered).toEqual(["b success"]);
});

test("R-5 a connection that never answers delays only itself", async () => {
  const w = await world();
  const { put } = w.start();
  await put({ ...outgoing("a", "success"), connection: "dead" });
  await put(outgoing("b", "success"), outgoing("c", "success"));
  await w.has(2);
  expect(w.delivered).toEqual(["b success", "c success"]);
});

test("R-5 a row of another version delays only itself, and is kept", async () => {
  const w = await world();
  const row = (key: string, body: object, created: number) => ({
    key,
    body: JSON.stringify(body),
    created_ms: created,
    attempts: 0,
    next_try_ms: 0,
    done_ms: null,
  });
  const { item: _, ...of01 } = outgoing("old", "success");
  await w.store.transaction(async (tx) => {
    const rows = [
      row("x/local/success", { shape: "of tomorrow" }, 1),
      row("old/local/success", of01, 2),
    ];
    await tx.insertInto("outbox").values(rows).execute();
  });
  const { put } = w.start();
  await put(outgoing("b", "success"));
  await w.has(2);
  // What version 0.1 put is delivered under the key that it was put with.
  expect(w.got.map((report) => report.idempotencyKey).toSorted()).toEqual([
    "b/b/1/local/success",
    "old/local/success",
  ]);
  const left = await w.store.db
    .selectFrom("outbox")
    .select("key")
    .where("done_ms", "is", null)
    .execute();
  expect(left).toEqual([{ key: "x/local/success" }]);
});

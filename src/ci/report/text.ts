/**
 * What a report says (ci.md R-2): the opening sentence, a blank line, one line a job in
 * configured order in the shape that machines parse, then attempts, interruptions and evidence
 * for people. Pure; cut at the review system's limit.
 */
import { assertNever } from "../../base/assert.ts";
import { limits } from "../../base/limits.ts";
import type { Evidence } from "../../model/build.ts";
import type { Interruption } from "../../model/lease.ts";
import type { ReportStage } from "../../model/pipeline.ts";

export type ReportedAttempt = {
  readonly result: string;
  readonly detail: string | null;
  readonly url: string;
  readonly startedMs: number | null;
  readonly endedMs: number;
  readonly interruptions: readonly Interruption[];
  readonly evidence: readonly Evidence[];
};

export type ReportedJob = {
  readonly name: string;
  readonly voting: boolean;
  readonly result: string;
  /** Oldest first; the last one is the job's line. */
  readonly attempts: readonly ReportedAttempt[];
};

export type ReportFacts = {
  readonly stage: ReportStage;
  readonly pipeline: string;
  readonly url: string;
  readonly jobs: readonly ReportedJob[];
  /** Files of a conflict; places and sentences of a configuration error. */
  readonly detail: readonly string[];
  /** No label comes with it, though its stage has some (F-1a). */
  readonly withoutVote: boolean;
};

export function reportText(facts: ReportFacts): string {
  const parts = [opening(facts)];
  if (facts.jobs.length > 0 && facts.stage !== "start") {
    parts.push(facts.jobs.map(jobLine).join("\n"), ...facts.jobs.flatMap(forPeople));
  }
  if (facts.withoutVote)
    parts.push("No vote: this is not the change's doing. To try again: recheck");
  return cut(`${parts.join("\n\n")}\n`);
}

function opening(facts: ReportFacts): string {
  const list = facts.detail.map((line) => `- ${line}`).join("\n");
  switch (facts.stage) {
    case "start":
      return `Starting ${facts.pipeline} jobs.\n${facts.url}`;
    case "success":
      return "Build succeeded.";
    case "failure":
      // no jobs: the merger could not prepare it
      return facts.jobs.length > 0 || list === ""
        ? "Build failed."
        : `The change could not be prepared for its tests:\n${list}`;
    case "merge-conflict":
      return [
        "Merge Failed.",
        "This change, or one it depends on, conflicts with what is on the branch now. " +
          "Please rebase it and push it again.",
        list,
      ]
        .filter((part) => part !== "")
        .join("\n\n");
    case "config-error":
      return `Build failed.\n\nThe configuration does not let this change be tested:\n${list}`;
    default:
      return assertNever(facts.stage, "stage");
  }
}

/** `- <job> <url> : <RESULT> in 1h 02m 03s (non-voting)`; the time only if both ends are known. */
function jobLine(job: ReportedJob): string {
  const last = job.attempts.at(-1);
  const elapsed =
    last && last.startedMs !== null ? ` in ${elapsedText(last.endedMs - last.startedMs)}` : "";
  const voting = job.voting ? "" : " (non-voting)";
  return `- ${job.name} ${last?.url ?? ""} : ${job.result}${elapsed}${voting}`;
}

/** `1h 02m 03s`, `2m 03s`, `3s`. */
export function elapsedText(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  const two = (value: number): string => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (h > 0) return `${h}h ${two(m)}m ${two(s)}s`;
  return m > 0 ? `${m}m ${two(s)}s` : `${s}s`;
}

function forPeople(job: ReportedJob): string[] {
  const parts: string[] = [];
  const last = job.attempts.at(-1);
  if (job.attempts.length > 1) {
    const lines = job.attempts.map((one, index) => `  ${index + 1}. ${withDetail(one)} ${one.url}`);
    parts.push(`${job.name} took ${job.attempts.length} attempts:\n${lines.join("\n")}`);
  } else if (last && last.detail !== null && job.result !== "SUCCESS") {
    parts.push(`${job.name}: ${last.detail}`);
  }
  const seen = job.attempts.flatMap((one) => one.interruptions);
  if (seen.length > 0) {
    const lines = seen.map((one) => `  ${[one.at, one.te, one.text].filter(Boolean).join(" ")}`);
    parts.push(`${job.name} was interrupted by its rack:\n${lines.join("\n")}`);
  }
  const evidence = (last?.evidence ?? []).slice(0, limits.evidenceItems);
  if (evidence.length > 0) {
    const lines = evidence.flatMap((one) => [
      `  ${one.file}:${one.line}: ${one.text}`,
      ...around(one),
    ]);
    parts.push(`What the logs of ${job.name} show:\n${lines.join("\n")}`);
  }
  return parts;
}

/** The lines before and after, with their numbers; the cause itself is told already. */
function around({ line, context }: Evidence): string[] {
  if (context === undefined) return [];
  return context.lines.flatMap((text, n) => {
    const number = context.from + n;
    return number === line ? [] : [`    ${number}: ${text}`];
  });
}

function withDetail(attempt: ReportedAttempt): string {
  return attempt.detail === null ? attempt.result : `${attempt.result} (${attempt.detail})`;
}

/** Whole lines up to the limit, which is in bytes. */
function cut(text: string): string {
  if (Buffer.byteLength(text) <= limits.commentBytes) return text;
  const note = "… (cut: the build's page has the rest)\n";
  let room = limits.commentBytes - Buffer.byteLength(note);
  const kept: string[] = [];
  for (const line of text.split("\n")) {
    room -= Buffer.byteLength(line) + 1;
    if (room < 0) break;
    kept.push(`${line}\n`);
  }
  return kept.join("") + note;
}

/**
 * Between the queue and the rest: how an item is kept (life `buildset`), what its builds are
 * made of, what a build's end tells its item, and what a report says of it. Pure values; who
 * calls when is scheduler.ts.
 */
import { assert, present } from "../base/assert.ts";
import { shortId } from "../base/ids.ts";
import { priorities } from "../model/lease.ts";
import type { PipelineConfig } from "../model/pipeline.ts";
import type { LifeKind } from "../store/store.ts";
import type { ItemChange } from "./builds/build-ports.ts";
import { newBuild } from "./builds/record.ts";
import type { Build, Mark, QueuePlace } from "./builds/record.ts";
import { testedChange } from "./pipeline/item.ts";
import type { EndedBuild, Item, QueuedChange } from "./pipeline/item.ts";
import type { PipelineEffect } from "./pipeline/pipeline.ts";
import type { OutgoingReport } from "./report/outbox.ts";
import { reportText } from "./report/text.ts";
import type { ReportedAttempt } from "./report/text.ts";

/** Search columns: a = change number, b = project, c = pipeline, n = patchset. */
export const buildsetLife: LifeKind<Item> = {
  life: "buildset",
  columns(item) {
    const { change, project, patchset } = testedChange(item);
    return { a: String(change), b: project, c: item.pipeline, n: patchset };
  },
};

/** States of an item's row: its stage while it lives, then what became of it. */
export function buildsetState(item: Item): string {
  if (item.stage !== "done") return item.stage;
  return item.outcome === "DEQUEUED" || item.outcome === "NO_JOBS" ? "dequeued" : "reported";
}

export type Urls = {
  readonly build: (id: string) => string;
  readonly logs: (path: string) => string;
};

type StartBuild = Extract<PipelineEffect, { kind: "start-build" }>;

/** L-1: deterministic from the event, but for the id, so that two attempts never share it. */
export function logPath(change: QueuedChange, pipeline: string, job: string, build: string) {
  const last = String(change.change % 100).padStart(2, "0");
  const base = `${last}/${change.change}/${change.patchset}`;
  return { base, path: `${base}/${pipeline}/${job}/${shortId(build).slice(0, 7)}` };
}

export function buildFor(
  effect: StartBuild,
  precedence: PipelineConfig["precedence"],
  urls: Urls,
  nowMs: number,
): Build {
  const { item, job, build } = effect;
  const { buildset } = item;
  const tested = testedChange(item);
  const merged = present(buildset.merged, `merge of item ${item.id}`);
  const { base, path } = logPath(tested, item.pipeline, job.name, build);
  const marks = [
    { step: "pushed", atMs: item.pushedMs },
    { step: "enqueued", atMs: item.enqueuedMs },
    { step: "prepared", atMs: buildset.mergedMs ?? nowMs },
  ];
  const place: QueuePlace = {
    precedence: (priorities.indexOf(precedence) + 1) * 100,
    enqueuedMs: item.enqueuedMs,
    index: buildset.jobs.findIndex((run) => run.job.name === job.name),
  };
  return newBuild(
    {
      id: build,
      item: item.id,
      buildset: buildset.id,
      tenant: "default",
      pipeline: item.pipeline,
      project: tested.project,
      branch: tested.branch,
      changes: [...item.ahead, ...item.changes].map(itemChange),
      ...merged,
      job,
      attempt: effect.attempt,
      baseLogPath: base,
      logsPath: path,
      logsUrl: urls.logs(path),
      buildUrl: urls.build(build),
    },
    { place, avoid: effect.avoid, createdMs: nowMs, pushedMs: item.pushedMs, marks },
  );
}

function itemChange(of: QueuedChange): ItemChange {
  const { project, branch, change, patchset, ref, url, subject } = of;
  return { project, branch, change, patchset, ref, url, subject };
}

/** What the item learns of a build that is archived. */
export function endedBuild(build: Build, evidence: EndedBuild["evidence"]): EndedBuild {
  const { record } = build;
  const { facts } = record;
  assert(record.result !== null && record.endedMs !== null, `build ${facts.id} has no result`);
  return {
    build: facts.id,
    attempt: facts.attempt,
    result: record.result,
    rackFault: record.rackFault,
    restart: record.restart ?? false,
    detail: record.errorDetail,
    startedMs: record.startedMs,
    endedMs: record.endedMs,
    url: facts.buildUrl,
    te: record.rack?.te ?? null,
    host: record.rack?.host ?? null,
    interruptions: record.interruptions,
    evidence,
  };
}

/** One report a change and reporter of the stage; a stage without reporters is silent. */
export function reportsOf(
  effect: Extract<PipelineEffect, { kind: "report" }>,
  config: PipelineConfig,
): OutgoingReport[] {
  const { item, stage, vote } = effect;
  const { jobs } = item.buildset;
  return item.changes.flatMap((change) =>
    config.reporters[stage]
      .filter(({ connection }) => item.changes.length === 1 || connection === change.connection)
      .map(({ connection, labels }) => {
        const votes = Object.entries(vote ? labels : {}).map(([label, value]) => ({
          label,
          value,
        }));
        const message = reportText({
          stage,
          pipeline: item.pipeline,
          url: change.url,
          detail: item.detail,
          withoutVote: !vote && Object.keys(labels).length > 0,
          jobs: jobs.map((run) => ({
            name: run.job.name,
            voting: run.job.voting,
            result: run.final?.result ?? "RUNNING",
            attempts: run.ended.map((ended): ReportedAttempt => ended),
          })),
        });
        return {
          item: item.id,
          buildset: item.buildset.id,
          connection,
          stage,
          project: change.project,
          change: change.change,
          patchset: change.patchset,
          message,
          votes,
          builds: jobs.flatMap((run) => run.ended.map((ended) => ended.build)),
        };
      }),
  );
}

/** The moment of the vote, for the time lines of its builds. */
export function votedMark(report: OutgoingReport, atMs: number): Mark {
  const votes = report.votes.map(
    (vote) => `${vote.label} ${vote.value > 0 ? "+" : ""}${vote.value}`,
  );
  return { step: "voted", atMs, detail: votes.join(", ") };
}

/**
 * What an event of the review system means for the queues (ci.md §§4, 6, 13): the change is
 * asked again (E-4), the old patchset leaves, the pipelines that match get an item with what it
 * needs ahead of it. An event of an unknown project means nothing (E-6).
 */
import type { Clock } from "../base/clock.ts";
import type { Random } from "../base/random.ts";
import type { ReviewEvent } from "../model/change.ts";
import type { ReviewChange, ReviewPort } from "../review/review-port.ts";
import { fail } from "../base/errors.ts";
import type { Layout } from "./layout/layout.ts";
import type { QueuedChange } from "./pipeline/item.ts";
import type { PipelineEvent } from "./pipeline/pipeline.ts";
import { neededChanges } from "./trigger/dependencies.ts";
import { triggered } from "./trigger/matching.ts";

export async function enqueueEvents(
  event: ReviewEvent,
  around: {
    readonly review: Pick<ReviewPort, "change" | "connection">;
    readonly layout: Layout;
    readonly random: Random;
    readonly clock: Clock;
  },
): Promise<PipelineEvent[]> {
  const { review, layout } = around;
  const project = layout.projects.get(event.project)?.value;
  if (!project) return [];
  const events = leaving(event);
  const pipelines = triggered(event, layout.pipelines.values()).filter((name) =>
    project.pipelines.some((pipeline) => pipeline.name === name && pipeline.jobs.length > 0),
  );
  if (pipelines.length === 0) return events;
  const change = await review.change(event.change);
  // A later event tells of what is newer; what is closed needs no test.
  const outdated = event.type === "patchset-created" && event.patchset < change.patchset;
  if (change.status !== "NEW" || outdated) return events;
  const tested = queued(review.connection, change, change.patchset);
  const needed = await neededChanges(review, change);
  for (const pipeline of pipelines) {
    const alone = layout.pipelines.get(pipeline)!.ignoreDependencies;
    events.push({
      kind: "enqueue",
      item: around.random.uuid4(),
      buildset: around.random.uuid4(),
      pipeline,
      changes: [tested],
      ahead: alone
        ? []
        : needed.map((need) => queued(review.connection, need.change, need.patchset)),
      pushedMs: Date.parse(event.at) || around.clock.wallMs(),
    });
  }
  return events;
}

/** whom the event makes leave, whatever it triggers. */
function leaving(event: ReviewEvent): PipelineEvent[] {
  const { connection, change, patchset } = event;
  switch (event.type) {
    case "patchset-created":
      return [{ kind: "new-patchset", connection, change, patchset }];
    case "change-abandoned":
    case "change-merged":
      return [{ kind: "closed", connection, change }];
    default:
      return [];
  }
}

function queued(connection: string, change: ReviewChange, patchset: number): QueuedChange {
  const found = change.patchsets.find((one) => one.number === patchset);
  if (!found) fail("not-found", `change ${change.number} has no patchset ${patchset}`);
  return {
    connection,
    project: change.project,
    branch: change.branch,
    change: change.number,
    patchset,
    ref: found.ref,
    commit: found.commit,
    url: change.url,
    subject: found.subject,
  };
}

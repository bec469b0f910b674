/**
 * Which pipelines an event of the review system starts (ci.md P-1): the rules of one pipeline
 * are OR, the fields of a rule AND. Pure. Our own reports are no events at all: the review
 * port leaves them out.
 */
import type { ReviewEvent } from "../../model/change.ts";
import type { PipelineConfig, TriggerRule } from "../../model/pipeline.ts";

/** Names of the pipelines that the event triggers, in the layout's order. */
export function triggered(event: ReviewEvent, pipelines: Iterable<PipelineConfig>): string[] {
  return [...pipelines]
    .filter((pipeline) => pipeline.triggers.some((rule) => matches(event, rule)))
    .map((pipeline) => pipeline.name);
}

function matches(event: ReviewEvent, rule: TriggerRule): boolean {
  if (rule.connection !== event.connection || !rule.events.includes(event.type)) return false;
  if (rule.comments.length === 0) return true;
  if (event.type !== "comment-added") return false;
  return rule.comments.some((regex) => regex.test(event.comment));
}

/**
 * The time line of a build: its moments in order, each with its distance from the push and how
 * long it took since the moment before (surface.md §8 names the steps). Pure.
 */
import { isoTime } from "../../base/clock.ts";
import type { TimelineEntry } from "../../model/build.ts";
import type { BuildRecord } from "./record.ts";

export function buildTimeline(record: BuildRecord): TimelineEntry[] {
  const marks = record.marks.toSorted((left, right) => left.atMs - right.atMs);
  return marks.map((mark, index) => ({
    at: isoTime(mark.atMs),
    step: mark.step,
    atMs: mark.atMs - record.pushedMs,
    durationMs: index === 0 ? null : mark.atMs - marks[index - 1]!.atMs,
    ...(mark.machine === undefined ? {} : { machine: mark.machine }),
    ...(mark.detail === undefined ? {} : { detail: mark.detail }),
  }));
}

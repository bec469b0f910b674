/**
 * How a waiting lease is told: its place, why it waits, when it is expected to start.
 */
import type { LeaseView } from "../model/lease.ts";

/** Place, reasons, expected start. */
export function waitingText(view: LeaseView): string {
  if (view.state !== "waiting") return view.state;
  const place = view.place === undefined ? "waiting" : `place ${view.place}`;
  const why = view.why?.map(({ text }) => text).slice(0, 2) ?? [];
  const start = startText(view);
  return [place, ...why, ...(start ? [start] : [])].join("; ");
}

export function startText({ predictedStart: start }: LeaseView): string | undefined {
  if (!start) return undefined;
  return `start expected about ${clockText(start.likelyAt)}, by ${clockText(start.latestAt)}`;
}

/** Minutes are as exact as a forecast is. */
const clockText = (at: string): string => `${at.slice(11, 16)} UTC`;

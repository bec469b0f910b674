/**
 * What was taken from a build's node and machines, and what is missing: kept as `collected.json`,
 * told on the index page. Pure.
 */
import { limits } from "../../base/limits.ts";
import type { Put } from "./archive-store.ts";
import type { CollectedLogs } from "./collector.ts";

export type Collected = {
  logs: CollectedLogs | null;
  /** `why`: what is missing of it. */
  machines: Record<string, Put & { why?: string }>;
};

export const COLLECTED = "collected.json";

/** What may still be taken of this build. */
export function roomFor(
  { logs, machines }: Collected,
  buildBytes: number,
): { bytes: number; files: number } {
  const taken = Object.values(machines).reduce((sum, { bytes }) => sum + bytes, logs?.bytes ?? 0);
  const bytes = Math.max(0, Math.min(limits.collectLogsBytes, buildBytes - taken));
  return { bytes, files: limits.collectFiles };
}

/** Sentences of what is not in the archive though the job left it. */
export function missingOf({ logs, machines }: Collected): string[] {
  const more = logs && logs.leftMore > 0 ? [`and ${logs.leftMore} more files of logs/`] : [];
  const cut = logs?.cut ? [`logs/ is not whole: ${logs.cut}`] : [];
  const lost = Object.entries(machines).flatMap(([name, { why }]) =>
    why ? [`${name}: ${why}`] : [],
  );
  return [...cut, ...(logs?.left ?? []), ...more, ...lost];
}

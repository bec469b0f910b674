/**
 * What was taken from a build's node and machines, and what is missing: kept as `collected.json`,
 * told on the index page.
 */
import { z } from "zod";
import { limits } from "../../base/limits.ts";
import type { ArchiveStore } from "./archive-store.ts";

const collectedSchema = z.object({
  logs: z
    .object({
      files: z.int(),
      bytes: z.number(),
      left: z.array(z.string()).readonly(),
      leftMore: z.int(),
      cut: z.string().nullable(),
    })
    .nullable(),
  /** `why`: what is missing of it. */
  machines: z.record(
    z.string(),
    z.object({ bytes: z.number(), whole: z.boolean(), why: z.string().optional() }),
  ),
});
export type Collected = z.output<typeof collectedSchema>;

export const COLLECTED = "collected.json";

/** What an earlier life of the server took of it; nothing where there is no whole word of that. */
export async function readCollected(store: ArchiveStore, path: string): Promise<Collected> {
  const none: Collected = { logs: null, machines: {} };
  const file = await store.get(path);
  if (!file || file.bytes > limits.requestBytes) return none;
  const chunks: Uint8Array[] = [];
  for await (const chunk of file.read()) chunks.push(chunk as Uint8Array);
  const parsed = collectedSchema.safeParse(jsonOf(Buffer.concat(chunks).toString("utf8")));
  return parsed.success ? parsed.data : none;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

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

/**
 * What the archive knows of its builds, by its own record: one small file a build, in a place
 * that no job writes to. The sweep goes by these alone; what a job leaves is never taken for a
 * build. Files of a lease that come after the build's end are found by a record too.
 */
import { z } from "zod";
import type { ArchiveStore } from "./archive-store.ts";

const recordSchema = z.strictObject({
  id: z.string(),
  logsPath: z.string(),
  beganMs: z.number(),
  /** Null while it runs. */
  endedMs: z.number().nullable(),
  files: z.int(),
  bytes: z.number(),
});
export type ArchivedRecord = z.output<typeof recordSchema>;

const FOLDER = ".builds";
const recordPath = (id: string): string => `${FOLDER}/${id}.json`;

export function putRecord(store: ArchiveStore, record: ArchivedRecord): Promise<unknown> {
  return store.put(recordPath(record.id), JSON.stringify(record));
}

/** One that cannot be read is left where it is: its build is nobody's to remove. */
export async function* readRecords(store: ArchiveStore): AsyncGenerator<ArchivedRecord> {
  for (const { name } of await store.entries(FOLDER)) {
    const file = await store.get(`${FOLDER}/${name}`);
    if (!file) continue;
    const parsed = recordSchema.safeParse(await readJson(file.read()));
    if (parsed.success) yield parsed.data;
  }
}

export async function removeBuild(store: ArchiveStore, record: ArchivedRecord): Promise<void> {
  await store.remove(record.logsPath);
  await store.remove(recordPath(record.id)); // last: what was not removed whole is tried again
}

/**
 * Which builds go: those older than the limit, then the oldest until the rest fits. One that runs
 * stays, and counts.
 */
export function chooseRemovals(
  records: readonly ArchivedRecord[],
  running: ReadonlySet<string>,
  olderThanMs: number,
  maxBytes: number,
): ArchivedRecord[] {
  const ageOf = (record: ArchivedRecord): number => record.endedMs ?? record.beganMs;
  let total = records.reduce((sum, record) => sum + record.bytes, 0);
  const removals: ArchivedRecord[] = [];
  for (const record of records.toSorted((x, y) => ageOf(x) - ageOf(y))) {
    const isOld = ageOf(record) < olderThanMs;
    // one that has no end may be taken up by a server that has just begun
    if (running.has(record.id) || (record.endedMs === null && !isOld)) continue;
    if (!isOld && total <= maxBytes) break;
    removals.push(record);
    total -= record.bytes;
  }
  return removals;
}

async function readJson(stream: AsyncIterable<Uint8Array>): Promise<unknown> {
  try {
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    return undefined;
  }
}

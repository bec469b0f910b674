/**
 * What is written down about a cell: its network, which is kept, and the namespace it had since
 * which boot, so that its processes are known as ours even when the namespace's name is gone.
 */
import { readFile } from "node:fs/promises";
import { z } from "zod";
import { readTextIfAny, writeFileAtomic } from "../base/files.ts";
import type { CellPlaces } from "./cell-paths.ts";
import { netnsInode } from "./process-scan.ts";
import type { CellMembership } from "./process-scan.ts";

const recordSchema = z.strictObject({
  schema: z.literal(1),
  netnsInode: z.string(),
  bootId: z.string(),
  cidr: z.string(),
  mtu: z.int(),
});
export type CellRecord = z.output<typeof recordSchema>;

export async function readRecord(places: CellPlaces): Promise<CellRecord | undefined> {
  const text = await readTextIfAny(places.record);
  return text === undefined ? undefined : recordSchema.parse(JSON.parse(text));
}

export async function writeRecord(places: CellPlaces, record: CellRecord): Promise<void> {
  await writeFileAtomic(places.record, `${JSON.stringify(record)}\n`);
}

/** Changes with every boot of the machine. */
export async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

/** By what the cell's processes are known now. */
export async function membershipOf(places: CellPlaces): Promise<CellMembership> {
  const record = await readRecord(places).catch(() => undefined);
  const sameBoot = record?.bootId === (await bootId()) && record.netnsInode !== "";
  const recorded = sameBoot ? record.netnsInode : undefined;
  return {
    netnsInode: netnsInode(places.netns) ?? recorded,
    controlGroup: places.controlGroup,
  };
}

/** The namespace has ended: the kernel gives its inode to another one some day. */
export async function forgetNamespace(places: CellPlaces): Promise<void> {
  const record = await readRecord(places);
  if (record && record.netnsInode !== "") await writeRecord(places, { ...record, netnsInode: "" });
}

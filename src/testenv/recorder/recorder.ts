/**
 * The flight recorder, one folder a lease (H-11.1): `timeline.jsonl`, a line a fact in order,
 * and beside it consoles and certificate, put there by the reset. Begins at `prepare`, ends
 * after the proof; kept a while for whoever asks late. No secret is ever written to it (H-11.4).
 */
import { appendFileSync, existsSync, readFileSync, statSync } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../base/assert.ts";
import { isoTime } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { isUuid } from "../../base/ids.ts";
import { limits } from "../../base/limits.ts";

export type LeaseRecord = {
  readonly lease: string;
  readonly folder: string;
  /** Appends one fact; `kind` as te-host.md H-11.2 names them. */
  write(kind: string, facts: object, machine?: string): void;
  /** How many facts of this kind and machine are there already (before a restart, say). */
  count(kind: string, machine: string): number;
};

export type Recorder = {
  /** The record of a lease, begun or found again. */
  open(lease: string, testenv: number, epoch: number): LeaseRecord;
  folder(lease: string): string;
  /** Removes the oldest beyond `limits.recordedLeases`. */
  prune(): Promise<void>;
};

export async function openRecorder(root: string, clock: Clock): Promise<Recorder> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const open = new Map<string, LeaseRecord>();
  const folder = (lease: string): string => {
    assert(isUuid(lease), "not a lease id");
    return join(root, lease);
  };
  return {
    folder,
    open(lease, testenv, epoch) {
      const known = open.get(lease);
      if (known) return known;
      const made = openRecord(folder(lease), { lease, testenv, epoch }, clock);
      open.set(lease, made);
      return made;
    },
    async prune() {
      const found = await Promise.all(
        (await readdir(root)).filter(isUuid).map(async (lease) => {
          const { mtimeMs } = await stat(join(root, lease));
          return { lease, mtimeMs };
        }),
      );
      const old = found.sort((a, b) => b.mtimeMs - a.mtimeMs).slice(limits.recordedLeases);
      for (const { lease, mtimeMs } of old) {
        if (clock.wallMs() - mtimeMs < limits.leaseFilesAfterEndMs) continue; // still on its way
        open.delete(lease);
        await rm(join(root, lease), { recursive: true, force: true });
      }
    },
  };
}

function openRecord(
  folder: string,
  of: { lease: string; testenv: number; epoch: number },
  clock: Clock,
): LeaseRecord {
  const path = join(folder, "timeline.jsonl");
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(0, -1) : [];
  let seq = lines.length;
  let size = existsSync(path) ? statSync(path).size : 0;
  let full = size >= limits.leaseFileBytes;
  return {
    lease: of.lease,
    folder,
    write(kind, facts, machine) {
      if (full || !existsSync(folder)) return;
      full = size + 4096 >= limits.leaseFileBytes;
      const line = {
        seq: ++seq,
        at: isoTime(clock.wallMs()),
        monoMs: Math.round(clock.monoMs()),
        te: of.testenv,
        epoch: of.epoch,
        lease: of.lease,
        ...(machine === undefined ? {} : { machine }),
        ...(full ? { kind: "dropped", detail: "no more is recorded" } : { kind, ...facts }),
      };
      const text = `${JSON.stringify(line)}\n`;
      size += Buffer.byteLength(text);
      appendFileSync(path, text, { mode: 0o600 });
    },
    count(kind, machine) {
      const end = `"machine":${JSON.stringify(machine)},"kind":${JSON.stringify(kind)}`;
      return lines.filter((line) => line.includes(end)).length;
    },
  };
}

/** Makes the folder of a lease that begins. */
export async function makeRecordFolder(recorder: Recorder, lease: string): Promise<void> {
  await mkdir(recorder.folder(lease), { recursive: true, mode: 0o700 });
}

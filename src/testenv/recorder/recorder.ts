/**
 * The flight recorder, one folder a grant (H-11.1): `timeline.jsonl`, a line a fact in order,
 * and beside it consoles and certificate, put there by the reset. Begins at `prepare`, ends
 * after the proof; kept a while for whoever asks late. No secret is ever written to it (H-11.4).
 * Its key is the grant: lease, TE and epoch. A lease that was put back to the queue may come to
 * this host again, to another rack or to the same one, and each time is a record of its own. A
 * line that cannot be written is lost and counted, never in the way of what it tells of.
 */
import { appendFileSync, existsSync, readFileSync, statSync } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../base/assert.ts";
import { isoTime } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { isUuid } from "../../base/ids.ts";
import { limits } from "../../base/limits.ts";

/** One time that a lease had a rack of this host. */
export type RecordedGrant = {
  readonly lease: string;
  readonly testenv: number;
  readonly epoch: number;
};

export type LeaseRecord = {
  readonly grant: RecordedGrant;
  readonly folder: string;
  /** Appends one fact; `kind` as te-host.md H-11.2 names them. */
  write(kind: string, facts: object, machine?: string): void;
  /** How many facts of this kind and machine are there already (before a restart, say). */
  count(kind: string, machine: string): number;
};

export type Recorder = {
  /** The record of a grant, begun or found again. */
  open(grant: RecordedGrant): LeaseRecord;
  folder(grant: RecordedGrant): string;
  /** Removes the oldest beyond `limits.recordedLeases`. */
  prune(): Promise<void>;
};

export async function openRecorder(root: string, clock: Clock): Promise<Recorder> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const open = new Map<string, LeaseRecord>();
  const folder = (grant: RecordedGrant): string => join(root, grantName(grant));
  return {
    folder,
    open(grant) {
      const name = grantName(grant);
      const known = open.get(name);
      if (known) return known;
      const made = openRecord(folder(grant), grant, clock);
      open.set(name, made);
      return made;
    },
    async prune() {
      const found = await Promise.all(
        (await readdir(root))
          // a bare UUID: of a version that kept one folder a lease
          .filter((name) => grantOfName(name) !== undefined || isUuid(name))
          .map(async (name) => {
            const { mtimeMs } = await stat(join(root, name));
            return { name, mtimeMs };
          }),
      );
      const old = found.sort((a, b) => b.mtimeMs - a.mtimeMs).slice(limits.recordedLeases);
      for (const { name, mtimeMs } of old) {
        if (clock.wallMs() - mtimeMs < limits.leaseFilesAfterEndMs) continue; // still on its way
        open.delete(name);
        await rm(join(root, name), { recursive: true, force: true });
      }
    },
  };
}

/** `<lease>.<TE>.<epoch>`: the name of a grant's folder. */
export function grantName({ lease, testenv, epoch }: RecordedGrant): string {
  assert(isUuid(lease), "not a lease id");
  return `${lease}.${testenv}.${epoch}`;
}

export function grantOfName(name: string): RecordedGrant | undefined {
  const [lease = "", testenv = "", epoch = "", ...more] = name.split(".");
  const numbers = /^[0-9]{1,3}$/.test(testenv) && /^[0-9]{1,15}$/.test(epoch);
  if (!isUuid(lease) || !numbers || more.length > 0) return undefined;
  return { lease, testenv: Number(testenv), epoch: Number(epoch) };
}

function openRecord(folder: string, of: RecordedGrant, clock: Clock): LeaseRecord {
  const path = join(folder, "timeline.jsonl");
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n").slice(0, -1) : [];
  let seq = lines.length;
  let size = existsSync(path) ? statSync(path).size : 0;
  let full = size >= limits.leaseFileBytes;
  let lost = 0;

  /** A line that finds no room is counted; the next that finds some says how many there were. */
  function append(text: string): void {
    const told = lost === 0 ? "" : `${JSON.stringify({ ...head(), kind: "lost", lines: lost })}\n`;
    try {
      appendFileSync(path, told + text, { mode: 0o600 });
      size += Buffer.byteLength(told + text);
      lost = 0;
    } catch {
      lost++;
    }
  }

  const head = (): object => ({
    seq: ++seq,
    at: isoTime(clock.wallMs()),
    monoMs: Math.round(clock.monoMs()),
    te: of.testenv,
    epoch: of.epoch,
    lease: of.lease,
  });

  return {
    grant: of,
    folder,
    write(kind, facts, machine) {
      if (full || !existsSync(folder)) return;
      full = size + 4096 >= limits.leaseFileBytes;
      const line = {
        ...head(),
        ...(machine === undefined ? {} : { machine }),
        ...(full ? { kind: "dropped", detail: "no more is recorded" } : { kind, ...facts }),
      };
      append(`${JSON.stringify(line)}\n`);
    },
    count(kind, machine) {
      const end = `"machine":${JSON.stringify(machine)},"kind":${JSON.stringify(kind)}`;
      return lines.filter((line) => line.includes(end)).length;
    },
  };
}

/** Makes the folder of a grant that begins. */
export async function makeRecordFolder(recorder: Recorder, grant: RecordedGrant): Promise<void> {
  await mkdir(recorder.folder(grant), { recursive: true, mode: 0o700 });
}

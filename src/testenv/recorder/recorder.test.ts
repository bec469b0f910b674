import { appendFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { makeRecordFolder, openRecorder } from "./recorder.ts";
import type { RecordedGrant, Recorder } from "./recorder.ts";

const lease = "00000000-0000-4000-8000-000000000001";
let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "rackyard-recorder-"));
});
afterEach(() => rm(root, { recursive: true }));

type Line = { te: number; epoch: number; seq: number; kind: string; lines?: number };
async function linesOf(recorder: Recorder, grant: RecordedGrant): Promise<Line[]> {
  const text = await readFile(join(recorder.folder(grant), "timeline.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
}

test("H-11.1 H-11.2 a requeued lease has a record for each rack, and each names its own", async () => {
  const recorder = await openRecorder(root, systemClock);
  // back on the same rack, and on another one that happens to have the same epoch
  const grants = [
    { lease, testenv: 1, epoch: 5 },
    { lease, testenv: 1, epoch: 6 },
    { lease, testenv: 2, epoch: 5 },
  ];
  for (const grant of grants) {
    await makeRecordFolder(recorder, grant);
    recorder.open(grant).write("prepare", { of: grant.epoch });
  }
  for (const grant of grants) {
    expect(await linesOf(recorder, grant)).toMatchObject([
      { te: grant.testenv, epoch: grant.epoch, seq: 1, kind: "prepare" },
    ]);
  }
  // the next agent goes on in the record that it finds
  const next = await openRecorder(root, systemClock);
  next.open(grants[2]!).write("fence", {});
  expect((await linesOf(next, grants[2]!)).map(({ seq, kind }) => `${seq} ${kind}`)).toEqual([
    "1 prepare",
    "2 fence",
  ]);
});

test("H-11.4 lines that find no room are counted, and never in the way of what they tell of", async () => {
  const recorder = await openRecorder(root, systemClock);
  const grant = { lease, testenv: 1, epoch: 5 };
  await makeRecordFolder(recorder, grant);
  const record = recorder.open(grant);
  record.write("prepare", {});
  const path = join(recorder.folder(grant), "timeline.jsonl");
  // a directory in the file's place: appending fails whoever we are, as on a full disk
  const before = await readFile(path);
  await rm(path);
  await mkdir(path);
  record.write("fence", {});
  record.write("verb", {});
  await rm(path, { recursive: true });
  appendFileSync(path, before);
  await chmod(path, 0o600);
  record.write("power", {});
  expect((await linesOf(recorder, grant)).map(({ kind, lines }) => [kind, lines])).toEqual([
    ["prepare", undefined],
    ["lost", 2],
    ["power", undefined],
  ]);
});

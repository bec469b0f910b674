/** H-6.4, issue 6, section 3: a key lives as long as its lease, whatever the wall clock says. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { openKeyLines } from "./key-lines.ts";

const hour = 3_600_000;
const start = Date.parse("2026-06-01T12:00:00Z");
let folder: string;
let time: { wallMs: number; monoMs: number };
const clock: Clock = {
  wallMs: () => time.wallMs,
  monoMs: () => time.monoMs,
  after: (delayMs, callback) => systemClock.after(delayMs, callback),
};
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "keys-"));
  time = { wallMs: start, monoMs: 5_000 };
});
afterEach(() => rm(folder, { recursive: true }));

const opening = (number: number) => ({
  number,
  lease: "018f0000-0000-7000-8000-000000000000",
  epoch: 4,
  publicKey: "ssh-ed25519 AAAA",
  expiresAtMs: time.wallMs + 2 * hour,
  from: [],
});
const expiry = async (name: string): Promise<string | undefined> =>
  /expiry-time="(\d+Z)"/.exec(await readFile(join(folder, name), "utf8"))?.[1];

test.each([
  ["forward", hour, "20260601150000Z"],
  ["back", -hour, "20260601130000Z"],
])("the wall clock stepped %s an hour: the key ends with its lease", async (_way, step, end) => {
  const lines = openKeyLines(folder, clock);
  await lines.install(opening(1));
  expect(await expiry("te1")).toBe("20260601140000Z");
  // half an hour later, by both clocks, it is set
  time = { wallMs: start + hour / 2 + step, monoMs: 5_000 + hour / 2 };
  expect(await lines.look()).toBe("stepped");
  expect(await expiry("te1")).toBe(end);
  expect(await lines.look()).toBe("steady");
});

test("time that only passes changes nothing; a key that was removed does not come back", async () => {
  const lines = openKeyLines(folder, clock);
  await lines.install(opening(1));
  await lines.install(opening(2));
  time = { wallMs: start + hour, monoMs: 5_000 + hour };
  expect(await lines.look()).toBe("steady");
  await lines.remove(1);
  time = { wallMs: start + 3 * hour, monoMs: 5_000 + hour };
  expect(await lines.look()).toBe("stepped");
  expect(await readdir(folder)).toEqual(["te2"]);
  expect(await expiry("te2")).toBe("20260601160000Z");
});

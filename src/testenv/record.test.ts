import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openSqliteStore } from "../store/store.ts";
import { step } from "./life.ts";
import { newTestenv } from "./testenv-state.ts";
import type { Terms } from "./testenv-state.ts";
import { testenvLife, testenvRecords } from "./record.ts";

const terms: Terms = {
  lease: "00000000-0000-4000-8000-000000000001",
  epoch: 41,
  durationMs: 1,
  holderName: "x",
  holderAddresses: [],
  tokenHash: "",
  compat: null,
};

test("H-1.5 L2 the record outlives the agent: state, and the highest epoch of a removed TE too", async () => {
  const directory = await mkdtemp(join(tmpdir(), "rackyard-record-"));
  const path = join(directory, "te-host.db");
  {
    await using store = await openSqliteStore(path);
    const records = testenvRecords(store, () => 1);
    let te = newTestenv(3, "two");
    await records.save([{ before: null, event: "carved", after: te }]);
    for (const event of [
      { kind: "prepare", terms } as const, // refused, and remembered
      { kind: "unwant" } as const,
      { kind: "removed" } as const,
    ]) {
      const next = step(te, event).testenv;
      await records.save([{ before: te, event: event.kind, after: next }]);
      te = next;
    }
  }
  {
    await using store = await openSqliteStore(path);
    const records = testenvRecords(store, () => 1);
    const [found] = await records.all();
    expect(found).toMatchObject({ number: 3, epoch: 41, phase: { state: "removed" } });
    expect(await store.rebuild(testenvLife)).toBe(1);
    expect(await records.all()).toEqual([found]);
  }
  await rm(directory, { recursive: true });
});

/**
 * The agent killed at every step of prepare and reset: the process stops there for good, a new
 * one starts from the record, and the TE always ends ready, proved for its present epoch, or
 * faulty; it is never lent while anything of the last lease is left.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  directory,
  expectProved,
  liveLease,
  makeReady,
  newHost,
} from "../../test/samples/rack-agent.ts";

test.each([false, true])(
  "L5 L6 H-8.1 killed at every step of prepare and reset (new world: %s), the TE is proved clean",
  async (newWorld) => {
    let deaths = 0;
    for (let diesAt = 1; ; diesAt++) {
      const host = newHost();
      await makeReady(host);
      const died = await liveLease(host, { diesAt }, newWorld);
      if (!died) break;
      deaths++;
      expectProved(host, 7);
      await rm(join(directory, "recorder"), { recursive: true, force: true });
    }
    expect(deaths).toBeGreaterThan(60);
  },
  120_000,
);

/** All calls of one lease's life, records included. */
async function callsOfLease(): Promise<Set<string>> {
  const names = new Set<string>();
  const quiet = newHost();
  await makeReady(quiet);
  await liveLease(quiet, { fails: (call) => (names.add(call), false) }, false);
  await rm(join(directory, "recorder"), { recursive: true, force: true });
  return names;
}

test.each([1, 2])(
  "H-8.5 H-13.3 L6 whichever call or record fails %s times, the reset is tried again and the TE proved",
  async (times) => {
    const names = await callsOfLease();
    expect([...names].filter((name) => name.startsWith("save ")).length).toBeGreaterThan(4);
    for (const name of names) {
      const host = newHost();
      await makeReady(host);
      let failed = 0;
      expect(host.record?.epoch).toBe(0);
      const some = (call: string): boolean => {
        const armed = host.record?.epoch === 7 || call === "save prepare";
        if (failed >= times || call !== name || !armed) return false;
        failed++;
        return true;
      };
      await liveLease(host, { fails: some }, false);
      expectProved(host, 7);
      await rm(join(directory, "recorder"), { recursive: true, force: true });
    }
  },
  60_000,
);

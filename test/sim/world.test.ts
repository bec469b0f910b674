/**
 * lease.md §8: whole worlds on a bad day. Broker, sessions and agents are the real ones; time,
 * network, disks and racks come from one seed.
 */
import { expect, test } from "vitest";
import { runWorld } from "../../src/sim/world.ts";

const SEEDS = 50;

test("L1 L2 L4 L5 L6 L7 L8 L11 L13 L14 hold in 50 worlds, and each comes to rest", async () => {
  let leases = 0;
  let kills = 0;
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = await runWorld(seed);
    const said = [...outcome.tail, ...outcome.violations];
    const repeat = `rackyard sim --from ${seed} --seeds 1`;
    expect(outcome.violations, `${said.join("\n")}\n${repeat}`).toEqual([]);
    leases += outcome.leases;
    kills += outcome.kills;
  }
  // a world in which nothing happens shows nothing
  expect(leases).toBeGreaterThan(5 * SEEDS);
  expect(kills).toBeGreaterThan(2 * SEEDS);
});

test("lease.md §8 the same seed is the same world, to the last line of its trace", async () => {
  for (const seed of [3, 7]) {
    const [one, again] = [await runWorld(seed), await runWorld(seed)];
    expect(again).toEqual(one);
  }
  expect((await runWorld(3)).digest).not.toBe((await runWorld(7)).digest);
});

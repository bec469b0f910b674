import fc from "fast-check";
import { expect, test } from "vitest";
import type { ReadyNode } from "./build-ports.ts";
import { byPlace, pair } from "./pairing.ts";
import type { Waiter } from "./pairing.ts";

const node = (id: string): ReadyNode => ({
  id,
  label: "worker",
  provider: "here",
  address: `10.99.0.${id}`,
  hostKey: "k",
  image: "i",
});
const waiter = (build: string, at: number, more: Partial<Waiter> = {}): Waiter => ({
  build,
  label: "worker",
  place: { precedence: 200, enqueuedMs: at, index: 0 },
  node: null,
  pinned: false,
  ...more,
});
const paired = (waiters: Waiter[], nodes: string[]): Record<string, string> =>
  Object.fromEntries(
    [...pair(waiters, () => nodes.map(node))].map(([build, of]) => [build, of.id]),
  );

test("N-1 the first R of the queue are paired, R = ready nodes", () => {
  const queue = [waiter("c", 3), waiter("a", 1), waiter("b", 2)];
  expect(paired(queue, [])).toEqual({});
  expect(paired(queue, ["1"])).toEqual({ a: "1" });
  expect(paired(queue, ["1", "2"])).toEqual({ a: "1", b: "2" });
});

test("N-2 precedence first, then age, then the order of the jobs", () => {
  const urgent = waiter("z", 9, { place: { precedence: 100, enqueuedMs: 9, index: 0 } });
  const second = waiter("b", 1, { place: { precedence: 200, enqueuedMs: 1, index: 1 } });
  expect(paired([second, waiter("a", 1), urgent], ["1", "2"])).toEqual({ z: "1", a: "2" });
});

test("lease.md §4 a pairing stays where it can and moves with the queue", () => {
  expect(paired([waiter("a", 1, { node: "2" })], ["1", "2"])).toEqual({ a: "2" });
  expect(paired([waiter("a", 1), waiter("b", 2, { node: "1" })], ["1"])).toEqual({ a: "1" });
  expect(paired([waiter("a", 1, { node: "gone" })], ["1"])).toEqual({ a: "1" });
});

test("lease.md §4 what is pinned keeps its node against anyone", () => {
  const queue = [waiter("a", 1), waiter("b", 2, { node: "1", pinned: true })];
  expect(paired(queue, ["1"])).toEqual({ b: "1" });
  expect(paired(queue, ["1", "2"])).toEqual({ a: "2", b: "1" });
});

test("I2 N-1 no node twice; nobody unpinned is ahead of one who is left out", () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ at: fc.nat(20), node: fc.option(fc.nat(5)), pinned: fc.boolean() })),
      fc.integer({ min: 0, max: 6 }),
      (raw, count) => {
        const waiters = raw.map((one, index) =>
          waiter(`b${index}`, one.at, {
            node: one.node === null ? null : String(one.node),
            pinned: one.pinned,
          }),
        );
        const nodes = Array.from({ length: count }, (_, index) => String(index));
        const pairs = paired(waiters, nodes);
        const given = Object.values(pairs);
        expect(new Set(given).size).toBe(given.length);
        expect(given.length).toBe(Math.min(waiters.length, count));
        const sorted = waiters
          .filter((one) => !(one.pinned && pairs[one.build] === one.node))
          .sort(byPlace);
        const has = sorted.map((one) => one.build in pairs);
        expect(has.lastIndexOf(true)).toBeLessThan(
          has.includes(false) ? Math.max(has.indexOf(false), 0) + 0.5 : has.length,
        );
      },
    ),
  );
});

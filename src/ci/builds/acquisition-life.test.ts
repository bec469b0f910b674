import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { acquisitionStates, newWaiter, rackWaitMs, stepAcquisition } from "./acquisition-life.ts";
import type { AcquisitionEvent, AcquisitionState, Waiter } from "./acquisition-life.ts";
import { sampleNode } from "./samples.test.ts";

const node = sampleNode("n");
const place = { precedence: 200, enqueuedMs: 0, index: 0 };
const fresh = newWaiter({ build: "b", label: "worker", place, wantsRack: true }, 0);
const inState = (state: AcquisitionState): Waiter => ({
  ...fresh,
  state,
  node: state === "queued" ? null : node,
});

const events: Record<string, AcquisitionEvent> = {
  paired: { kind: "paired", node },
  unpaired: { kind: "unpaired" },
  confirmed: { kind: "confirmed" },
  failed: { kind: "failed" },
  granted: { kind: "granted" },
  active: { kind: "active" },
  "node-gone": { kind: "node-gone" },
  taken: { kind: "taken" },
  "take-failed": { kind: "take-failed", why: "w" },
  waited: { kind: "waited", stop: { kind: "rack-unavailable", why: "late" } },
  left: { kind: "left" },
};

const lines = readFileSync(new URL("../../../docs/specs/acquisition.md", import.meta.url), "utf8")
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.trim()));
const head = lines.findIndex((cells) => cells[1] === "event" && cells.length > 5);
const rows = lines.slice(head + 2, head + 2 + Object.keys(events).length);
const table = new Map(rows.map((cells) => [cells[1]!, cells.slice(2, -1)]));

test("the table names every event and every state", () => {
  expect(lines[head]!.slice(2, -1)).toEqual(acquisitionStates);
  expect([...table.keys()]).toEqual(Object.keys(events));
  expect(lines[head + 2 + rows.length]!.length).toBeLessThan(3);
});

for (const [name, event] of Object.entries(events)) {
  for (const [index, state] of acquisitionStates.entries()) {
    const cell = table.get(name)?.[index]?.replaceAll(/[*:,]/g, "") ?? "missing";
    test(`docs/specs/acquisition.md ${name} in ${state}: ${cell}`, () => {
      const before = inState(state);
      const { waiter, effects } = stepAcquisition(before, event, 5);
      if (cell === "·") return expect({ waiter, effects }).toEqual({ waiter: before, effects: [] });
      expect([waiter.state, ...effects.map((effect) => effect.kind)].join(" ")).toBe(cell);
    });
  }
}

const after = (from: Waiter, ...steps: [AcquisitionEvent, number][]): Waiter =>
  steps.reduce((waiter, [event, atMs]) => stepAcquisition(waiter, event, atMs).waiter, from);

test("A3 lease-wait goes on over several offers, and stands still between them", () => {
  const twice = after(
    fresh,
    [events["paired"]!, 10],
    [events["confirmed"]!, 10],
    [events["unpaired"]!, 40],
    [events["confirmed"]!, 45],
    [events["paired"]!, 100],
    [events["confirmed"]!, 100],
  );
  expect(rackWaitMs(twice, 100)).toBe(30);
  expect(rackWaitMs(twice, 107)).toBe(37);
});

test("A2 until the withdrawal is confirmed the node stays reserved, also where the offer failed", () => {
  const failed = after(fresh, [events["paired"]!, 1], [events["failed"]!, 2]);
  expect([failed.state, failed.node?.id]).toEqual(["withdrawing", "n"]);
  const granted = after(failed, [events["granted"]!, 3]);
  expect([granted.state, granted.node?.id]).toEqual(["granted", "n"]);
  expect(after(failed, [events["confirmed"]!, 3]).node).toBeNull();
});

test("a job without a rack takes its node at once", () => {
  const alone = { ...fresh, wantsRack: false };
  const { waiter, effects } = stepAcquisition(alone, events["paired"]!, 1);
  expect([waiter.state, effects.map((effect) => effect.kind)]).toEqual(["taking", ["take"]]);
});

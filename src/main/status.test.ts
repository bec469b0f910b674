import { expect, test } from "vitest";
import { isReady } from "./status.ts";
import type { StatusLine } from "./status.ts";

type Case = {
  health?: StatusLine["health"];
  door?: string | null;
  states?: readonly string[];
};

/** The line of an installation with one host, as far as its readiness goes. */
function lineOf({ health = "ok", door = "http://10.99.0.2:7226", states = ["ready"] }: Case) {
  const hosts = [{ testenvs: states.map((state) => ({ state })) }];
  return { health, apiForNodes: door, hosts } as unknown as StatusLine;
}

test.each<[string, Case, boolean]>([
  ["all are ready", { states: ["ready", "ready"] }, true],
  ["racks that are lent, or broken: they are not in the making", { states: ["leased"] }, true],
  ["a broken rack", { health: "degraded", states: ["faulty", "ready"] }, true],
  ["a rack that the host no longer has", { states: ["ready", "offline"] }, true],
  ["a host of the last run that has not connected yet", { health: "failing" }, false],
  ["no word of any rack yet", { states: ["offline", "offline"] }, false],
  ["a rack is being made", { states: ["ready", "provisioning"] }, false],
  ["a rack is being reset", { states: ["ready", "resetting"] }, false],
  ["nodes have no door yet", { door: null }, false],
])("surface.md §8 ready or not: %s", (_what, seen, ready) => {
  expect(isReady(lineOf(seen))).toBe(ready);
});

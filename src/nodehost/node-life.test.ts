import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { resumeNode, stepNode } from "./node-life.ts";
import type { HostNode, NodeEvent } from "./node-life.ts";

const node = (phase: HostNode["phase"]): HostNode => ({
  id: "00000000-0000-4000-8000-000000000001",
  spec: {
    label: "worker",
    image: "sha256:",
    memoryMiB: 512,
    cpus: 1,
    diskGiB: 8,
    authorizedKey: "ssh-ed25519 AAAA",
  },
  address: "10.99.0.180",
  phase,
});
const states: Record<string, HostNode["phase"]> = {
  building: { state: "building" },
  ready: { state: "ready", hostKey: "ssh-ed25519 AAAA" },
  failed: { state: "failed", reason: "no" },
  deleting: { state: "deleting" },
  gone: { state: "gone" },
};
const events: Record<string, NodeEvent> = {
  answered: { kind: "answered", hostKey: "ssh-ed25519 AAAA" },
  broken: { kind: "broken", reason: "no" },
  delete: { kind: "delete" },
  "torn-down": { kind: "torn-down" },
  rebooted: { kind: "rebooted" },
};

function cell(event: NodeEvent, phase: HostNode["phase"]): string {
  const step = stepNode(node(phase), event);
  const state = step.node.phase.state === phase.state ? "" : `**${step.node.phase.state}**`;
  const effects = step.effects.map((effect) => effect.kind).join(", ");
  return [state, effects].filter((part) => part !== "").join(": ") || "·";
}

describe("H-17.1 H-17.3 the table of docs/specs/node.md is what the code does", () => {
  const spec = readFileSync(new URL("../../docs/specs/node.md", import.meta.url), "utf8");
  const table = new Map<string, string[]>();
  for (const line of spec.slice(spec.indexOf("## On its host")).split("\n")) {
    const parts = line.split("|").map((part) => part.trim());
    if (parts[1]?.startsWith("`")) table.set(parts[1].replaceAll("`", ""), parts.slice(2, -1));
  }
  test.each(Object.entries(events))("%s", (name, event) => {
    expect(table.get(name)).toEqual(Object.values(states).map((phase) => cell(event, phase)));
  });
  test("has every event and no other", () => {
    expect([...table.keys()].sort()).toEqual(Object.keys(events).sort());
  });
});

test("a record found at start always has something that leads on, unless it is at rest", () => {
  for (const [name, phase] of Object.entries(states)) {
    expect(resumeNode(node(phase)).length > 0).toBe(!["ready", "gone"].includes(name));
  }
});

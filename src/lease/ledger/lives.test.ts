// The two lives against their specification: docs/specs/lease.md is read, and every cell of its
// tables is compared with what the code does. A state or an event without a cell fails.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { stepLease } from "./lease-life.ts";
import type { LeaseEvent, LeaseState } from "./lease-life.ts";
import { stepTestenv } from "./testenv-life.ts";
import type { TestenvEvent, TestenvLife } from "./testenv-life.ts";

const spec = readFileSync(join(import.meta.dirname, "../../../docs/specs/lease.md"), "utf8");
const NOW = Date.parse("2026-01-01T00:00:00Z");
const AT = "2026-01-01T00:00:00.000Z";

const grant = { te: "here:1", epoch: 7, kind: "two", host: "here" };
const active = {
  kind: "active",
  grant,
  preparedAtMs: NOW,
  deadlineMs: NOW,
  expiresAt: AT,
} as const;
const leaseStates: Record<string, LeaseState> = {
  waiting: { kind: "waiting" },
  preparing: { kind: "preparing", grant },
  "active, not taken": { ...active, taken: false },
  "active, taken": { ...active, taken: true },
  ending: { kind: "ending", grant, preparedAtMs: NOW, expiresAt: AT, reason: "revoked" },
  ended: {
    kind: "ended",
    grant,
    preparedAtMs: NOW,
    expiresAt: AT,
    reason: "revoked",
    endedAt: AT,
  },
};
const leaseEvents: Record<string, LeaseEvent> = {
  granted: { kind: "granted", grant },
  "moved-up": { kind: "moved-up", epoch: 9 },
  prepared: { kind: "prepared", deadlineMs: NOW + 5, expiresAt: AT },
  taken: { kind: "taken" },
  extended: { kind: "extended", deadlineMs: NOW + 9, expiresAt: AT },
  "finish: released": { kind: "finish", reason: "released" },
  "finish: holder-lost": { kind: "finish", reason: "holder-lost" },
  "finish: expired": { kind: "finish", reason: "expired" },
  "finish: revoked": { kind: "finish", reason: "revoked" },
  "finish: cancelled": { kind: "finish", reason: "cancelled" },
  "finish: wait-timeout": { kind: "finish", reason: "wait-timeout" },
  "fenced: expired": { kind: "fenced", reason: "expired", endedAt: AT },
  "rack-lost": { kind: "rack-lost", mayRequeue: false },
  "rack-lost, may requeue": { kind: "rack-lost", mayRequeue: true },
};

function leaseCell(state: LeaseState, event: LeaseEvent): string {
  const step = stepLease(state, event, NOW);
  if (step === null) return "✗";
  if (step.state === state) {
    expect(step.effects).toEqual([]);
    return "·";
  }
  const to = step.state;
  const reason = "reason" in to ? ` ${to.reason}` : "";
  const effects = step.effects.map((effect) => effect.kind).join(", ");
  return `**${to.kind}**${reason}${effects ? `: ${effects}` : ""}`;
}

const testenvStates: Record<string, TestenvLife> = {
  offline: { kind: "offline", owed: null },
  provisioning: { kind: "provisioning" },
  ready: { kind: "ready" },
  preparing: { kind: "preparing", lease: "l" },
  leased: { kind: "leased", lease: "l" },
  held: { kind: "held" },
  resetting: { kind: "resetting", lease: "l" },
  faulty: { kind: "faulty", detail: "d" },
  quarantined: { kind: "quarantined", detail: "d" },
  removed: { kind: "removed" },
};
const reported = (as: "offline" | "provisioning" | "held" | "quarantined"): TestenvEvent => ({
  kind: "reported",
  as,
  detail: "d",
});
const testenvEvents: Record<string, TestenvEvent> = {
  granted: { kind: "granted", lease: "l" },
  prepared: { kind: "prepared" },
  "waiter-gone": { kind: "waiter-gone" },
  fenced: { kind: "fenced", lease: "l" },
  proved: { kind: "proved" },
  failed: { kind: "failed", detail: "d" },
  "reported: offline": reported("offline"),
  "reported: provisioning": reported("provisioning"),
  "reported: held": reported("held"),
  "reported: quarantined": reported("quarantined"),
  "host-lost": { kind: "host-lost", owed: null },
  removed: { kind: "removed" },
};

function testenvCell(state: TestenvLife, event: TestenvEvent): string {
  const next = stepTestenv(state, event);
  if (next === null) return "✗";
  return next === state ? "·" : `**${next.kind}**`;
}

/** Rows of the table under this heading: event → state → cell. */
function tableOf(heading: string): Record<string, Record<string, string>> {
  const section = spec.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = section
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const [head, , ...body] = rows;
  return Object.fromEntries(
    body.map(([event, ...cells]) => [
      event!.replaceAll("`", ""),
      Object.fromEntries(cells.map((cell, index) => [head![index + 1]!, cell])),
    ]),
  );
}

function computed<S, E>(
  states: Record<string, S>,
  events: Record<string, E>,
  cell: (state: S, event: E) => string,
): Record<string, Record<string, string>> {
  return Object.fromEntries(
    Object.entries(events).map(([event, what]) => [
      event,
      Object.fromEntries(Object.entries(states).map(([name, state]) => [name, cell(state, what)])),
    ]),
  );
}

describe("L1 the specification's tables are complete and true", () => {
  test("the life of a lease", () => {
    expect(computed(leaseStates, leaseEvents, leaseCell)).toEqual(tableOf("Table 1: a lease"));
  });

  test("the life of a test environment, as the broker knows it", () => {
    const table = tableOf("Table 2: a test environment");
    expect(computed(testenvStates, testenvEvents, testenvCell)).toEqual(table);
  });
});

import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Certificate } from "../model/testenv.ts";
import { resume, step } from "./life.ts";
import { newTestenv, openTerms } from "./testenv-state.ts";
import type { Deadline, Phase, Terms, Testenv, TestenvEvent } from "./testenv-state.ts";

const lease = "00000000-0000-4000-8000-000000000001";
const other = "00000000-0000-4000-8000-000000000002";
const terms: Terms = {
  lease,
  epoch: 7,
  durationMs: 60_000,
  holderName: "build",
  holderAddresses: [],
  tokenHash: "",
  compat: null,
};
const deadline: Deadline = { bootId: "b", monoMs: 100_000, at: "2030-01-01T00:01:40.000Z" };
const endedAt = "2030-01-01T00:02:00.000Z";
const certificate = (epoch: number): Certificate => ({
  schema: "reset/1",
  host: "h",
  te: 1,
  epoch,
  lease: null,
  reason: "released",
  began: endedAt,
  ended: endedAt,
  durationMs: 1,
  signature: "ed25519:",
});

const broken = { terms, reason: "released", endedAt, attempt: 1, detail: "no" } as const;
const states: Record<string, Phase> = {
  provisioning: { state: "provisioning" },
  ready: { state: "ready", certificate: certificate(7) },
  preparing: { state: "preparing", terms },
  leased: { state: "leased", terms, deadline },
  resetting: { state: "resetting", terms, reason: "released", attempt: 1, endedAt },
  faulty: { state: "faulty", ...broken },
  quarantined: { state: "quarantined", detail: "no" },
  removing: { state: "removing" },
  removed: { state: "removed" },
};
const higher: Terms = { ...terms, lease: other, epoch: 8 };
type Row = { event: TestenvEvent; te?: Partial<Testenv>; attempt?: number };
const rows: Record<string, Row> = {
  "parts-ready": { event: { kind: "parts-ready" } },
  "parts-broken": { event: { kind: "parts-broken", detail: "" } },
  "prepare, higher epoch": { event: { kind: "prepare", terms: higher } },
  "… while draining": { event: { kind: "prepare", terms: higher }, te: { draining: true } },
  "prepare, this lease again": { event: { kind: "prepare", terms } },
  "prepare, epoch not above": { event: { kind: "prepare", terms: { ...higher, epoch: 7 } } },
  "opened, own epoch": { event: { kind: "opened", epoch: 7, deadline } },
  "opened, another": { event: { kind: "opened", epoch: 6, deadline } },
  "open-failed": { event: { kind: "open-failed", epoch: 7, detail: "" } },
  "end, own lease": { event: { kind: "end", lease, epoch: 7, reason: "released" } },
  "end, another": { event: { kind: "end", lease: other, epoch: 6, reason: "released" } },
  "deadline, own epoch": { event: { kind: "deadline", epoch: 7 } },
  "deadline, another": { event: { kind: "deadline", epoch: 6 } },
  "extend, own lease": { event: { kind: "extend", lease, epoch: 7, durationMs: 1000 } },
  "extend, another": { event: { kind: "extend", lease: other, epoch: 6, durationMs: 1000 } },
  "seed-image": { event: { kind: "seed-image", epoch: 7, digest: "sha256:" } },
  fenced: { event: { kind: "fenced", endedAt } },
  "proved, present epoch": { event: { kind: "proved", certificate: certificate(7) } },
  "proved, unwanted": {
    event: { kind: "proved", certificate: certificate(7) },
    te: { unwanted: true },
  },
  "proved, another epoch": { event: { kind: "proved", certificate: certificate(6) } },
  "reset-failed, tries left": { event: { kind: "reset-failed", detail: "no", ofHost: false } },
  "reset-failed, third try": {
    event: { kind: "reset-failed", detail: "no", ofHost: false },
    attempt: 3,
  },
  "reset-failed, the host's disk": {
    event: { kind: "reset-failed", detail: "no", ofHost: true },
    attempt: 3,
  },
  retry: { event: { kind: "retry" } },
  "order-reset": { event: { kind: "order-reset" } },
  outrun: { event: { kind: "outrun", epoch: 9 } },
  rebooted: { event: { kind: "rebooted" } },
  drain: { event: { kind: "drain", on: true } },
  unwant: { event: { kind: "unwant" } },
  want: { event: { kind: "want", testenvKind: "two" } },
  removed: { event: { kind: "removed" } },
};

/** `state: effects`, as the specification's table writes a cell; `·` where nothing happens. */
function cell(row: Row, phase: Phase): string {
  const attempt = row.attempt ?? 1;
  const at = phase.state === "resetting" ? { ...phase, attempt } : phase;
  const te: Testenv = { ...newTestenv(1, "two"), epoch: 7, phase: at, ...row.te };
  const { testenv, effects } = step(te, row.event);
  const state = testenv.phase.state === phase.state ? "" : `**${testenv.phase.state}**`;
  const done = effects.map((effect) => effect.kind).join(", ");
  return [state, done].filter((part) => part !== "").join(": ") || "·";
}

describe("H-1.14 L1–L7 the table of docs/specs/testenv.md is what the code does", () => {
  const spec = readFileSync(new URL("../../docs/specs/testenv.md", import.meta.url), "utf8");
  const table = new Map<string, string[]>();
  for (const line of spec.split("\n")) {
    const parts = line.split("|").map((part) => part.trim());
    if (parts[1]?.startsWith("`")) table.set(parts[1].replaceAll("`", ""), parts.slice(2, -1));
  }
  test.each(Object.entries(rows))("%s", (name, row) => {
    expect(table.get(name)).toEqual(Object.values(states).map((phase) => cell(row, phase)));
  });
  test("has every event and no other", () => {
    expect([...table.keys()].sort()).toEqual(Object.keys(rows).sort());
  });
});

test("L2 an offered epoch not above the highest moves nothing, and the report has that number", () => {
  const te: Testenv = { ...newTestenv(1, "two"), epoch: 9, phase: states["ready"]! };
  expect(step(te, { kind: "prepare", terms })).toEqual({
    testenv: te,
    effects: [{ kind: "report" }],
  });
});

test("L8 extending moves both faces of the deadline by the same span", () => {
  const te: Testenv = { ...newTestenv(1, "two"), epoch: 7, phase: states["leased"]! };
  const extended = step(te, { kind: "extend", lease, epoch: 7, durationMs: 1000 }).testenv.phase;
  expect(extended).toMatchObject({
    deadline: { monoMs: 101_000, at: "2030-01-01T00:01:41.000Z" },
  });
});

const anyEvent = fc.constantFrom(...Object.values(rows).map((row) => row.event));
const anyEpoch = fc.nat(20);

/** Events with epochs of all ages, so that old messages meet new leases. */
const aged = fc.tuple(anyEvent, anyEpoch).map(([event, epoch]): TestenvEvent => {
  if (event.kind === "prepare") return { ...event, terms: { ...event.terms, epoch } };
  if (event.kind === "outrun") return { ...event, epoch };
  if (event.kind === "proved") return { ...event, certificate: certificate(epoch) };
  return "epoch" in event ? { ...event, epoch } : event;
});

test("L2 L5 in any order of events epochs never fall, and ready means the present one proved", () => {
  fc.assert(
    fc.property(fc.array(aged, { maxLength: 60 }), (events) => {
      let te = newTestenv(1, "two");
      for (const event of events) {
        const before = te;
        te = step(te, event).testenv;
        expect(te.epoch).toBeGreaterThanOrEqual(before.epoch);
        if (te.phase.state === "ready") expect(te.phase.certificate.epoch).toBe(te.epoch);
        const held = openTerms(te);
        if (held) expect(held.epoch).toBe(te.epoch);
        // L4, L5: from a holder's hands the only way on is the reset
        const was = openTerms(before);
        const now = te.phase.state;
        if (was && !held) expect(now).toBe("resetting");
        if (!was && held) expect(before.phase.state).toBe("ready");
      }
    }),
    { numRuns: 2_000 },
  );
});

test("a record found at start always has something that leads on, unless it is at rest", () => {
  for (const [name, phase] of Object.entries(states)) {
    const rest = ["ready", "quarantined", "removed"].includes(name);
    expect(resume({ ...newTestenv(1, "two"), phase }).length > 0).toBe(!rest);
  }
});

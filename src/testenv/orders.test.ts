import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Wanted } from "../model/session.ts";
import type { Certificate } from "../model/testenv.ts";
import { step } from "./life.ts";
import { eventsFor } from "./orders.ts";
import { newTestenv, openTerms } from "./testenv-state.ts";
import type { Terms, Testenv } from "./testenv-state.ts";

const [lease, other] = [
  "00000000-0000-4000-8000-000000000001",
  "00000000-0000-4000-8000-000000000002",
];
const terms: Terms = {
  lease,
  epoch: 7,
  durationMs: 60_000,
  holderName: "build",
  holderAddresses: [],
  tokenHash: "",
  compat: null,
};
const deadline = { bootId: "b", monoMs: 1, at: "2030-01-01T00:01:40.000Z" };
const certificate: Certificate = {
  schema: "reset/1",
  host: "h",
  te: 1,
  epoch: 7,
  lease: null,
  reason: "released",
  began: "",
  ended: "",
  durationMs: 1,
  signature: "ed25519:",
};
const ready: Testenv = {
  ...newTestenv(1, "two"),
  epoch: 7,
  phase: { state: "ready", certificate },
};
const leased: Testenv = { ...ready, phase: { state: "leased", terms, deadline } };

const nobody: Wanted = { testenv: 1, epoch: "7", draining: false, lease: null, ended: null };
const offer = (id: string, epoch: number): Wanted["lease"] => ({
  id,
  epoch: String(epoch),
  durationMs: 60_000,
  needs: { machines: 2, compat: null },
  holderName: "build",
  holderAddresses: [],
  tokenHash: "",
});
const kinds = (te: Testenv, wanted: Wanted): string[] =>
  eventsFor(te, wanted).map(({ kind }) => kind);

test("lease.md §6 what is so already asks for nothing", () => {
  expect(eventsFor(ready, nobody)).toEqual([]);
  expect(eventsFor(leased, { ...nobody, lease: offer(lease, 7) })).toEqual([]);
  expect(eventsFor({ ...ready, draining: true }, { ...nobody, draining: true })).toEqual([]);
});

test("H-13.6 a drain flag is taken over, and taken back", () => {
  expect(eventsFor(ready, { ...nobody, draining: true })).toEqual([{ kind: "drain", on: true }]);
  expect(eventsFor({ ...ready, draining: true }, nobody)).toEqual([{ kind: "drain", on: false }]);
});

test("L2 L7 a lease that nobody is wanted to have ends, with its reason if one is told", () => {
  const end = { kind: "end", lease, epoch: 7 };
  const ended = { lease, epoch: "7", reason: "released" as const };
  expect(eventsFor(leased, { ...nobody, ended })).toEqual([{ ...end, reason: "released" }]);
  expect(eventsFor(leased, nobody)).toEqual([{ ...end, reason: "revoked" }]);
  const another = { ...ended, lease: other };
  expect(eventsFor(leased, { ...nobody, ended: another })).toEqual([{ ...end, reason: "revoked" }]);
});

test("L2 L5 a host restored from yesterday takes over the epoch, and refuses what is offered with it", () => {
  const wanted = { ...nobody, epoch: "9", lease: offer(other, 10) };
  expect(kinds(ready, wanted)).toEqual(["outrun", "prepare"]);
  let te = ready;
  for (const event of eventsFor(te, wanted)) te = step(te, event).testenv;
  expect(te).toMatchObject({ epoch: 10, phase: { state: "resetting", terms: null } });
  // an old lease in its record is nobody's: it ends as lost
  expect(kinds(leased, { ...nobody, epoch: "9" })).toEqual(["outrun", "end"]);
  te = step(leased, { kind: "outrun", epoch: 9 }).testenv;
  expect(te).toMatchObject({ epoch: 9, phase: { state: "resetting", reason: "te-lost" } });
});

const states = fc.constantFrom<Testenv>(
  ready,
  leased,
  { ...ready, phase: { state: "preparing", terms } },
  { ...ready, phase: { state: "provisioning" } },
  { ...ready, phase: { state: "quarantined", detail: "" } },
  {
    ...ready,
    phase: { state: "resetting", terms, reason: "released", attempt: 1, endedAt: null },
  },
);
const wants = fc.record({
  testenv: fc.constant(1),
  epoch: fc.constantFrom("3", "7", "9"),
  draining: fc.boolean(),
  lease: fc.constantFrom(null, offer(lease, 7), offer(other, 7), offer(other, 12), offer(lease, 3)),
  ended: fc.constantFrom<Wanted["ended"][]>(null, { lease, epoch: "7", reason: "expired" }),
});

test("lease.md §6 the same want twice moves nothing more, and none opens what is not clean", () => {
  fc.assert(
    fc.property(states, fc.boolean(), wants, (found, draining, wanted) => {
      const once = apply({ ...found, draining }, wanted);
      expect(apply(once, wanted)).toEqual(once);
      const open = openTerms(once);
      // what we have seen and is not ours opens nothing; the report tells the broker so
      const passed = Number(wanted.lease?.epoch ?? Infinity) <= found.epoch;
      if (!open || (passed && openTerms(found) === open)) return;
      expect(open).toMatchObject({ lease: wanted.lease?.id, epoch: Number(wanted.lease?.epoch) });
      expect(["ready", "preparing", "leased"]).toContain(found.phase.state);
    }),
    { numRuns: 1_000 },
  );
});

function apply(te: Testenv, wanted: Wanted): Testenv {
  return eventsFor(te, wanted).reduce((now, event) => step(now, event).testenv, te);
}

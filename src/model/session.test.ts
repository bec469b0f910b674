import { expect, test } from "vitest";
import { sampleHello, sampleReport } from "../../test/samples/hosts.ts";
import { toBrokerSchema, toHostSchema } from "./session.ts";

test("lease.md §6 what a newer version adds is left out, and a state of its own is not granted", () => {
  const newer = { ...sampleReport(), state: "warm", colour: "blue" };
  const hello = { ...sampleHello(), testenvs: [newer], zones: ["a"] };
  const heard = toBrokerSchema.parse(hello);
  expect(heard).toEqual(sampleHello({ testenvs: [sampleReport({ state: "offline" })] }));
  const ended = { reason: "evicted", fencedAt: null };
  const message = { kind: "testenv", report: { ...sampleReport(), ended }, data: null };
  expect(toBrokerSchema.parse(message)).toMatchObject({ report: { ended: { reason: "revoked" } } });
});

test("lease.md §6 a kind that nobody here knows is refused, not guessed at", () => {
  expect(toBrokerSchema.safeParse({ kind: "surprise" }).success).toBe(false);
  expect(toHostSchema.safeParse({ kind: "prepare", testenv: 1 }).success).toBe(false);
});

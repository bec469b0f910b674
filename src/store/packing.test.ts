import fc from "fast-check";
import { expect, test } from "vitest";
import { digestsIn, digestsOfPart, pack, unpack } from "./packing.ts";
import type { Part } from "./packing.ts";

/** All parts below, by digest, and the sum of what each text costs. */
function partsOf(parts: readonly Part[], into = new Map<string, Part>()): Map<string, Part> {
  for (const part of parts) {
    into.set(part.digest, part);
    partsOf(part.parts, into);
  }
  return into;
}

function there(body: object): object | undefined {
  const { text, parts } = pack(body);
  const all = partsOf(parts);
  return unpack(text, (digest) => JSON.parse(all.get(digest)!.text) as unknown).body;
}

const branchesOf = (repo: number, commit = "c"): Record<string, string> =>
  Object.fromEntries(
    Array.from({ length: 40 }, (_one, n) => [
      `stable/2${n}`,
      `${commit}${repo}${n}`.padEnd(40, "0"),
    ]),
  );

/** As an OpenStack-like tenant freezes it. */
const frozen = (repos: number, moved = -1) => ({
  facts: {
    project: "openstack/nova",
    repos: Array.from({ length: repos }, (_one, n) => ({
      project: `openstack/project-${n}`,
      branch: "master",
      commit: `${n === moved ? "d" : "c"}${n}`.padEnd(40, "0"),
      branches: branchesOf(n, n === moved ? "d" : "c"),
    })),
  },
});

test("M-5 what was frozen comes back as it was, whatever its size and keys", () => {
  const body = fc.dictionary(
    fc.oneof(
      fc.string({ maxLength: 12 }),
      fc.constantFrom("$part", "$map", "$plain", "__proto__", "a"),
    ),
    fc.jsonValue({ maxDepth: 4, depthSize: "large" }),
    { maxKeys: 120 },
  );
  fc.assert(
    fc.property(body, (value) => {
      const asJson = JSON.parse(JSON.stringify(value)) as object;
      const again = there({ value: asJson, more: "x".repeat(2_000) }) as { value: object };
      expect(again.value).toEqual(asJson);
    }),
    { numRuns: 300 },
  );
  expect(there(frozen(300))).toEqual(frozen(300));
});

test("a body that names our own words is no reference", () => {
  const body = { a: { $part: "x".repeat(2_000) }, b: { $list: [1] }, c: { $plain: { $map: [] } } };
  expect(there(body)).toEqual(body);
});

test("small bodies are plain JSON, and what was kept before still reads", () => {
  expect(pack({ a: 1 })).toEqual({ text: '{"a":1}', parts: [] });
  expect(unpack('{"a":{"$part":"old"}}', () => undefined).body).toEqual({ a: { $part: "old" } });
});

test("one repository that moved costs its own part and those above, not its neighbours'", () => {
  const before = partsOf(pack(frozen(300)).parts);
  const after = partsOf(pack(frozen(300, 150)).parts);
  const fresh = [...after.values()].filter((part) => !before.has(part.digest));
  const bytes = fresh.reduce((sum, part) => sum + part.text.length, 0);
  expect(bytes).toBeLessThan(12_000);
  expect(JSON.stringify(frozen(300)).length).toBeGreaterThan(700_000);
});

test("every part is named by a text above it as often as it is counted", () => {
  const { text, parts } = pack(frozen(300));
  expect(digestsIn(text).sort()).toEqual(parts.map((part) => part.digest).sort());
  for (const part of partsOf(parts).values()) {
    const below = part.parts.map((one) => one.digest);
    expect(digestsOfPart(part.text).sort()).toEqual(below.sort());
  }
});

test("what a list does not show is not read", () => {
  const { text, parts } = pack({ ...frozen(50), marks: "m".repeat(10) });
  const all = partsOf(parts);
  const asked: string[] = [];
  const partOf = (digest: string): unknown => {
    asked.push(digest);
    return JSON.parse(all.get(digest)!.text) as unknown;
  };
  const { body } = unpack(text, partOf, ["facts.repos"]);
  expect(body).toEqual({ facts: { project: "openstack/nova" }, marks: "m".repeat(10) });
  expect(asked.length).toBeLessThan(3);
});

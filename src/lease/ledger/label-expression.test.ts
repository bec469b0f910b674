import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { matchesLabels, parseLabels } from "./label-expression.ts";

const matches = (text: string, ...labels: string[]): boolean => {
  const parsed = parseLabels(text);
  if (!parsed.ok) throw new Error(parsed.detail);
  return matchesLabels(parsed.expression, new Set(labels));
};

describe("surface.md §6 label expressions", () => {
  test.each<[string, string[], boolean]>([
    ["", [], true],
    ["kvm", ["kvm"], true],
    ["kvm", ["emulated"], false],
    ["!kvm", ["emulated"], true],
    ["!!kvm", ["kvm"], true],
    ["a && b", ["a"], false],
    ["a && b", ["b", "a"], true],
    ["a || b && c", ["a"], true], // && binds tighter
    ["(a || b) && c", ["a"], false],
    ["emulated||kvm", ["emulated"], true],
    ["ipv6 && !slow", ["ipv6"], true],
    ["ipv6 && !(slow || warm:2.1_x)", ["ipv6", "warm:2.1_x"], false],
    ["  a  ", ["a"], true],
  ])("%j with %j is %s", (text, labels, expected) => {
    expect(matches(text, ...labels)).toBe(expected);
  });

  test.each<[string, number, string]>([
    ["a &&", 5, "ends where a label belongs"],
    ["&& a", 1, 'found "&&"'],
    ["a b", 3, 'found "b"'],
    ["a & b", 3, "write it twice"],
    ["(a || b", 8, 'the "(" of column 1'],
    ["a)", 2, 'found ")"'],
    ["()", 2, 'found ")"'],
    ["a && UPPER", 6, 'unexpected "U"'],
    ["!", 2, "ends where"],
  ])("%j is wrong at column %d: %s", (text, column, detail) => {
    expect(parseLabels(text)).toMatchObject({
      ok: false,
      column,
      detail: expect.stringContaining(detail) as string,
    });
  });

  test("nesting is bounded, and no text makes it fail otherwise", () => {
    expect(parseLabels("(".repeat(900))).toMatchObject({ ok: false });
    expect(parseLabels("!".repeat(900) + "a")).toMatchObject({ ok: false });
    const texts = fc.array(fc.constantFrom("a", "b", "&&", "||", "!", "(", ")", " ", "&", "Ä"));
    fc.assert(
      fc.property(texts, (parts) => {
        const parsed = parseLabels(parts.join(""));
        if (parsed.ok) matchesLabels(parsed.expression, new Set(["a"]));
        else expect(parsed.column).toBeGreaterThan(0);
      }),
    );
  });
});

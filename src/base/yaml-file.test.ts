/**
 * YAML as hands and editors make it: each fault at the place that is to be changed, and no file
 * that ends in a mistake of ours.
 */
import { expect, test } from "vitest";
import { parseYaml } from "./yaml-file.ts";

const faultsOf = (text: string, refuseAmbiguous = false): string[] =>
  parseYaml("f", text, { refuseAmbiguous }).faults.map(
    ({ pointer, detail }) => `${pointer} ${detail}`,
  );

test("case yaml-by-hand: a byte order mark is no text, and columns count from it", () => {
  const yaml = parseYaml("f", "\uFEFF- job: { name: a }\n");
  expect(yaml.value).toEqual([{ job: { name: "a" } }]);
  expect(yaml.placeOf([0, "job", "name"])).toEqual({ file: "f", line: 1, column: 16 });
});

test.each([
  ["a: 1\n---\nb: 2\n", "f:2:1 a second YAML document begins here, a file is one"],
  ['- job:\n    name: "abc\n    run: x\n- job: y\n', "f:2:11 this quote is never closed"],
  ['- job:\n    name: \'abc\n    run: "x"\n', "f:2:11 this quote is never closed"],
  ["- a: [1, 2\n- b: 3\n", "f:1:6 this has no ] that closes it"],
  ["- a: { x: 1\n- b: 3\n", "f:1:6 this has no } that closes it"],
  ["- a: *nope\n", "f:1:6 nothing above is named &nope"],
  ["- &a [1, *a]\n", "f:1:10 *a stands within what it names"],
  ["- a\0", "f:1:1 this is no text in UTF-8"],
  [`a: ${"[".repeat(80)}${"]".repeat(80)}\n`, "f:1:68 nested deeper than 64"],
])("surface.md §7 %j: %s", (text, fault) => {
  expect(faultsOf(text)).toEqual([fault]);
});

test("surface.md §7 brackets without end are one fault, and cost no more than their length", () => {
  const began = performance.now();
  expect(faultsOf("[".repeat(500_000))).toEqual(["f:1:65 nested deeper than 64"]);
  // The parser's time grows with the square: minutes.
  expect(performance.now() - began).toBeLessThan(5_000);
  expect(faultsOf(`- run: "${"[".repeat(100)}"\n- run: a${"{".repeat(100)}\n`)).toEqual([]);
  expect(faultsOf(Array.from({ length: 100 }, () => "- [a, {b: c}]").join("\n"))).toEqual([]);
});

test("case hundred-aliases: a thousand aliases are right; what they add up to has a limit", () => {
  const uses = Array.from({ length: 1_000 }, () => "- *docs").join("\n");
  const { value, faults } = parseYaml("f", `- &docs [ "^doc/", "[.]rst$" ]\n${uses}\n`);
  expect(faults).toEqual([]);
  expect(value).toHaveLength(1_001);
  const tens = (name: string, of: string): string =>
    `${name}: &${name} [${Array.from({ length: 10 }, () => of).join(", ")}]\n`;
  const bomb =
    tens("a", "1") + tens("b", "*a") + tens("c", "*b") + tens("d", "*c") + tens("e", "*d");
  expect(faultsOf(bomb)).toEqual([]); // 10⁵ values
  expect(faultsOf(bomb + tens("f", "*e"))).toEqual([
    expect.stringMatching(/^f:6:\d+ with its aliases written out this is over 200000 values$/),
  ]);
});

test("surface.md §7 merge keys mean what they mean in Zuul", () => {
  expect(parseYaml("f", "a: &x { b: 1, c: 2 }\nd: { <<: *x, c: 3 }\n").value).toMatchObject({
    d: { b: 1, c: 3 },
  });
});

test.each([
  ["yes", "true in YAML 1.1"],
  ["Off", "false in YAML 1.1"],
  ["0755", "octal in YAML 1.1"],
  ["0o17", "text in YAML 1.1"],
  ["1_000", "a number in YAML 1.1"],
  ["1e3", "text in YAML 1.1"],
  ["22:30", "base 60 in YAML 1.1"],
  ["2026-01-31", "a date in YAML 1.1"],
])("case yaml-by-hand: %s is %s: told where Zuul reads the file too, unless quoted", (word, as) => {
  expect(faultsOf(`- vars: { mode: ${word} }\n`, true)).toEqual([
    expect.stringMatching(new RegExp(`^f:1:17 mode: ${word} is ${as}`)),
  ]);
  expect(faultsOf(`- vars: { mode: "${word}" }\n`, true)).toEqual([]);
  expect(faultsOf(`- vars: { mode: ${word} }\n`)).toEqual([]);
});

test.each(["true", "False", "0", "10", "-3", "1.5", "1.5e+3", "0xff", "08:00", "v1_0", "~"])(
  "case yaml-by-hand: %s is the same in both",
  (word) => {
    expect(faultsOf(`- vars: { mode: ${word} }\n`, true)).toEqual([]);
  },
);

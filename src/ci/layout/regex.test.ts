/**
 * What an expression finds is what Python's `re.search` finds, or it is a fault: values here were
 * taken from Python 3.11. And no text makes the search take longer than its length asks for.
 */
import { expect, test } from "vitest";
import { translateRegex } from "./regex.ts";

const finds = (source: string, text: string): boolean | undefined => {
  const { regex, fault } = translateRegex(source);
  expect(fault).toBeUndefined();
  return regex?.test(text);
};

test.each<[string, string, boolean]>([
  ["(?i)recheck", "ReCheck", true],
  ["(?is)a.b", "A\nB", true],
  [String.raw`\Arecheck\Z`, "recheck", true],
  [String.raw`\Arecheck\Z`, "recheck\n", false],
  [String.raw`\Arecheck\Z`, "x\nrecheck", false],
  ["(?P<verb>re)check", "recheck", true],
  ["(?u)é", "é", true],
  // `$` stands before a last newline too, wherever it is
  ["^recheck$", "recheck\n", true],
  ["^recheck$", "recheck\n\n", false],
  ["^(?:a$|b)\n", "a\n", true],
  ["(?m)^recheck$", "please\nrecheck\nnow", true],
  // forms of repeats, and braces that are none
  ["re{,2}check", "reeecheck", false],
  ["^re{,2}check", "rcheck", true],
  ["a{,}b{}", "b{}", true],
  ["x{1", "x{1", true],
  ["a{2}?b", "aab", true],
  // sets
  ["rechec[]k]", "rechec]", true],
  ["[^]]", "a", true],
  ["[^]]", "]", false],
  ["[[:alpha:]]", ":]", true],
  [String.raw`^[^\W\d_]+$`, "né", true],
  [String.raw`[\W]`, "né", false],
  // \w, \d, \s and \b beyond ASCII; (?a) takes them back
  [String.raw`^r\w+$`, "ré", true],
  [String.raw`(?a)^r\w+$`, "ré", false],
  [String.raw`\d+`, "٣", true],
  [String.raw`\s`, "\u00a0", true],
  [String.raw`\bcheck\b`, "écheck", false],
  [String.raw`(?a)\bcheck\b`, "écheck", true],
  [String.raw`\bcheck\b`, "re check.", true],
  [String.raw`\Bcheck`, "recheck", true],
  // case: Python finds these four in each other
  ["(?i)fix", "fıx", true],
  ["(?i)[i]", "İ", true],
  ["(?i:A)b", "aB", false],
  [String.raw`\x41\u0042\103`, "ABC", true],
  ["a|", "", true],
  ["(?#why)a", "a", true],
])("P-1 %s on %j: found is %s, as in Python", (source, text, found) => {
  expect(finds(source, text)).toBe(found);
});

test.each([
  ["(?x)a b", "the flag (?x)"],
  ["(", "unterminated group at character 1"],
  ["a)", "unbalanced parenthesis at character 2"],
  ["[a", "unterminated character set at character 1"],
  ["*a", "nothing to repeat at character 1"],
  ["a**", "multiple repeat at character 3"],
  ["^*", "nothing to repeat"],
  ["a{3,2}", "min repeat over max repeat"],
  ["[z-a]", "bad character range at character 2"],
  [String.raw`\q`, String.raw`bad escape \q at character 1`],
  [String.raw`\N{DIGIT ONE}`, "not known here"],
  ["a(?i)b", "global flags not at the start at character 2"],
  [String.raw`(re)check\1`, "a reference: would need backtracking"],
  ["(?P<verb>re)check(?P=verb)", "a reference"],
  ["(?<=r|re)check", "look-around"],
  ["re(?!check)", "look-around"],
  ["(?>a)", "an atomic group"],
  ["a++", "possessive repeat"],
  ["(a)?(?(1)b|c)", "a condition"],
  ["(((a{100}){100}){100}){100}", "too large"],
  ["(".repeat(200), "groups deeper than"],
  ["x".repeat(3_000), "longer than 2000 characters"],
])("P-1 %s is a fault: %s", (source, fault) => {
  expect(translateRegex(source).fault).toContain(fault);
});

test.each([
  [String.raw`^(\w+\s?)*check again$`, "Thanks for the careful review "],
  ["^(a+)+$", "a"],
  [String.raw`(.*\b.*)*x$`, "ab "],
])("issue 6, §4: %s ends on a long comment, within a time that grows with it", (source, part) => {
  const { regex } = translateRegex(source);
  const msOf = (text: string): number => {
    const began = performance.now();
    expect(regex?.test(text)).toBe(false);
    return performance.now() - began;
  };
  // A backtracking engine would need 2^40 steps for the first of these already.
  msOf(`${part.repeat(40)}!`);
  expect(msOf(`${part.repeat(4_000)}!`)).toBeLessThan(5_000);
});

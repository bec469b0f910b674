/**
 * Sets of characters as Python's `re` has them: `\w`, `\d`, `\s` beyond ASCII, escapes of one
 * character, and how a set is written for RE2. Pure.
 */

export type Range = readonly [from: number, to: number];
export type CharacterSet = {
  readonly ranges: readonly Range[];
  readonly negated: boolean;
  /** It is one character, not a class such as `\d`. */
  readonly single: boolean;
};

const highest = 0x10_ffff;

export function setOf(ranges: readonly Range[]): CharacterSet {
  const single = ranges.length === 1 && ranges[0]![0] === ranges[0]![1];
  return { ranges, negated: false, single };
}

/** The character that it is; undefined for a class. */
export const codePoint = (set: CharacterSet): number | undefined =>
  set.single ? set.ranges[0]![0] : undefined;

/** Python finds these four in each other where case does not matter; RE2 has two pairs. */
const dotted = [0x49, 0x69, 0x130, 0x131];

export function classOf(set: CharacterSet, ignoreCase: boolean): string {
  const { ranges, negated } = set;
  const hasDotted =
    ignoreCase && dotted.some((code) => ranges.some(([from, to]) => from <= code && code <= to));
  const all = hasDotted ? [...ranges, ...dotted.map((code): Range => [code, code])] : ranges;
  const members = all.map(([from, to]) => (from === to ? hex(from) : `${hex(from)}-${hex(to)}`));
  return `[${negated ? "^" : ""}${members.join("")}]`;
}

const hex = (code: number): string => `\\x{${code.toString(16)}}`;

const one: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11 };

/** What a backslash and these characters mean; `length` counts them without the backslash. */
export function escapeOf(
  rest: readonly string[],
  ascii: boolean,
  inBrackets: boolean,
): { set: CharacterSet; length: number } | { fault: string } {
  const letter = rest[0];
  if (letter === undefined) return { fault: "bad escape (end of expression)" };
  if ("dDsSwW".includes(letter)) {
    return { set: { ...classSet(letter, ascii), single: false }, length: 1 };
  }
  const code = inBrackets && letter === "b" ? 8 : one[letter];
  if (code !== undefined) return { set: setOf([[code, code]]), length: 1 };
  const digits = { x: 2, u: 4, U: 8 }[letter];
  const text = rest.join("");
  if (digits !== undefined) {
    const found = new RegExp(`^.([0-9a-fA-F]{${digits}})`, "u").exec(text)?.[1];
    const value = Number.parseInt(found ?? "", 16);
    if (found === undefined || value > highest) return { fault: `bad escape \\${letter}` };
    return { set: setOf([[value, value]]), length: 1 + digits };
  }
  const octal = (inBrackets ? /^[0-7]{1,3}/ : /^(?:0[0-7]{0,2}|[1-3][0-7]{2})/).exec(text)?.[0];
  if (octal !== undefined) {
    const value = Number.parseInt(octal, 8);
    if (value > 0o377) return { fault: "octal escape outside of 0-377" };
    return { set: setOf([[value, value]]), length: octal.length };
  }
  if (letter === "N")
    return { fault: String.raw`\N{…} is not known here: write \u and its digits` };
  if (/[A-Za-z0-9]/.test(letter)) return { fault: `bad escape \\${letter}` };
  const value = letter.codePointAt(0)!;
  return { set: setOf([[value, value]]), length: 1 };
}

/** `str.isspace`. */
const space: readonly Range[] = [
  [0x09, 0x0d],
  [0x1c, 0x20],
  [0x85, 0x85],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
];
const digit: readonly Range[] = [[0x30, 0x39]];
const asciiSets: Readonly<Record<string, readonly Range[]>> = {
  d: digit,
  s: [
    [0x09, 0x0d],
    [0x20, 0x20],
  ],
  w: [...digit, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]],
};
const kept = new Map<string, readonly Range[]>([["s", space]]);

function classSet(letter: string, ascii: boolean): CharacterSet {
  const kind = letter.toLowerCase();
  const ranges = ascii ? asciiSets[kind]! : unicodeSet(kind);
  return setOf(letter === kind ? ranges : complement(ranges));
}

/** `str.isalnum` or `_`, and `str.isdecimal`, by the Unicode tables that Node has. */
function unicodeSet(kind: string): readonly Range[] {
  const before = kept.get(kind);
  if (before) return before;
  const member = kind === "w" ? /[\p{L}\p{N}_]/u : /\p{Nd}/u;
  const ranges: [number, number][] = [];
  for (let code = 0; code <= highest; code++) {
    if (!member.test(String.fromCodePoint(code))) continue;
    const last = ranges.at(-1);
    if (last?.[1] === code - 1) last[1] = code;
    else ranges.push([code, code]);
  }
  kept.set(kind, ranges);
  return ranges;
}

function complement(ranges: readonly Range[]): Range[] {
  const others: Range[] = [];
  let from = 0;
  for (const [start, end] of ranges) {
    if (start > from) others.push([from, start - 1]);
    from = end + 1;
  }
  if (from <= highest) others.push([from, highest]);
  return others;
}

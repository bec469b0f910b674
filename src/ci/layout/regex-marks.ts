/**
 * What Python's assertions ask about a place in a text, written into the text: before each
 * character and at the end stands a mark that says it. RE2 has no `$` before a last newline and
 * no word boundary beyond ASCII; a look at the mark behind decides both, at any place.
 */

/** Private characters; a text's own ones in this range become the first that is none of them. */
const first = 0x10_ff00;
const last = first + 0x3f;
const ownRange = /[\u{10ff00}-\u{10ff3f}]/gu;
export const MARKS = String.raw`[\x{10ff00}-\x{10ff3f}]`;

/** The expression itself may not name a mark. */
export const isMark = (code: number): boolean => code >= first && code <= last;

const bits = {
  start: 1,
  /** Python's `$`: the end, or before a newline at the end. */
  end: 2,
  boundary: 4,
  asciiBoundary: 8,
  lineStart: 16,
  lineEnd: 32,
} as const;
export type Assertion = keyof typeof bits;

/** True where the mark just behind has this bit, or has it not. */
export function assertionOf(name: Assertion, wanted = true): string {
  let marks = "";
  for (let mark = first; mark <= last; mark++) {
    if (((mark & bits[name]) !== 0) === wanted) marks += `\\x{${mark.toString(16)}}`;
  }
  return `(?<=[${marks}])`;
}

export function markedText(text: string): string {
  const characters = Array.from(text.replace(ownRange, "\u{10ff40}"));
  const endsAt = characters.at(-1) === "\n" ? characters.length - 1 : characters.length;
  let marked = "";
  let [wordBefore, asciiBefore] = [false, false];
  for (let at = 0; at <= characters.length; at++) {
    const character = characters[at];
    const word = character !== undefined && /[\p{L}\p{N}_]/u.test(character);
    const ascii = word && character <= "z"; // those above z in ASCII are no word
    const mark =
      (at === 0 ? bits.start : 0) |
      (at >= endsAt ? bits.end : 0) |
      (word === wordBefore ? 0 : bits.boundary) |
      (ascii === asciiBefore ? 0 : bits.asciiBoundary) |
      (at === 0 || characters[at - 1] === "\n" ? bits.lineStart : 0) |
      (character === undefined || character === "\n" ? bits.lineEnd : 0);
    marked += String.fromCodePoint(first + mark) + (character ?? "");
    [wordBefore, asciiBefore] = [word, ascii];
  }
  return marked;
}

/**
 * Reads an expression in the syntax of Python's `re` (3.11, for text; `\B` of no text as 3.14),
 * and writes it for RE2: each character as a set, each assertion as what it means there. What needs
 * backtracking (references, look-around, possessive repeats, conditions), and what Python refuses,
 * is a fault. Pure.
 */
import { assertionOf, isMark, MARKS } from "./regex-marks.ts";
import { classOf, codePoint, escapeOf, setOf } from "./regex-sets.ts";
import type { CharacterSet } from "./regex-sets.ts";

export type Pattern = { readonly pattern: string; readonly needsMarks: boolean };
type Flags = { readonly i: boolean; readonly m: boolean; readonly s: boolean; readonly a: boolean };

/** What `fault` throws within this file. */
export class RegexFault extends Error {}

export function translate(source: string, marked: boolean): Pattern | { fault: string } {
  try {
    return new Reader(Array.from(source), marked).read();
  } catch (error) {
    if (error instanceof RegexFault) return { fault: error.message };
    throw error;
  }
}

const NOT_HERE = "would need backtracking, which strangers' comments must not cause";
const deepest = 50;

class Reader {
  readonly #source: readonly string[];
  readonly #marked: boolean;
  #at = 0;
  #depth = 0;
  #needsMarks = false;
  readonly #names = new Set<string>();

  constructor(source: readonly string[], marked: boolean) {
    this.#source = source;
    this.#marked = marked;
  }

  read(): Pattern {
    const flags = this.#globalFlags();
    const body = this.#alternatives(flags);
    if (this.#at < this.#source.length) this.#fault("unbalanced parenthesis");
    const pattern = flags.i ? `(?i:${body})` : body;
    return { pattern, needsMarks: this.#needsMarks };
  }

  #fault(what: string, at = this.#at): never {
    throw new RegexFault(`${what} at character ${at + 1}`);
  }

  #ahead(text: string): boolean {
    return this.#source.slice(this.#at, this.#at + text.length).join("") === text;
  }

  #take(text: string): boolean {
    if (!this.#ahead(text)) return false;
    this.#at += text.length;
    return true;
  }

  /** `(?ims)` once or several times, at the start alone. */
  #globalFlags(): Flags {
    let flags: Flags = { i: false, m: false, s: false, a: false };
    for (;;) {
      const found = /^\(\?([a-zA-Z]+)\)/.exec(this.#source.slice(this.#at, this.#at + 20).join(""));
      if (!found) return flags;
      flags = this.#withFlags(flags, found[1]!, true);
      this.#at += found[0].length;
    }
  }

  #withFlags(flags: Flags, letters: string, value: boolean): Flags {
    const next = { ...flags };
    for (const letter of letters) {
      if (letter === "u") continue; // Python's default
      if (!(letter in next)) this.#fault(`the flag (?${letter}) is not known here`);
      next[letter as keyof Flags] = value;
    }
    if (next.a && next.i) this.#fault("the flags a and i together are not known here");
    return next;
  }

  #alternatives(flags: Flags): string {
    const branches = [this.#sequence(flags)];
    while (this.#take("|")) branches.push(this.#sequence(flags));
    return branches.join("|");
  }

  #sequence(flags: Flags): string {
    let sequence = "";
    while (this.#at < this.#source.length && !this.#ahead("|") && !this.#ahead(")")) {
      const began = this.#at;
      const item = this.#item(flags);
      const repeat = this.#repeat();
      if (repeat === "") sequence += item.text;
      else if (!item.repeatable) this.#fault("nothing to repeat", began);
      else sequence += `(?:${item.text})${repeat}`;
      const again = this.#at;
      if (repeat !== "" && this.#repeat() !== "") this.#fault("multiple repeat", again);
    }
    return sequence;
  }

  /** `*`, `+`, `?`, `{m,n}` with Python's forms; "" where there is none. */
  #repeat(): string {
    const rest = this.#source.slice(this.#at, this.#at + 24).join("");
    const found = /^(?:[*+?]|\{(?:[0-9]+,?[0-9]*|,[0-9]*)\})/.exec(rest)?.[0];
    if (found === undefined) return "";
    this.#at += found.length;
    if (this.#ahead("+")) this.#fault(`possessive repeat: ${NOT_HERE}`);
    this.#take("?"); // found or not is the same for as few as possible
    if (!found.startsWith("{")) return found;
    const [least = "", most = least] = found.slice(1, -1).split(",");
    if (most !== "" && Number(least) > Number(most)) this.#fault("min repeat over max repeat");
    return `{${least || "0"}${found.includes(",") ? "," : ""}${found.includes(",") ? most : ""}}`;
  }

  #item(flags: Flags): { text: string; repeatable: boolean } {
    const began = this.#at;
    const character = this.#source[this.#at++]!;
    switch (character) {
      case "(":
        return this.#group(flags);
      case "[":
        return this.#consume(this.#bracket(flags), flags);
      case ".": {
        const text = flags.s ? "(?s:.)" : String.raw`[^\n]`;
        return { text: this.#marked ? `(?:${text}${MARKS})` : text, repeatable: true };
      }
      case "^":
        return this.#assert(flags.m ? "(?m:^)" : String.raw`\A`, flags.m ? "lineStart" : "start");
      case "$":
        return flags.m ? this.#assert("(?m:$)", "lineEnd") : this.#assertMarked("end");
      case "*":
      case "+":
      case "?":
        return this.#fault("nothing to repeat", began);
      case "{": // a repeat without anything before it is text, unless it has a repeat's form
        this.#at = began;
        if (this.#repeat() !== "") this.#fault("nothing to repeat", began);
        this.#at = began + 1;
        break;
      case "\\":
        return this.#escape(flags, began);
    }
    return this.#consume(this.#literal(character), flags);
  }

  #literal(character: string): CharacterSet {
    const code = character.codePointAt(0)!;
    if (isMark(code)) this.#fault("this private character is not possible here", this.#at - 1);
    return setOf([[code, code]]);
  }

  #consume(set: CharacterSet, flags: Flags): { text: string; repeatable: boolean } {
    const text = classOf(set, flags.i);
    return { text: this.#marked ? `(?:${text}${MARKS})` : text, repeatable: true };
  }

  #assert(plain: string, marked: Parameters<typeof assertionOf>[0]) {
    return { text: this.#marked ? assertionOf(marked) : plain, repeatable: false };
  }

  #assertMarked(name: Parameters<typeof assertionOf>[0], wanted = true) {
    this.#needsMarks = true;
    return { text: assertionOf(name, wanted), repeatable: false };
  }

  #group(flags: Flags): { text: string; repeatable: boolean } {
    const began = this.#at - 1;
    let inside = flags;
    let open = "(?:";
    if (this.#take("?")) {
      if (this.#take("#")) return this.#comment(began);
      if (this.#take("P<")) this.#name(began);
      else if (!this.#take(":")) {
        const rest = this.#source.slice(this.#at, this.#at + 24).join("");
        const scoped = /^([a-zA-Z]*)(?:-([a-zA-Z]+))?:/.exec(rest);
        if (!scoped) this.#otherGroup(rest, began);
        const [, on = "", off = ""] = scoped;
        if (/[au]/.test(off) || Array.from(off).some((letter) => on.includes(letter))) {
          this.#fault("bad inline flags", began);
        }
        inside = this.#withFlags(this.#withFlags(inside, on, true), off, false);
        this.#at += scoped[0].length;
        open = inside.i ? "(?i:" : "(?-i:";
      }
    }
    if (++this.#depth > deepest) this.#fault(`groups deeper than ${deepest}`, began);
    const body = this.#alternatives(inside);
    if (!this.#take(")")) this.#fault("unterminated group", began);
    this.#depth--;
    return { text: `${open}${body})`, repeatable: true };
  }

  #comment(began: number): { text: string; repeatable: boolean } {
    const end = this.#source.indexOf(")", this.#at);
    if (end < 0) this.#fault("unterminated comment", began);
    this.#at = end + 1;
    // Python's repeat would belong to what stands before it.
    if (this.#repeat() !== "") this.#fault("a repeat after a comment is not known here", began);
    return { text: "", repeatable: false };
  }

  #name(began: number): void {
    const end = this.#source.indexOf(">", this.#at);
    const name = this.#source.slice(this.#at, Math.max(end, this.#at)).join("");
    if (!/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name)) this.#fault("bad group name", began);
    if (this.#names.has(name)) this.#fault(`the group ${name} is there twice`, began);
    this.#names.add(name);
    this.#at = end + 1;
  }

  #otherGroup(rest: string, began: number): never {
    const what = /^<?[=!]/.test(rest)
      ? "look-around"
      : rest.startsWith("P=")
        ? "a reference"
        : rest.startsWith(">")
          ? "an atomic group"
          : rest.startsWith("(")
            ? "a condition"
            : undefined;
    if (what !== undefined) return this.#fault(`${what}: ${NOT_HERE}`, began);
    if (/^[a-zA-Z]+\)/.test(rest)) return this.#fault("global flags not at the start", began);
    return this.#fault("unknown extension", began);
  }

  #escape(flags: Flags, began: number): { text: string; repeatable: boolean } {
    const letter = this.#source[this.#at];
    if (this.#take("A")) return this.#assert(String.raw`\A`, "start");
    if (this.#take("Z")) return { text: String.raw`\z`, repeatable: false };
    if (this.#take("b") || this.#take("B")) {
      return this.#assertMarked(flags.a ? "asciiBoundary" : "boundary", letter === "b");
    }
    const digits = this.#source.slice(this.#at, this.#at + 3).join("");
    if (/^[1-9]/.test(digits) && !/^[0-3][0-7]{2}/.test(digits)) {
      this.#fault(`a reference: ${NOT_HERE}`, began);
    }
    return this.#consume(this.#escapedSet(flags, began, false), flags);
  }

  #escapedSet(flags: Flags, began: number, inBrackets: boolean): CharacterSet {
    const rest = this.#source.slice(this.#at, this.#at + 10);
    const escape = escapeOf(rest, flags.a, inBrackets);
    if ("fault" in escape) return this.#fault(escape.fault, began);
    this.#at += escape.length;
    if (escape.set.ranges.some(([from, to]) => from === to && isMark(from))) {
      this.#fault("this private character is not possible here", began);
    }
    return escape.set;
  }

  /** After `[`: a `]` that comes first is itself. */
  #bracket(flags: Flags): CharacterSet {
    const began = this.#at - 1;
    const negated = this.#take("^");
    const ranges: (readonly [number, number])[] = [];
    for (let first = true; first || !this.#ahead("]"); first = false) {
      const [start, at] = this.#member(flags, began);
      if (!this.#ahead("-") || this.#source[this.#at + 1] === "]") {
        ranges.push(...start.ranges);
        continue;
      }
      this.#at++;
      const [end] = this.#member(flags, began);
      const [from, to] = [codePoint(start), codePoint(end)];
      if (from === undefined || to === undefined || from > to) {
        this.#fault("bad character range", at);
      }
      ranges.push([from, to]);
    }
    this.#at++;
    return { ...setOf(ranges), negated };
  }

  #member(flags: Flags, bracket: number): [CharacterSet, number] {
    const began = this.#at;
    const character = this.#source[this.#at++];
    if (character === undefined) return this.#fault("unterminated character set", bracket);
    if (character !== "\\") return [this.#literal(character), began];
    return [this.#escapedSet(flags, began, true), began];
  }
}

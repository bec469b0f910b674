/**
 * Reads a TypeScript file as far as tidy needs it: the same text with comments blanked, the same
 * with strings blanked too (positions and lines stay), and what it imports. A light scanner, no
 * parser: it knows strings, templates with code inside, comments and regular expressions. Rules
 * are in the other files of this folder.
 */

export type ImportKind = "import" | "re-export" | "program";

export type Import = {
  readonly kind: ImportKind;
  /** As written, e.g. `../base/limits.ts`, `node:fs`, `zod`. */
  readonly from: string;
  readonly line: number;
  /** `import type`: shapes alone, nothing at run time. */
  readonly typeOnly: boolean;
};

export type Source = {
  readonly path: string;
  readonly text: string;
  /** Comments blanked. */
  readonly withStrings: string;
  /** Comments, strings and regular expressions blanked. */
  readonly code: string;
  readonly imports: readonly Import[];
};

export function readSource(path: string, text: string): Source {
  const { withStrings, code } = blank(text);
  return { path, text, withStrings, code, imports: findImports(withStrings, code) };
}

/** The line, from 1, on which the offset lies. */
export function lineAt(text: string, offset: number): number {
  let line = 1;
  for (let at = text.indexOf("\n"); at >= 0 && at < offset; at = text.indexOf("\n", at + 1)) line++;
  return line;
}

type Scan = {
  readonly text: string;
  readonly keepStrings: string[];
  readonly code: string[];
  at: number;
  /** For each template we are inside of: depth of braces in its present `${}`. */
  readonly templates: number[];
};

function blank(text: string): { withStrings: string; code: string } {
  const scan: Scan = {
    text,
    keepStrings: text.split(""),
    code: text.split(""),
    at: text.startsWith("#!") ? skipLine(text, 0) : 0,
    templates: [],
  };
  while (scan.at < text.length) step(scan);
  return { withStrings: scan.keepStrings.join(""), code: scan.code.join("") };
}

function step(scan: Scan): void {
  const { text, at } = scan;
  const here = text[at];
  const next = text[at + 1];
  if (here === "/" && next === "/") wipe(scan, at, skipLine(text, at), true);
  else if (here === "/" && next === "*") {
    const end = text.indexOf("*/", at + 2);
    wipe(scan, at, end < 0 ? text.length : end + 2, true);
  } else if (here === '"' || here === "'") wipe(scan, at + 1, endOfString(text, at), false);
  else if (here === "`") template(scan, at + 1);
  else if (here === "/" && opensRegex(text, at)) wipe(scan, at + 1, endOfRegex(text, at), false);
  else if (scan.templates.length > 0 && (here === "{" || here === "}")) brace(scan, here);
  else scan.at++;
}

/** Blanks [from, to) in the code, for a comment also in the text with strings; goes on after. */
function wipe(scan: Scan, from: number, to: number, comment: boolean): void {
  for (let at = from; at < to; at++) {
    if (scan.text[at] === "\n") continue;
    scan.code[at] = " ";
    if (comment) scan.keepStrings[at] = " ";
  }
  scan.at = comment ? to : to + 1;
}

function skipLine(text: string, at: number): number {
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}

function endOfString(text: string, open: number): number {
  let at = open + 1;
  while (at < text.length && text[at] !== text[open] && text[at] !== "\n") {
    at += text[at] === "\\" ? 2 : 1;
  }
  return at;
}

function endOfRegex(text: string, open: number): number {
  let inClass = false;
  let at = open + 1;
  for (; at < text.length && text[at] !== "\n"; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "[") inClass = true;
    else if (text[at] === "]") inClass = false;
    else if (text[at] === "/" && !inClass) break;
  }
  return at;
}

/** A slash opens a regular expression where a value may begin. */
function opensRegex(text: string, at: number): boolean {
  const before = text.slice(Math.max(0, at - 40), at).trimEnd();
  if (before === "" || /[(,=:[!&|?{};<>+*%~^-]$/.test(before)) return true;
  return /\b(?:return|typeof|case|in|of|do|else|void|throw|await)$/.test(before);
}

/** Inside a template: blanks its text up to `${` or its end. */
function template(scan: Scan, from: number): void {
  let at = from;
  while (at < scan.text.length && scan.text[at] !== "`") {
    if (scan.text[at] === "\\") at++;
    else if (scan.text[at] === "$" && scan.text[at + 1] === "{") {
      wipe(scan, from, at, false);
      scan.at = at + 2;
      scan.templates.push(0);
      return;
    }
    at++;
  }
  wipe(scan, from, at, false);
}

function brace(scan: Scan, here: "{" | "}"): void {
  const depth = scan.templates.at(-1) ?? 0;
  if (here === "}" && depth === 0) {
    scan.templates.pop();
    template(scan, scan.at + 1);
    return;
  }
  scan.templates[scan.templates.length - 1] = depth + (here === "{" ? 1 : -1);
  scan.at++;
}

const exportNames = String.raw`(?:\*(?:\s+as\s+\w+)?|\{[^}]*\})`;
const importForms: readonly { readonly kind: ImportKind; readonly form: RegExp }[] = [
  { kind: "import", form: /\bimport\s+(?:[\w$*\s{},]+?\bfrom\s*)?"([^"]+)"/g },
  { kind: "import", form: /\bimport\s*\(\s*"([^"]+)"/g },
  {
    kind: "re-export",
    form: new RegExp(String.raw`\bexport\s+(?:type\s+)?${exportNames}\s*from\s*"([^"]+)"`, "g"),
  },
  { kind: "program", form: /\bnew\s+URL\(\s*"(\.{1,2}\/[^"]+\.ts)"\s*,\s*import\.meta\.url/g },
  { kind: "program", form: /\bimport\.meta\.resolve\(\s*"(\.{1,2}\/[^"]+\.ts)"/g },
];

function findImports(withStrings: string, code: string): Import[] {
  const found: Import[] = [];
  for (const { kind, form } of importForms) {
    for (const match of withStrings.matchAll(form)) {
      // The word itself must be code, not the content of a string.
      if (code[match.index] === " ") continue;
      const typeOnly = /^(?:import|export)\s+type\s/.test(match[0]);
      const line = lineAt(withStrings, match.index);
      found.push({ kind, from: match[1] ?? "", line, typeOnly });
    }
  }
  return found.sort((a, b) => a.line - b.line);
}

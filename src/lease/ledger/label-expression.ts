/**
 * Label expressions (surface.md §6): `! && || ( )` over names `[a-z0-9][a-z0-9._:-]*`, `&&`
 * binding tighter than `||`. A fault tells its column, counted from 1, what was found and what
 * would do. Pure; bounded in depth, since requests come from strangers.
 */

import { assertNever } from "../../base/assert.ts";

export type LabelExpression =
  | { readonly kind: "name"; readonly name: string }
  | { readonly kind: "not"; readonly of: LabelExpression }
  | { readonly kind: "and" | "or"; readonly of: readonly LabelExpression[] };

export type ParsedLabels =
  | { readonly ok: true; readonly expression: LabelExpression | null }
  | { readonly ok: false; readonly column: number; readonly detail: string };

type Token = { readonly text: string; readonly column: number };

const DEPTH = 50;
const NAME = /^[a-z0-9][a-z0-9._:-]*/;

/** Null stands for no condition at all (an empty text). */
export function parseLabels(text: string): ParsedLabels {
  const tokens = tokenize(text);
  if ("detail" in tokens) return tokens;
  if (tokens.length === 0) return { ok: true, expression: null };
  const reader = { tokens, at: 0, end: text.length + 1 };
  const parsed = readEither(reader, 0);
  if ("detail" in parsed) return parsed;
  const left = reader.tokens[reader.at];
  if (left) return wrong(left.column, `found "${left.text}" where && , || or the end belongs`);
  return { ok: true, expression: parsed };
}

/** Whether a thing with these labels is meant. */
export function matchesLabels(
  expression: LabelExpression | null,
  labels: ReadonlySet<string>,
): boolean {
  if (expression === null) return true;
  switch (expression.kind) {
    case "name":
      return labels.has(expression.name);
    case "not":
      return !matchesLabels(expression.of, labels);
    case "and":
      return expression.of.every((part) => matchesLabels(part, labels));
    case "or":
      return expression.of.some((part) => matchesLabels(part, labels));
    default:
      return assertNever(expression, "label expression");
  }
}

type Fault = Extract<ParsedLabels, { ok: false }>;
type Reader = { readonly tokens: readonly Token[]; at: number; readonly end: number };

function wrong(column: number, detail: string): Fault {
  return { ok: false, column, detail: `column ${column}: ${detail}` };
}

function tokenize(text: string): Token[] | Fault {
  const tokens: Token[] = [];
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const blank = /^\s+/.exec(rest)?.[0];
    if (blank) {
      at += blank.length;
      continue;
    }
    const found = /^(?:&&|\|\||[!()])/.exec(rest)?.[0] ?? NAME.exec(rest)?.[0];
    if (!found) {
      const what = rest[0] === "&" || rest[0] === "|" ? "write it twice" : "no label begins so";
      return wrong(at + 1, `unexpected "${rest[0]}": ${what}`);
    }
    tokens.push({ text: found, column: at + 1 });
    at += found.length;
  }
  return tokens;
}

function readEither(reader: Reader, depth: number): LabelExpression | Fault {
  return readChain(reader, "||", "or", () => readBoth(reader, depth));
}

function readBoth(reader: Reader, depth: number): LabelExpression | Fault {
  return readChain(reader, "&&", "and", () => readOne(reader, depth));
}

function readChain(
  reader: Reader,
  operator: string,
  kind: "and" | "or",
  read: () => LabelExpression | Fault,
): LabelExpression | Fault {
  const parts: LabelExpression[] = [];
  for (;;) {
    const part = read();
    if ("detail" in part) return part;
    parts.push(part);
    if (reader.tokens[reader.at]?.text !== operator) break;
    reader.at++;
  }
  return parts.length === 1 ? parts[0]! : { kind, of: parts };
}

function readOne(reader: Reader, depth: number): LabelExpression | Fault {
  const token = reader.tokens[reader.at];
  if (!token) return wrong(reader.end, "ends where a label belongs");
  if (depth > DEPTH) return wrong(token.column, `nested deeper than ${DEPTH}`);
  reader.at++;
  if (token.text === "!") {
    const of = readOne(reader, depth + 1);
    return "detail" in of ? of : { kind: "not", of };
  }
  if (token.text === "(") {
    const inner = readEither(reader, depth + 1);
    if ("detail" in inner) return inner;
    const close = reader.tokens[reader.at];
    if (close?.text !== ")") {
      return wrong(close?.column ?? reader.end, `the "(" of column ${token.column} is not closed`);
    }
    reader.at++;
    return inner;
  }
  if (NAME.test(token.text)) return { kind: "name", name: token.text };
  return wrong(token.column, `found "${token.text}" where a label belongs`);
}

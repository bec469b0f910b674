/**
 * What is wrong with a parsed YAML document before its meaning is looked at: syntax told with the
 * place where it began, aliases that lead nowhere, in a circle or to too much, words that two
 * versions of YAML read differently. Pure.
 */
import { isAlias, isCollection, isMap, isPair, isScalar, Lexer, visit } from "yaml";
import type { Document, Node, YAMLParseError } from "yaml";
import { limits } from "./limits.ts";
import { ambiguousWord } from "./yaml-words.ts";

type Tell = (offset: number, code: string, detail: string, remedy?: string) => void;

const startOf = (node: unknown): number => (node as Node | null)?.range?.[0] ?? 0;

/**
 * Where brackets stand deeper than is read; undefined: nowhere. Asked before the parser, whose time
 * grows with the square of the depth.
 */
export function tooDeepAt(source: string): number | undefined {
  let depth = 0;
  let offset = 0;
  let before = "";
  for (const token of new Lexer().lex(source)) {
    const isText = before === "\x1f"; // the lexer's own mark before a scalar
    if (!isText && (token === "[" || token === "{")) depth++;
    if (!isText && (token === "]" || token === "}")) depth--;
    if (depth > limits.yamlDepth) return offset;
    if (!["\x02", "\x18", "\x1f"].includes(token)) offset += token.length;
    before = token;
  }
  return undefined;
}

/** The library's error in our words, at the place that is to be changed. */
export function syntaxFault(
  document: Document,
  error: YAMLParseError,
): { offset: number; detail: string; remedy?: string } {
  const at = error.pos[0];
  if (error.code === "MULTIPLE_DOCS") {
    const detail = "a second YAML document begins here, a file is one";
    return { offset: at, detail, remedy: "put its items into the first, or into another file" };
  }
  if (error.code === "RESOURCE_EXHAUSTION") {
    return { offset: at, detail: "nested deeper than can be read" };
  }
  if (error.code === "MISSING_CHAR" && /closing .*quote/.test(error.message)) {
    const offset = lastStart(document, at, (node) => isScalar(node) && isQuoted(node.type));
    return { offset: offset ?? at, detail: "this quote is never closed" };
  }
  const closing = /^Flow (?:sequence|map) .*end with a ([\]}])$/.exec(error.message);
  if (closing) {
    const offset = lastStart(document, at, (node) => isCollection(node) && node.flow === true);
    return { offset: offset ?? at, detail: `this has no ${closing[1]} that closes it` };
  }
  return { offset: at, detail: error.message };
}

const isQuoted = (type: unknown): boolean => type === "QUOTE_DOUBLE" || type === "QUOTE_SINGLE";

/** Where the last such node begins that stands before `offset`. */
function lastStart(
  document: Document,
  offset: number,
  wanted: (node: Node) => boolean,
): number | undefined {
  let found: number | undefined;
  visit(document, {
    Node(_, node) {
      const start = startOf(node);
      if (start <= offset && start >= (found ?? 0) && wanted(node)) found = start;
    },
  });
  return found;
}

/** Looks at each node; tells the first alias that is wrong, and ambiguous words. */
export function checkNodes(document: Document, tell: Tell, refuseAmbiguous: boolean): void {
  /** By anchor: its size with all aliases in it; undefined while it is being counted. */
  const sizes = new Map<string, number | undefined>();
  let total = 0;
  let stopped = false;
  const stop = (node: unknown, detail: string, remedy?: string): number => {
    if (!stopped) tell(startOf(node), "yaml-syntax", detail, remedy);
    stopped = true;
    return 1;
  };
  const grown = (node: unknown, size: number): number => {
    total += size;
    if (total <= limits.yamlNodes) return size;
    return stop(node, `with its aliases written out this is over ${limits.yamlNodes} values`);
  };
  const inside = (node: unknown, depth: number): number => {
    if (isPair(node)) {
      return 1 + sizeOf(node.key, depth) + sizeOf(node.value, depth);
    }
    if (!isCollection(node)) return 1;
    return node.items.reduce<number>((sum, item) => sum + sizeOf(item, depth + 1), 1);
  };
  const sizeOf = (node: unknown, depth: number): number => {
    if (stopped || node === null || node === undefined) return 1;
    if (depth > limits.yamlDepth) return stop(node, `nested deeper than ${limits.yamlDepth}`);
    if (isAlias(node)) {
      if (!sizes.has(node.source)) return stop(node, `nothing above is named &${node.source}`);
      const size = sizes.get(node.source);
      if (size === undefined) return stop(node, `*${node.source} stands within what it names`);
      return grown(node, size);
    }
    const anchor = isScalar(node) || isCollection(node) ? node.anchor : undefined;
    if (anchor !== undefined) sizes.set(anchor, undefined);
    grown(node, 1);
    const size = inside(node, depth);
    if (anchor !== undefined) sizes.set(anchor, size);
    return size;
  };
  sizeOf(document.contents, 0);
  if (refuseAmbiguous && !stopped) tellAmbiguous(document, tell);
}

function tellAmbiguous(document: Document, tell: Tell): void {
  visit(document, {
    Scalar(key, node, path) {
      if (node.type !== "PLAIN" || node.source === undefined || node.tag !== undefined) return;
      const told = ambiguousWord(node.source);
      const parent = path.at(-2);
      const named = key === "value" && isMap(parent) ? `${keyBefore(path.at(-1))}: ` : "";
      if (told) tell(startOf(node), "ambiguous-value", `${named}${told.detail}`, told.remedy);
    },
  });
}

function keyBefore(pair: unknown): string {
  return isPair(pair) && isScalar(pair.key) ? String(pair.key.value) : "value";
}

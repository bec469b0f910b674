/**
 * Reading YAML that people wrote: every value keeps its place, a schema says what is allowed,
 * and all faults are told at once with file, line, column, the key's path, what was found and
 * what is allowed (surface.md §7). Both configuration languages are read through here.
 */
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from "yaml";
import type { Document, Node } from "yaml";
import type { z } from "zod";
import type { FieldFault } from "./errors.ts";
import { limits } from "./limits.ts";
import { nearest } from "./nearest.ts";
import { keysAt, schemaWords } from "./schema-words.ts";
import { checkNodes, syntaxFault, tooDeepAt } from "./yaml-nodes.ts";

export type Place = { readonly file: string; readonly line: number; readonly column: number };

export type YamlFile = {
  readonly file: string;
  /** Plain data; undefined for an empty file. */
  readonly value: unknown;
  readonly faults: readonly FieldFault[];
  /** The place of the value at `path`, or of its nearest parent that exists. */
  placeOf(path: readonly PropertyKey[], key?: boolean): Place;
};

export type YamlOptions = {
  /** Words that YAML 1.1 and 1.2 read differently are faults: for files that Zuul reads too. */
  readonly refuseAmbiguous?: boolean;
};

export function parseYaml(file: string, text: string, options: YamlOptions = {}): YamlFile {
  // The mark that some editors put first is no part of the text (YAML 1.2, 5.2).
  const source = text.replace(/^\uFEFF/, "");
  const lines = new LineCounter();
  const tooDeep = tooDeepAt(source);
  const document = parseDocument(tooDeep === undefined ? source : source.slice(0, tooDeep), {
    lineCounter: lines,
    uniqueKeys: true,
    prettyErrors: false,
    merge: true,
  });
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col) };
  };
  const faults: FieldFault[] = [];
  const fault = (offset: number, code: string, detail: string, remedy?: string): void => {
    if (faults.length < limits.yamlFaults) {
      faults.push(faultAt(placeAt(offset), code, detail, remedy));
    }
  };
  if (source.includes("\0")) {
    fault(0, "yaml-syntax", "this is no text in UTF-8", "save it in the encoding UTF-8");
  } else if (tooDeep !== undefined) {
    fault(tooDeep, "yaml-syntax", `nested deeper than ${limits.yamlDepth}`);
  } else {
    for (const error of document.errors) {
      const { offset, detail, remedy } = syntaxFault(document, error);
      fault(offset, "yaml-syntax", detail, remedy);
    }
    if (faults.length === 0) checkNodes(document, fault, options.refuseAmbiguous === true);
  }
  return {
    file,
    // Aliases were counted above, with the place of the one too many.
    value: faults.length > 0 ? undefined : (document.toJS({ maxAliasCount: -1 }) as unknown),
    faults,
    placeOf: (path, key = false) => placeAt(offsetOf(document, path, key)),
  };
}

/** `file:line:column`, the pointer of a fault in a file. */
export function faultAt(place: Place, code: string, detail: string, remedy?: string): FieldFault {
  const pointer = `${place.file}:${place.line}:${place.column}`;
  return remedy === undefined ? { pointer, code, detail } : { pointer, code, detail, remedy };
}

/** Checks a file against a schema; faults carry their places. */
export function checkYaml<S extends z.ZodType>(
  yaml: YamlFile,
  schema: S,
): { value: z.output<S>; faults: [] } | { value: undefined; faults: FieldFault[] } {
  if (yaml.faults.length > 0) return { value: undefined, faults: [...yaml.faults] };
  const result = schema.safeParse(yaml.value ?? {});
  if (result.success) return { value: result.data, faults: [] };
  return {
    value: undefined,
    faults: result.error.issues.flatMap((issue) => faultsOf(yaml, schema, issue)),
  };
}

function faultsOf(yaml: YamlFile, schema: z.ZodType, issue: z.core.$ZodIssue): FieldFault[] {
  const name = (path: readonly PropertyKey[]): string => path.map(String).join(".") || "the file";
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      const known = keysAt(schema, issue.path);
      const near = nearest(key, known);
      const allowed = known.length === 0 ? "" : `; allowed: ${known.join(", ")}`;
      const detail = `${name(path)}: unknown key${allowed}`;
      const remedy = near === undefined ? undefined : `did you mean ${near}?`;
      return faultAt(yaml.placeOf(path, true), "unknown-key", detail, remedy);
    });
  }
  const found = valueAt(yaml.value, issue.path);
  const shown = found === undefined ? "nothing" : JSON.stringify(found).slice(0, 80);
  return [
    faultAt(
      yaml.placeOf(issue.path),
      issue.code.replaceAll("_", "-"),
      `${name(issue.path)}: ${schemaWords(issue)}, found ${shown}`,
    ),
  ];
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let at: unknown = value;
  for (const key of path) {
    if (typeof at !== "object" || at === null) return undefined;
    at = (at as Record<PropertyKey, unknown>)[key];
  }
  return at;
}

function offsetOf(document: Document, path: readonly PropertyKey[], wantKey: boolean): number {
  let node: unknown = document.contents;
  let offset = (node as Node | null)?.range?.[0] ?? 0;
  for (const [depth, step] of path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === step);
      if (!pair) return offset;
      const last = depth === path.length - 1;
      const target = (last && wantKey ? pair.key : (pair.value ?? pair.key)) as Node | null;
      offset = target?.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      offset = (node as Node | undefined)?.range?.[0] ?? offset;
    } else return offset;
  }
  return offset;
}

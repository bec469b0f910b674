/**
 * What a schema asks, in the words of whoever wrote the value: "must be a list", not the
 * checker's own. A schema's own message (a pattern's, a check's) stands as it is.
 */
import type { z } from "zod";

type Issue = z.core.$ZodIssue;

export function schemaWords(issue: Issue): string {
  if (!/^(?:Invalid|Too (?:small|big)\b|Expected )/.test(issue.message)) return issue.message;
  switch (issue.code) {
    case "invalid_type":
      return `must be ${kindWords(issue.expected)}`;
    case "too_small":
      return bounded(issue.origin, issue.minimum, issue.inclusive ? "at least" : "more than");
    case "too_big":
      return bounded(issue.origin, issue.maximum, issue.inclusive ? "at most" : "less than");
    case "not_multiple_of":
      return `must be a multiple of ${issue.divisor}`;
    case "invalid_value": {
      const allowed = issue.values.map(String);
      return allowed.length === 1 ? `must be ${allowed[0]}` : `allowed: ${allowed.join(", ")}`;
    }
    case "invalid_format":
      return issue.format === "regex"
        ? `must be of the form ${issue.pattern ?? "that is asked"}`
        : `must be a ${issue.format}`;
    case "invalid_union": {
      const ways = issue.errors.map(([first]) => first && schemaWords(first));
      const words = [...new Set(ways)].filter((way) => way !== undefined);
      return words.length === 0 ? "has no form that is allowed" : words.join(", or ");
    }
    default:
      return issue.message;
  }
}

function kindWords(expected: string): string {
  switch (expected) {
    case "array":
      return "a list";
    case "object":
    case "record":
    case "map":
      return "a map";
    case "int":
      return "a whole number";
    case "string":
      return "text";
    case "boolean":
      return "true or false";
    case "null":
      return "null";
    default:
      return `a ${expected}`;
  }
}

function bounded(origin: string, limit: number | bigint, relation: string): string {
  if (origin === "string") return `must have ${relation} ${limit} characters`;
  if (origin === "array" || origin === "set") return `must have ${relation} ${limit} parts`;
  return `must be ${relation} ${limit}`;
}

/** The keys that a schema knows in the map at `path`. */
export function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): string[] {
  let at: z.core.$ZodType | undefined = bare(schema);
  for (const step of path) {
    const { def } = at._zod as z.core.$ZodTypes["_zod"];
    let next: z.core.$ZodType | undefined;
    if (def.type === "object") next = def.shape[String(step)];
    else if (def.type === "record") next = def.valueType;
    else if (def.type === "array") next = def.element;
    if (!next) return [];
    at = bare(next);
  }
  const { def } = at._zod as z.core.$ZodTypes["_zod"];
  return def.type === "object" ? Object.keys(def.shape) : [];
}

/** Without what says only that it may be left out. */
function bare(schema: z.core.$ZodType): z.core.$ZodType {
  const { def } = schema._zod as z.core.$ZodTypes["_zod"];
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
      return bare(def.innerType);
    case "pipe":
      return bare(def.in);
    default:
      return schema;
  }
}

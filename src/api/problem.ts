/**
 * Errors as the API answers them: RFC 9457 `application/problem+json` with a stable `code` and a
 * place for every fault (surface.md §5). Pure: an error comes in, a problem goes out. A client's
 * mistake is never a 5xx; an error of ours says no more than that it happened.
 */
import type { z } from "@hono/zod-openapi";
import { errorCodes, isRackyardError, RackyardError } from "../base/errors.ts";
import type { ErrorCode, FieldFault } from "../base/errors.ts";
import { schemaWords } from "../base/schema-words.ts";

export type Problem = {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly remedy?: string;
  readonly errors: readonly FieldFault[];
};

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** Whatever was thrown, as a problem; what is not a RackyardError is `internal`. */
export function problemOf(error: unknown): Problem {
  const known = isRackyardError(error)
    ? error
    : new RackyardError("internal", "something went wrong here; the server's log says what");
  const status = errorCodes[known.code].http;
  return {
    type: "about:blank",
    title: titles[status] ?? "Error",
    status,
    code: known.code,
    detail: known.message,
    ...(known.remedy === undefined ? {} : { remedy: known.remedy }),
    errors: known.faults,
  };
}

/** Headers that belong to a status: when to come back, how to prove who one is. */
export function problemHeaders(status: number): Record<string, string> {
  const headers: Record<string, string> = { "content-type": "application/problem+json" };
  if (status === 401) headers["www-authenticate"] = 'Bearer realm="rackyard"';
  if (status === 429 || status === 503) headers["retry-after"] = "1";
  return headers;
}

/** A schema's complaints as faults; `part` is where the value came from: body, query or path. */
export function faultsOf(part: string, issues: readonly z.core.$ZodIssue[]): FieldFault[] {
  return issues.flatMap((issue): FieldFault[] => {
    const pointer = pointerOf(part, issue.path);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        pointer: `${pointer}/${escapePointer(key)}`,
        code: "unknown-field",
        detail: `${key} is not known here`,
        remedy: "leave it out; /v1/openapi.json lists what is",
      }));
    }
    return [{ pointer, code: issue.code.replaceAll("_", "-"), detail: schemaWords(issue) }];
  });
}

function pointerOf(part: string, path: readonly PropertyKey[]): string {
  const steps = path.map((step) => `/${escapePointer(String(step))}`).join("");
  return part === "body" ? steps : `#${part}${steps}`;
}

/** RFC 6901 §3. */
function escapePointer(step: string): string {
  return step.replaceAll("~", "~0").replaceAll("/", "~1");
}

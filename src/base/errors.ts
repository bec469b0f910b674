/**
 * The second kind of wrong: the world's refusal. Each has a stable code, listed here once with
 * its exit code (sysexits, surface.md §2) and HTTP status, and explained in docs/errors.md,
 * which tools/tidy.ts compares with this table. An error is printed once, at the edge.
 */

type ErrorKind = { readonly exit: number; readonly http: number };

export const errorCodes = {
  // usage and input
  usage: { exit: 64, http: 400 },
  "bad-request": { exit: 64, http: 400 },
  "image-dangerous": { exit: 65, http: 400 },
  "image-format": { exit: 65, http: 400 },
  "image-too-large": { exit: 65, http: 413 },
  "image-missing": { exit: 65, http: 404 },
  // not there: no server, what was asked of it, a rack
  "not-running": { exit: 69, http: 503 },
  unavailable: { exit: 68, http: 503 },
  "not-found": { exit: 66, http: 404 },
  "unknown-project": { exit: 66, http: 404 },
  unsatisfiable: { exit: 69, http: 422 },
  "address-not-yours": { exit: 77, http: 422 },
  "wait-timeout": { exit: 69, http: 503 },
  "timed-out": { exit: 69, http: 503 },
  "host-gone": { exit: 69, http: 503 },
  "command-failed": { exit: 69, http: 503 },
  // our mistake
  internal: { exit: 70, http: 500 },
  // cannot take what it needs
  "port-taken": { exit: 73, http: 503 },
  "state-in-use": { exit: 73, http: 503 },
  "state-too-new": { exit: 73, http: 503 },
  "state-unusable": { exit: 73, http: 503 },
  "temporary-unusable": { exit: 73, http: 503 },
  "no-space": { exit: 73, http: 503 },
  "missing-package": { exit: 69, http: 503 },
  // the lease
  "lease-lost": { exit: 75, http: 409 },
  "stale-epoch": { exit: 77, http: 403 },
  "lease-over": { exit: 75, http: 409 },
  // not allowed
  "no-token": { exit: 77, http: 401 },
  "bad-token": { exit: 77, http: 401 },
  "not-allowed": { exit: 77, http: 403 },
  "not-root": { exit: 77, http: 403 },
  // configuration
  "bad-config": { exit: 78, http: 422 },
  "bad-layout": { exit: 78, http: 422 },
  "not-supported-yet": { exit: 78, http: 422 },
  // HTTP manners
  "method-not-allowed": { exit: 64, http: 405 },
  conflict: { exit: 1, http: 409 },
  "idempotency-mismatch": { exit: 64, http: 409 },
  "precondition-failed": { exit: 64, http: 412 },
  "too-large": { exit: 64, http: 413 },
  "unsupported-media-type": { exit: 64, http: 415 },
  "too-many": { exit: 69, http: 429 },
  // git and changes
  "no-change-id": { exit: 65, http: 422 },
  "push-refused": { exit: 65, http: 422 },
  "change-closed": { exit: 1, http: 409 },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorCodes;

/** One place that is wrong, e.g. a key of a configuration or a field of a request. */
export type FieldFault = {
  /** RFC 6901 pointer into the request, or `file:line:column` of a file. */
  readonly pointer: string;
  readonly code: string;
  readonly detail: string;
  /** What to do about it. */
  readonly remedy?: string;
};

export class RackyardError extends Error {
  override readonly name = "RackyardError";
  readonly code: ErrorCode;
  readonly faults: readonly FieldFault[];
  /** What to do about it, a sentence. */
  readonly remedy: string | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { cause?: unknown; faults?: readonly FieldFault[]; remedy?: string } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.faults = options.faults ?? [];
    this.remedy = options.remedy;
  }

  get exitCode(): number {
    return errorCodes[this.code].exit;
  }

  get httpStatus(): number {
    return errorCodes[this.code].http;
  }
}

/** Throws a {@link RackyardError}. `detail` is a sentence for people: what, where, why. */
export function fail(
  code: ErrorCode,
  detail: string,
  options: { cause?: unknown; faults?: readonly FieldFault[]; remedy?: string } = {},
): never {
  throw new RackyardError(code, detail, options);
}

export function isRackyardError(error: unknown, code?: ErrorCode): error is RackyardError {
  return error instanceof RackyardError && (code === undefined || error.code === code);
}

/** A short text of whatever was thrown, with its causes, for a log line. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = error instanceof RackyardError ? `${error.code}: ${error.message}` : error.message;
  return error.cause === undefined ? own : `${own} (${describeError(error.cause)})`;
}

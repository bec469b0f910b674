/**
 * The first kind of wrong: our own mistake. An assertion that fails is a defect of Rackyard;
 * it ends the program (exit 70), which is started again. What the world refuses is no assertion:
 * see errors.ts. Pure; imported by `model` too.
 */

export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Throws {@link AssertionError} unless `condition` holds. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Closes a `switch` over a union: the type checker finds a case that is missing. */
export function assertNever(value: never, what = "value"): never {
  throw new AssertionError(`unexpected ${what}: ${JSON.stringify(value)}`);
}

/** The value, which our own code guarantees to be there. */
export function present<T>(value: T | null | undefined, what: string): T {
  assert(value !== null && value !== undefined, `${what} is missing`);
  return value;
}

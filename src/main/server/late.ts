/**
 * What is asked for before it is there: the API answers from the first moment, the scheduler
 * takes up its builds a little later and already needs the API. Until then: 503, try again.
 */
import { fail } from "../../base/errors.ts";

export type Late<T> = {
  /** Throws `unavailable` until it is set. */
  get(): T;
  readonly there: boolean;
  set(value: T): void;
};

export function openLate<T>(what: string): Late<T> {
  let kept: { readonly value: T } | undefined;
  return {
    get: () => (kept ?? fail("unavailable", `${what} is starting: try again in a moment`)).value,
    get there() {
      return kept !== undefined;
    },
    set(value) {
      kept = { value };
    },
  };
}

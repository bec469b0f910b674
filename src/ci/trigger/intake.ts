/**
 * Reads the events of one review connection in order, each once (ci.md E-1, E-6): the place of
 * the last one is kept in the transaction of what it led to, so that after a kill nothing is
 * missed and nothing done twice. What an event leads to is decided by whoever handles it; one
 * that cannot be handled never blocks the following ones.
 */
import { isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { retry } from "../../base/retry.ts";
import type { Scope } from "../../base/scope.ts";
import type { Clock } from "../../base/clock.ts";
import type { ReviewEvent } from "../../model/change.ts";
import type { ReviewPort } from "../../review/review-port.ts";
import type { Store, Tx } from "../../store/store.ts";

export type IntakeOptions = {
  readonly review: Pick<ReviewPort, "connection" | "eventsSince" | "onEvent">;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly scope: Scope;
  /** Does what the event asks for; calls `seen` in the transaction that records it. */
  readonly handle: (event: ReviewEvent, seen: (tx: Tx) => Promise<void>) => Promise<void>;
};

const PAGE = 200;

/** Starts reading from the last event seen, what was missed first. */
export function startIntake(options: IntakeOptions): void {
  const { review, store, scope } = options;
  let woken = true;
  let wake = (): void => undefined;
  const stop = review.onEvent(() => {
    woken = true;
    wake();
  });
  scope.defer(stop);
  scope.spawn(`events of ${review.connection}`, async (signal) => {
    signal.addEventListener("abort", () => wake(), { once: true });
    let last = Number((await store.fact(placeFact(review.connection))) ?? 0);
    while (!signal.aborted) {
      woken = false;
      const events = await patiently(options, signal, "events not read", () =>
        review.eventsSince(last, PAGE),
      );
      for (const event of events) {
        if (signal.aborted) return;
        await handleOne(options, event, signal);
        last = event.seq;
      }
      if (events.length === 0 && !woken && !signal.aborted) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  });
}

async function handleOne(
  options: IntakeOptions,
  event: ReviewEvent,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log, review } = options;
  const seen = (tx: Tx): Promise<void> =>
    store.setFact(tx, placeFact(review.connection), String(event.seq), clock.wallMs());
  try {
    await retry(() => options.handle(event, seen), {
      tries: limits.gitTries,
      firstMs: limits.pollMs,
      signal,
      worth: (error) => !isRackyardError(error, "not-found") && !isRackyardError(error, "too-many"),
    });
  } catch (error) {
    if (signal.aborted) return;
    log.error({ err: error, event }, "an event could not be handled and is skipped");
    await patiently(options, signal, "event not marked", () => store.transaction(seen));
  }
}

function patiently<T>(
  options: IntakeOptions,
  signal: AbortSignal,
  what: string,
  act: () => Promise<T>,
): Promise<T> {
  const attempt = (): Promise<T> =>
    act().catch((error: unknown) => {
      if (!signal.aborted) options.log.warn({ err: error }, what);
      throw error;
    });
  return retry(attempt, { tries: Number.MAX_SAFE_INTEGER, signal });
}

function placeFact(connection: string): string {
  return `trigger/${connection}/last-seen`;
}

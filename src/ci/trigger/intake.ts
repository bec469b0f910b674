/**
 * Reads the events of one review connection in order, each once (ci.md E-1, E-6): the place of
 * the last one is kept in the transaction of what it led to, so that after a kill nothing is
 * missed and nothing done twice. No event is dropped: what fails is tried again until it works,
 * later events of that connection wait, and health says so. Skipped are only events of what is
 * not there any more, and those that are none of ours: of an unknown type, or not readable.
 */
import { z } from "zod";
import { openBell } from "../../base/bell.ts";
import type { Clock } from "../../base/clock.ts";
import { isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import { untilDone } from "../../base/retry.ts";
import type { Scope } from "../../base/scope.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { ReviewEvent } from "../../model/change.ts";
import { reviewEventTypes } from "../../model/change.ts";
import type { ReviewPort } from "../../review/review-port.ts";
import type { Store, Tx } from "../../store/store.ts";

export type IntakeOptions = {
  readonly review: Pick<ReviewPort, "connection" | "eventsSince" | "onNews">;
  readonly store: Pick<Store, "fact" | "setFact" | "transaction">;
  readonly clock: Clock;
  readonly log: Log;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  readonly scope: Pick<Scope, "spawn" | "defer">;
  /** Does what the event asks for; calls `seen` in the transaction that records it. */
  readonly handle: (event: ReviewEvent, seen: (tx: Tx) => Promise<void>) => Promise<void>;
};

const PAGE = 200;

/** E-1: any field may be missing from what a review system sends. */
const eventSchema = z.looseObject({
  seq: z.int(),
  at: z.string(),
  project: z.string(),
  branch: z.string(),
  change: z.int(),
  patchset: z.int(),
  by: z.string(),
  type: z.enum(reviewEventTypes),
  comment: z.string().optional(),
});

/** Starts reading from the last event seen, what was missed first. */
export function startIntake(options: IntakeOptions): void {
  const { review, store, scope } = options;
  const news = openBell(options.clock);
  scope.defer(review.onNews(news.ring));
  scope.spawn(`events of ${review.connection}`, async (signal) => {
    const patiently = <T>(what: string, act: () => Promise<T>): Promise<T> =>
      untilDone(`${review.connection}: ${what}`, act, {
        signal,
        troubles: options.troubles,
        firstMs: limits.pollMs,
      });
    const known = await patiently("the last event seen", () =>
      store.fact(placeFact(review.connection)),
    );
    let last = Number(known ?? 0);
    while (!signal.aborted) {
      const events = await patiently("events after the last one", () =>
        review.eventsSince(last, PAGE),
      );
      const before = last;
      for (const event of events) {
        // at least once: what comes again was dealt with
        if (!(event.seq > last)) continue;
        await patiently(`event ${event.seq}`, () => handleOne(options, event));
        last = event.seq;
      }
      if (last === before) await news.wait(signal);
    }
  });
}

/** Does what the event asks for, or marks it as seen where there is nothing to do. */
async function handleOne(options: IntakeOptions, event: ReviewEvent): Promise<void> {
  const { store, clock, log, review } = options;
  const seen = (tx: Tx): Promise<void> =>
    store.setFact(tx, placeFact(review.connection), String(event.seq), clock.wallMs());
  const read = eventSchema.safeParse(event);
  if (!read.success) {
    const fault = z.prettifyError(read.error).slice(0, 500);
    log.warn({ seq: event.seq, type: event.type, fault }, "an event is not understood: left out");
    return store.transaction(seen);
  }
  try {
    await options.handle(event, seen);
  } catch (error) {
    if (!isRackyardError(error, "not-found")) throw error;
    log.info({ err: error, seq: event.seq }, "an event of what is not there any more: left out");
    await store.transaction(seen);
  }
}

function placeFact(connection: string): string {
  return `trigger/${connection}/last-seen`;
}

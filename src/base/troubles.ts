/**
 * What fails just now and is tried again: one alarm when it begins, one line when it works again,
 * and a list that health and `status` show. What is done about it is its owner's.
 */
import { limits } from "./limits.ts";
import type { Log } from "./log.ts";

export type Troubles = {
  /** Says that `what` fails, since when and why; logged once, not at every try. */
  begin(what: string, why: string): void;
  /** Says that `what` works again; logged once. */
  end(what: string): void;
  /** What fails just now, the oldest first. */
  list(): readonly Trouble[];
};

export type Trouble = {
  readonly what: string;
  readonly why: string;
  readonly sinceMs: number;
  readonly failures: number;
};

export function openTroubles(options: {
  readonly log: Log;
  readonly wallMs: () => number;
}): Troubles {
  const current = new Map<string, Trouble>();
  return {
    begin(what, why) {
      const known = current.get(what);
      if (!known) options.log.error({ what, why }, "fails; is tried again until it works");
      if (!known && current.size >= limits.troubles) return;
      const sinceMs = known?.sinceMs ?? options.wallMs();
      current.set(what, { what, why, sinceMs, failures: (known?.failures ?? 0) + 1 });
    },
    end(what) {
      const known = current.get(what);
      if (!known) return;
      current.delete(what);
      const afterMs = Math.round(options.wallMs() - known.sinceMs);
      options.log.info({ what, failures: known.failures, afterMs }, "works again");
    },
    list: () => [...current.values()],
  };
}

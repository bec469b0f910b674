/**
 * Refused logins of leased racks (ci.md F-1): what sshd's log tells is compared with the lease that
 * is there, and a fault of the gate's becomes an interruption of it, once a lease; a pass mends
 * what it can. The rack stays its holder's: an account that is back lets it in again.
 */
import { followLines } from "../../base/file-tail.ts";
import type { Log } from "../../base/log.ts";
import { describeError } from "../../base/errors.ts";
import { untilDone } from "../../base/retry.ts";
import type { Troubles } from "../../base/troubles.ts";
import { fingerprint } from "../../ssh/key-codec.ts";
import { openTerms } from "../testenv-state.ts";
import type { Terms, Testenv } from "../testenv-state.ts";
import { gateFault, refusalOf } from "./refusal-codec.ts";
import type { Refusal } from "./refusal-codec.ts";

export type RefusalsOptions = {
  readonly find: (account: string) => Testenv | undefined;
  /** The key that the present lease was given, `type base64`. */
  readonly publicKey: (te: Testenv) => Promise<string | undefined>;
  readonly onFault: (te: Testenv, why: string) => void;
  readonly log: Log;
};

export type Refusals = {
  /** A line of sshd's log; resolves when it is judged. */
  onLine(line: string): Promise<void>;
};

export function openRefusals(options: RefusalsOptions): Refusals {
  /** By rack: the lease's epoch whose fault was told. */
  const told = new Map<number, number>();

  async function judge(refusal: Refusal): Promise<void> {
    const te = options.find(refusal.account);
    const terms = termsOf(te);
    if (!te || !terms || told.get(te.number) === terms.epoch) return;
    const publicKey = await options.publicKey(te);
    const now = options.find(refusal.account);
    // a lease that ended meanwhile had its key taken away: that refusal is right
    if (publicKey === undefined || !now || termsOf(now)?.epoch !== terms.epoch) return;
    const live = { key: fingerprint(publicKey), from: terms.holderAddresses };
    const why = gateFault(refusal, live);
    if (why === undefined || told.get(te.number) === terms.epoch) return;
    told.set(te.number, terms.epoch);
    options.log.error({ testenv: te.number, lease: terms.lease, why }, "a live key is refused");
    options.onFault(now, why);
  }

  return {
    async onLine(line) {
      const refusal = refusalOf(line);
      if (!refusal) return;
      await judge(refusal).catch((error: unknown) => {
        options.log.warn({ why: describeError(error) }, "a refused login could not be judged");
      });
    },
  };
}

/** Follows sshd's log from now on, until the signal aborts. */
export function followRefusals(
  logFile: string,
  refusals: Refusals,
  troubles: Troubles,
  signal: AbortSignal,
): Promise<void> {
  const onLine = (line: string): void => void refusals.onLine(line);
  const follow = (): Promise<void> => followLines(logFile, { signal, onLine });
  const followed = untilDone("reading of sshd's log", follow, { signal, troubles });
  return followed.catch(() => undefined); // the signal
}

/** Only a lease that its holder has: before, and after, nobody may be let in. */
function termsOf(te: Testenv | undefined): Terms | null {
  return te?.phase.state === "leased" ? openTerms(te) : null;
}

/**
 * A rack as a build asks for it: the shape that lease/holder's client has for the saga, so that
 * tests hold and break it. A `key` makes asking again the same lease with the same token, which
 * is how a build finds its lease after the server's death; the token itself is never stored.
 */
import type { LeaseRequestInput, LeaseView } from "../../model/lease.ts";
import type { TestenvData } from "../../model/testenv.ts";

export type AskedRack = { readonly id: string; readonly token: string };

export type RackPort = {
  /** Throws `unsatisfiable` (L12), or whatever the broker refuses. */
  ask(request: LeaseRequestInput, key: string): Promise<AskedRack>;
  /** lease.md §4: passed over or not, and from where the seed will be reached. */
  offer(rack: AskedRack, takeable: boolean, addresses: readonly string[]): Promise<LeaseView>;
  /**
   * The lease now and after each change, until it has ended or the signal aborts. While it is
   * followed the holder is alive (L11, L14): the follower renews.
   */
  watch(rack: AskedRack, signal: AbortSignal): AsyncIterable<LeaseView>;
  /** The TE data; the first call is the taking (L8). */
  data(rack: AskedRack): Promise<TestenvData>;
  /** So much past the present deadline; throws where it may not be (L8). */
  extend(rack: AskedRack, durationSeconds: number): Promise<LeaseView>;
  /** Content when it is over; gives how it reads then. */
  release(rack: AskedRack): Promise<LeaseView>;
  look(rack: AskedRack): Promise<LeaseView>;
};

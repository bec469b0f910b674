/**
 * A rack's work as a port: what a TE's life wants done to the thing itself. Behind it stands
 * libvirt today (rack.ts, reset.ts), the simulator in tests; racks of another make bring their
 * own. Every call may be made twice, and a rejected promise is work that was not done.
 */
import type { Certificate, TestenvData } from "../model/testenv.ts";
import type { Deadline, Terms, Testenv } from "./testenv-state.ts";

export type RackPort = {
  /** Credentials, way in, TE data; the deadline that they were made for (H-1.14). */
  open(te: Testenv, terms: Terms, signal: AbortSignal): Promise<Deadline>;
  /** Credentials made anew for a later deadline. */
  extend(te: Testenv, terms: Terms, deadline: Deadline): Promise<void>;
  /**
   * Step 1 of the reset: when it returns no credential works and no connection is open (L4). It
   * takes away, so it must not need anything that can be used up: no disk, no memory of a tenant.
   */
  fence(te: Testenv): Promise<void>;
  /** Steps 2–7; throws what failed, `no-space` where the host's disk is what failed. */
  reset(te: Testenv, signal: AbortSignal): Promise<Certificate>;
  remove(te: Testenv, signal: AbortSignal): Promise<void>;
  /** The TE data of the present lease, as `open` made them. */
  data(te: Testenv): Promise<TestenvData | undefined>;
  /** Names of the machines that were on when last seen; undefined: too long ago. Never waits. */
  power(te: Testenv): ReadonlySet<string> | undefined;
  /** Where a machine's console is written while its lease lasts; undefined: no such machine. */
  console(te: Testenv, machine: string): string | undefined;
};

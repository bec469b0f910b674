/**
 * Having a rack, as a client (L8, L11, L14): asks, waits, takes the data at once, gives signs of
 * life every 10 s, notices the loss, gives back in every case. Used by `rackyard lease` and by
 * builds; runs on strangers' machines, with nothing but Node.
 */
import { randomUUID } from "node:crypto";
import { fail, isRackyardError, RackyardError } from "../../base/errors.ts";
import type { Endpoint } from "../../base/http-client.ts";
import { limits } from "../../base/limits.ts";
import { retry } from "../../base/retry.ts";
import { pause } from "../../base/wait.ts";
import type { LeaseRequestInput, LeaseView } from "../../model/lease.ts";
import type { TestenvData } from "../../model/testenv.ts";
import { openLeaseCalls, passes } from "./lease-calls.ts";
import type { LeaseCalls, LeaseKey } from "./lease-calls.ts";

export type HeldLease = LeaseKey & {
  readonly te: string;
  readonly epoch: string;
  readonly host: string;
  readonly data: TestenvData;
  /** The deadline as it was at the taking. */
  readonly expiresAt: string;
  /** Aborted with a RackyardError `lease-lost` that says why. */
  readonly lost: AbortSignal;
  /** Once and for all; content when it is over already. Gives how the lease reads then. */
  release(): Promise<LeaseView | undefined>;
};

export type AcquireOptions = {
  /** Gives up waiting, and gives back what was granted meanwhile. */
  readonly signal: AbortSignal;
  /** The lease as it waits: place, why, predicted start. */
  readonly onUpdate?: (view: LeaseView) => void;
  /** Asking again with the same key finds the same lease. */
  readonly key?: string;
};

export type Holder = {
  readonly calls: LeaseCalls;
  /**
   * Resolves with the rack in hand. Throws `unsatisfiable`, `wait-timeout`, `lease-lost` (it
   * ended before it was had), or the refusal of the server.
   */
  acquire(request: LeaseRequestInput, options: AcquireOptions): Promise<HeldLease>;
  /** Goes on with a lease that is held already, by its id and token. */
  resume(lease: LeaseKey, signal: AbortSignal): Promise<HeldLease>;
};

export function openHolder(endpoint: Endpoint): Holder {
  const calls = openLeaseCalls(endpoint);

  async function acquire(request: LeaseRequestInput, options: AcquireOptions): Promise<HeldLease> {
    const { signal } = options;
    const key = options.key ?? randomUUID();
    const asked = await retry(() => calls.ask(request, key, signal), {
      tries: 5,
      firstMs: limits.pollMs * 5,
      signal,
      worth: passes,
    });
    try {
      options.onUpdate?.(asked);
      return await wait(asked, options);
    } catch (error) {
      await giveBack(calls, asked);
      throw error;
    }
  }

  async function wait(lease: LeaseKey, options: AcquireOptions): Promise<HeldLease> {
    for await (const view of calls.watch(lease, options.signal)) {
      if (view.state === "active") {
        const held = await hold(lease, view, options.signal).catch(backInQueue);
        if (held) return held;
        continue;
      }
      if (view.state === "ended" || view.state === "ending") throw endedError(view);
      options.onUpdate?.(view);
    }
    options.signal.throwIfAborted();
    return fail("unavailable", "the lease cannot be followed any more");
  }

  async function hold(lease: LeaseKey, view: LeaseView, signal: AbortSignal): Promise<HeldLease> {
    const data = await retry(() => calls.data(lease, signal), {
      tries: 20,
      firstMs: limits.pollMs,
      lastMs: limits.backoffFirstMs,
      signal,
      worth: passes,
    });
    return keep(calls, lease, view, data);
  }

  return {
    calls,
    acquire,
    async resume(lease, signal) {
      const view = await calls.look(lease, signal);
      if (view.state !== "active") throw endedError(view);
      return hold(lease, view, signal);
    },
  };
}

/** The rack broke in the very moment of its taking: the request waits again (L13). */
function backInQueue(error: unknown): undefined {
  if (!isRackyardError(error, "conflict")) throw error;
}

/** Signs of life and watch from here on, until released or lost. */
function keep(calls: LeaseCalls, lease: LeaseKey, view: LeaseView, data: TestenvData): HeldLease {
  const lost = new AbortController();
  const over = new AbortController();
  const grant = view.testenvs[0];
  if (!grant) return fail("internal", `lease ${lease.id} is active without a test environment`);
  const lose = (why: RackyardError): void => {
    if (!over.signal.aborted) lost.abort(why);
    over.abort();
  };
  const heard = { atMs: performance.now() };
  void watch(calls, lease, over.signal, lose, heard);
  void renew(calls, lease, over.signal, lose, heard);
  let released: Promise<LeaseView | undefined> | undefined;
  return {
    ...lease,
    te: grant.id,
    epoch: grant.epoch,
    host: grant.host,
    data,
    expiresAt: view.expiresAt ?? "",
    lost: lost.signal,
    release() {
      over.abort();
      return (released ??= giveBack(calls, lease));
    },
  };
}

type Lose = (why: RackyardError) => void;

/** The end is told at once by the stream. */
async function watch(
  calls: LeaseCalls,
  lease: LeaseKey,
  signal: AbortSignal,
  lose: Lose,
  heard: { atMs: number },
): Promise<void> {
  try {
    for await (const view of calls.watch(lease, signal)) {
      heard.atMs = performance.now();
      if (view.state !== "active") return lose(endedError(view));
    }
  } catch (error) {
    if (!signal.aborted) lose(lostError(error));
  }
}

/** L14: every 10 s; a server that is away for its grace and more has given the rack away. */
async function renew(
  calls: LeaseCalls,
  lease: LeaseKey,
  signal: AbortSignal,
  lose: Lose,
  heard: { atMs: number },
): Promise<void> {
  while (!signal.aborted) {
    try {
      await pause(limits.renewMs, signal);
      const view = await calls.renew(lease, signal);
      heard.atMs = performance.now();
      if (view.state !== "active") return lose(endedError(view));
    } catch (error) {
      if (signal.aborted) return;
      if (!passes(error)) return lose(lostError(error));
      const silentMs = performance.now() - heard.atMs;
      if (silentMs > limits.holderSilenceMs) {
        const text = `the server has not answered for ${Math.round(silentMs / 1_000)} s`;
        return lose(new RackyardError("lease-lost", text, { cause: error }));
      }
    }
  }
}

/** Tries for a while: a rack that is not given back comes home only by its deadline. */
async function giveBack(calls: LeaseCalls, lease: LeaseKey): Promise<LeaseView | undefined> {
  try {
    return await retry(() => calls.release(lease), {
      tries: 6,
      firstMs: limits.pollMs * 5,
      worth: passes,
    });
  } catch (error) {
    if (isRackyardError(error)) return undefined; // its TTL or its deadline ends it
    throw error;
  }
}

function endedError(view: LeaseView): RackyardError {
  const reason = view.reason ?? view.state;
  const sentence = `lease ${view.id} has ended: ${because[reason] ?? reason}`;
  if (reason === "wait-timeout") return new RackyardError("wait-timeout", sentence);
  if (reason === "unsatisfiable") return new RackyardError("unsatisfiable", sentence);
  return new RackyardError("lease-lost", sentence);
}

const because: Readonly<Record<string, string>> = {
  expired: "its time is over",
  "holder-lost": "the server had no sign of life of this program",
  revoked: "an operator took it back",
  "te-lost": "its host is gone, or the rack broke",
  "wait-timeout": "no test environment became free in time",
};

function lostError(error: unknown): RackyardError {
  const detail = error instanceof Error ? error.message : String(error);
  return new RackyardError("lease-lost", detail, { cause: error });
}

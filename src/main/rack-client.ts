/**
 * How builds lease their racks: as everybody does, over the API, through its socket. The only
 * difference is that a build's lease has a key made of the build, so that after the server's
 * death the same request finds the same lease.
 */
import type { RackPort } from "../ci/builds/rack-port.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { describeError } from "../base/errors.ts";
import { pause } from "../base/wait.ts";
import { openLeaseCalls } from "../lease/holder/lease-calls.ts";
import type { LeaseCalls, LeaseKey } from "../lease/holder/lease-calls.ts";

export function openRackClient(socket: string, log: Log): RackPort {
  const calls = openLeaseCalls({ url: `unix:${socket}` });
  return {
    async ask(request, key) {
      const { id, token } = await calls.ask(request, key);
      return { id, token };
    },
    offer: (rack, takeable, addresses) => calls.offer(rack, takeable, addresses),
    async *watch(rack, signal) {
      const over = new AbortController();
      const renewing = renew(calls, rack, AbortSignal.any([signal, over.signal]), log);
      try {
        for await (const view of calls.watch(rack, signal)) yield view;
      } finally {
        over.abort();
        await renewing;
      }
    },
    data: (rack) => calls.data(rack),
    extend: (rack, durationSeconds) => calls.extend(rack, durationSeconds),
    release: (rack) => calls.release(rack),
    look: (rack) => calls.look(rack),
  };
}

/** Whoever follows is alive (L14). What a failed sign of life means, the lease itself tells. */
async function renew(
  calls: LeaseCalls,
  rack: LeaseKey,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  for (;;) {
    await pause(limits.renewMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await calls.renew(rack, signal);
    } catch (error) {
      if (!signal.aborted) log.debug({ lease: rack.id, error: describeError(error) }, "no renewal");
    }
  }
}

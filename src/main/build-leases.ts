/**
 * How builds lease their racks: by the leasing service itself, each project as a caller of its
 * own with its own quota. A build's lease has a key made of the build, so that after the server's
 * death the same request finds the same lease.
 */
import type { AskedRack, RackPort } from "../ci/builds/rack-port.ts";
import { describeError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import type { Log } from "../base/log.ts";
import { pause } from "../base/wait.ts";
import type { LeaseViewsOf } from "../lease/broker/lease-views.ts";
import type { Caller } from "../model/identity.ts";
import { leaseRequestSchema } from "../model/lease.ts";

/** Addresses come from our own pairing of nodes and racks: `paired`. */
const PAIRED = true;

export function openBuildLeases(leases: () => LeaseViewsOf, log: Log): RackPort {
  return {
    async ask(input, key) {
      const request = leaseRequestSchema.parse(input);
      const { id, token } = await leases().ask(request, projectOf(request.group), key, PAIRED);
      return { id, token };
    },
    offer: ({ id, token }, takeable, addresses) =>
      leases().patch(id, { takeable, holder: { addresses: [...addresses] } }, token, PAIRED),
    async *watch(rack, signal) {
      const over = new AbortController();
      const renewing = renew(leases, rack, AbortSignal.any([signal, over.signal]), log);
      try {
        yield* leases().watch(rack.id, rack.token, signal);
      } finally {
        over.abort();
        await renewing;
      }
    },
    data: ({ id, token }) => leases().data(id, token),
    extend: ({ id, token }, durationSeconds) => leases().extend(id, durationSeconds, token),
    release: ({ id, token }) => leases().release(id, token),
    look: ({ id, token }) => leases().get(id, token),
  };
}

/** A name that no token can have: tokens' names have no blank. */
function projectOf(group: string | undefined): Caller {
  return { name: `project ${group ?? "default"}`, role: "holder", groups: [] };
}

/** Whoever follows is alive (L14). What a failed sign of life means, the lease itself tells. */
async function renew(
  leases: () => LeaseViewsOf,
  { id, token }: AskedRack,
  signal: AbortSignal,
  log: Log,
): Promise<void> {
  for (;;) {
    await pause(limits.renewMs, signal).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await leases().renew(id, token);
    } catch (error) {
      if (!signal.aborted) log.debug({ lease: id, error: describeError(error) }, "no renewal");
    }
  }
}

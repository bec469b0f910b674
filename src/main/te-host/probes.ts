/**
 * Probes of a host (docs/decisions/health-of-a-host.md): a login at the gate, an answer of libvirt,
 * the test network, an offer of DHCP are really seen to work, again and again. Two failures in a
 * row are a trouble of the host, which its health shows; the first success ends it.
 */
import { pauseOn } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError, fail } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { backoffMs } from "../../base/retry.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import type { Testenvs } from "../../testenv/testenvs.ts";

export type Probe = {
  /** As a sentence's subject: "a login at the gate". */
  readonly what: string;
  /** Resolves when it was seen to work; throws what was seen instead. */
  see(signal: AbortSignal): Promise<unknown>;
};

/** What a rack stands on. */
export function hostProbes(
  hypervisor: Pick<Hypervisor, "domains" | "plan" | "testNetwork">,
  testenvs: Pick<Testenvs, "probeGate">,
): Probe[] {
  return [
    { what: "a login at the gate", see: (signal) => testenvs.probeGate(signal) },
    { what: "an answer of libvirt", see: () => hypervisor.domains.list() },
    {
      what: "the cell",
      // its /etc, bridge, address, way out, filter and flows: as planned, or what a pass would mend
      async see() {
        const [first] = await hypervisor.plan();
        if (first) fail("unavailable", `${first.kind}: ${first.why}`);
      },
    },
    {
      what: "an offer of DHCP",
      see: (signal) => hypervisor.testNetwork.probeDhcp(signal),
    },
  ];
}

/** Runs until the signal aborts; each probe by itself, so that none waits for another. */
export async function runProbes(options: {
  readonly probes: readonly Probe[];
  readonly clock: Pick<Clock, "after">;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  /** Each failure: a pass may mend what it saw. */
  readonly wantPass: () => void;
  /** Once, when a probe becomes a trouble. */
  readonly onTrouble: (what: string, why: string) => void;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { clock, troubles, signal } = options;

  async function keep(probe: Probe): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const why = await seen(probe, clock, signal);
      if (signal.aborted) return;
      failures = why === undefined ? 0 : failures + 1;
      if (why === undefined) troubles.end(probe.what);
      else {
        options.wantPass();
        if (failures > 1) troubles.begin(probe.what, why);
        if (failures === 2) options.onTrouble(probe.what, why);
      }
      const again = backoffMs(failures, limits.probeAgainMs, limits.probeMs);
      await pauseOn(clock, failures > 0 ? again : limits.probeMs, signal).catch(() => undefined);
    }
  }
  await Promise.all(options.probes.map(keep));
}

/** Why it was not seen to work; a probe that never answers has failed too. */
async function seen(
  probe: Probe,
  clock: Pick<Clock, "after">,
  signal: AbortSignal,
): Promise<string | undefined> {
  const stop = new AbortController();
  const silence = Promise.withResolvers<string>();
  const timer = clock.after(limits.probeAnswerMs, () =>
    silence.resolve(`no answer within ${limits.probeAnswerMs / 1_000} s`),
  );
  const gone = (): void => silence.resolve("the agent stops");
  signal.addEventListener("abort", gone, { once: true });
  const own = AbortSignal.any([signal, stop.signal]);
  const answer = (async () => probe.see(own))().then(() => undefined, describeError);
  try {
    return await Promise.race([answer, silence.promise]);
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", gone);
    stop.abort();
  }
}

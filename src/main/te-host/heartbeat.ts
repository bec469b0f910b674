/**
 * The host's sign of life (lease.md §6), every 5 s, with what may be wrong with the host. Nothing
 * in it asks libvirt or the switch: a daemon that hangs makes the host degraded and loses no
 * session.
 */
import { pauseOn } from "../../base/clock.ts";
import type { Clock } from "../../base/clock.ts";
import { limits } from "../../base/limits.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Hypervisor } from "../../hypervisor/hypervisor-port.ts";
import type { FromHost } from "../../session/session-port.ts";
import type { Testenvs } from "../../testenv/testenvs.ts";
import type { Passes } from "./passes.ts";
import { vitalsOf } from "./session-texts.ts";

/** What fails of the host itself, and what fails for one rack: health.ts tells them apart. */
export type AgentTroubles = { readonly host: Troubles; readonly racks: Troubles };

export async function beat(
  of: {
    readonly hypervisor: Pick<Hypervisor, "problems" | "processes">;
    readonly passes: Pick<Passes, "failures" | "trouble">;
    readonly testenvs: Pick<Testenvs, "faults">;
    readonly troubles: AgentTroubles;
    /** The state directory: how much room its disk has. */
    readonly state: string;
    readonly clock: Pick<Clock, "after">;
  },
  send: (message: FromHost) => void,
  signal: AbortSignal,
): Promise<void> {
  const { passes, troubles } = of;
  while (!signal.aborted) {
    const pass = passes.trouble();
    const faults = {
      own: [...troubles.host.list(), ...(pass ? [{ what: "a pass", why: pass }] : [])],
      failures: passes.failures(),
      ofRacks: troubles.racks.list(),
      racks: of.testenvs.faults(),
    };
    send(await vitalsOf(of.hypervisor, of.state, faults));
    await pauseOn(of.clock, limits.heartbeatMs, signal).catch(() => undefined);
  }
}

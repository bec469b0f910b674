/**
 * How a host is, judged by its own parts alone (docs/decisions/health-of-a-host.md). `degraded`
 * says that it cannot give a working rack now, and stops its grants; a rack or a target that
 * fails is shown, and stops itself alone. Pure.
 */
import { FREE_MEMORY_MIB } from "../../hypervisor/capacity-plan.ts";
import type { Failure } from "../../hypervisor/execute.ts";

/** What fails just now, in two words and a sentence. */
type Fault = { readonly what: string; readonly why: string };

export type HostLook = {
  /** What fails of the host itself: its room, its passes, its probes. */
  readonly own: readonly Fault[];
  /** Daemons that are not there, and parts of the host that could not be mended. */
  readonly parts: readonly string[];
  /** Targets of a pass that failed last. */
  readonly failures: readonly Pick<Failure, "action" | "error">[];
  /** What fails for one rack. */
  readonly ofRacks: readonly Fault[];
  /** Racks that are faulty or quarantined. */
  readonly racks: readonly string[];
  readonly freeMemoryMiB: number;
  readonly freeDiskMiB: number;
};

export type Health = { readonly health: "ok" | "degraded"; readonly problems: readonly string[] };

/** Below this no overlay of a rack can grow: a machine would not boot. */
export const FREE_DISK_MIB = 512;
/** Targets that all racks of a host share. */
const shared: ReadonlySet<string> = new Set(["gate"]);

export function judge(look: HostLook): Health {
  const failed = look.failures.map(({ action, error }) => ({
    ofHost: shared.has(action.target),
    text: `${action.kind} ${action.target}: ${error}`,
  }));
  const host = [
    ...look.parts,
    ...look.own.map(faultText),
    ...failed.filter(({ ofHost }) => ofHost).map(({ text }) => text),
    ...below(look.freeMemoryMiB, FREE_MEMORY_MIB, "memory"),
    ...below(look.freeDiskMiB, FREE_DISK_MIB, "disk"),
  ];
  const others = [
    ...look.racks,
    ...look.ofRacks.map(faultText),
    ...failed.filter(({ ofHost }) => !ofHost).map(({ text }) => text),
  ];
  // The host's own first: the broker quotes the first few as the reason for a wait.
  return { health: host.length === 0 ? "ok" : "degraded", problems: [...host, ...others] };
}

const faultText = ({ what, why }: Fault): string => `${what} fails: ${why}`;

function below(free: number, least: number, of: string): string[] {
  return free < least ? [`${free} MiB of ${of} left, under ${least}`] : [];
}

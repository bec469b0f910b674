/**
 * A TE as its host reports it to the broker (lease.md §6): the life's state in the words that
 * both know, and what the rack is made of. Pure.
 */
import { assertNever } from "../base/assert.ts";
import type { EndReason } from "../model/lease.ts";
import type { TestenvReport } from "../model/testenv.ts";
import type { Phase, ResetReason, Testenv } from "./testenv-state.ts";
import type { TestenvParts } from "./parts.ts";

/** `on`: names of the domains that are on; undefined: libvirt did not say. */
export function reportOf(
  te: Testenv,
  parts: TestenvParts,
  on: ReadonlySet<string> | undefined,
): TestenvReport {
  const { phase } = te;
  const { machines } = parts.kind;
  const terms = "terms" in phase ? phase.terms : null;
  const power = (name: string): "on" | "off" | "unknown" =>
    on === undefined ? "unknown" : on.has(name) ? "on" : "off";
  return {
    number: te.number,
    kind: te.kind,
    labels: [...parts.kind.labels],
    state: told(phase),
    epoch: String(te.epoch),
    draining: te.draining,
    lease: terms?.lease ?? null,
    leaseEpoch: terms ? String(terms.epoch) : null,
    deadlineAt: phase.state === "leased" ? phase.deadline.at : null,
    ended:
      terms && "reason" in phase
        ? { reason: endReason(phase.reason), fencedAt: phase.endedAt }
        : null,
    machines: {
      count: machines.count,
      memoryMiB: machines.memoryMiB,
      cpus: machines.cpus,
      diskGiB: machines.diskGiB,
    },
    machineList: parts.all.map(({ name, spec }) => ({
      name,
      domain: spec.name,
      uuid: spec.uuid,
      macs: spec.nics.map((nic) => nic.mac),
      power: power(spec.name),
    })),
    seedIp: parts.seedIp,
    certificate: phase.state === "ready" ? phase.certificate : null,
    detail: "detail" in phase ? phase.detail : null,
  };
}

function told(phase: Phase): TestenvReport["state"] {
  switch (phase.state) {
    case "removing":
      return "offline";
    case "removed":
    case "provisioning":
    case "ready":
    case "preparing":
    case "leased":
    case "resetting":
    case "faulty":
    case "quarantined":
      return phase.state;
    default:
      return assertNever(phase, "phase");
  }
}

/** The broker knows reasons of leases; a reset of the host's own is none's fault. */
function endReason(reason: ResetReason): EndReason {
  const own = reason === "provisioned" || reason === "repaired" || reason === "ordered";
  return own ? "released" : reason;
}

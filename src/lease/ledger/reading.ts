/**
 * How leases, TEs and hosts read from outside (model's views), out of the ledger or of a record
 * of the store. Nothing secret is in here.
 */
import type { LeaseView, Why } from "../../model/lease.ts";
import type { HostView, TestenvView } from "../../model/testenv.ts";
import type { Forecast } from "./forecast.ts";
import { isoMs } from "./lease-life.ts";
import type { Host, LeaseRecord, Ledger, TestenvRecord } from "./ledger-state.ts";
import { leaseOn } from "./ledger-state.ts";

/** What only a waiting lease has. */
export type Waiting = {
  readonly place: number | undefined;
  readonly why: readonly Why[];
  readonly forecast: Forecast | undefined;
};

export function leaseView(record: LeaseRecord, waiting?: Waiting): LeaseView {
  const { state, request } = record;
  const grant = state.kind === "waiting" ? null : state.grant;
  const certificate = record.certified
    ? { certificate: `/v1/leases/${record.id}/certificate` }
    : {};
  return {
    id: record.id,
    tenant: record.tenant,
    state: state.kind,
    ...("reason" in state ? { reason: state.reason } : {}),
    holder: {
      name: request.holder.name,
      ...(request.holder.url === undefined ? {} : { url: request.holder.url }),
    },
    group: record.group,
    priority: request.priority,
    createdAt: isoMs(record.createdAtMs),
    ...("preparedAtMs" in state && state.preparedAtMs !== null
      ? { preparedAt: isoMs(state.preparedAtMs) }
      : {}),
    ...("expiresAt" in state && state.expiresAt !== null ? { expiresAt: state.expiresAt } : {}),
    ...(state.kind === "ended" ? { endedAt: state.endedAt } : {}),
    ...(waiting ? waitingParts(waiting) : {}),
    testenvs: grant
      ? [
          {
            id: grant.te,
            epoch: String(grant.epoch),
            kind: grant.kind,
            host: grant.host,
            ...certificate,
          },
        ]
      : [],
    interruptions: [...record.interruptions],
  };
}

function waitingParts({ place, why, forecast }: Waiting): Partial<LeaseView> {
  return {
    ...(place === undefined ? {} : { place }),
    why: [...why],
    ...(forecast
      ? {
          predictedStart: {
            earliestAt: isoMs(forecast.earliestMs),
            likelyAt: isoMs(forecast.likelyMs),
            latestAt: isoMs(forecast.latestMs),
          },
        }
      : {}),
  };
}

export function testenvView(ledger: Ledger, te: TestenvRecord): TestenvView {
  const { life } = te;
  const detail = "detail" in life ? life.detail : null;
  return {
    id: te.id,
    host: te.host,
    number: te.number,
    kind: te.report.kind,
    labels: [...te.report.labels],
    state: life.kind === "removed" ? "offline" : life.kind,
    draining: te.draining,
    epoch: String(te.epoch),
    lease: leaseOn(ledger, te.id)?.id ?? ("lease" in life ? life.lease : null),
    seedIp: te.report.seedIp,
    machines: te.report.machines,
    machineList: [...te.report.machineList],
    detail,
  };
}

export function hostView(host: Host): HostView {
  const { facts, vitals } = host;
  return {
    id: host.id,
    name: facts.name,
    state: host.state,
    version: facts.version,
    labels: [...facts.labels],
    accelerator: facts.accelerator,
    lastSeenAt: isoMs(host.lastSeenMs),
    load: vitals.load,
    freeMemoryMiB: vitals.freeMemoryMiB,
    health: vitals.health,
    problems: [...vitals.problems],
    testNetwork: facts.testNetwork,
    ssh: facts.ssh,
    ca: facts.ca,
    certificateKey: facts.certificateKey,
    cell: facts.cell,
    libvirt: facts.libvirt,
    processes: [...vitals.processes],
  };
}

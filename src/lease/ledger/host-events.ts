/**
 * What is heard of hosts: sessions that open and close, signs of life, interruptions. What a host
 * says of its TEs is a level, in its hello and in every report: reconcile.ts compares it.
 */
import { assertNever } from "../../base/assert.ts";
import { putHost, putLease } from "./draft.ts";
import type { Draft } from "./draft.ts";
import type { HostSaid } from "./ledger-event.ts";
import { leaseOn } from "./ledger-state.ts";
import type { Host, Vitals } from "./ledger-state.ts";
import { onHello, onReport } from "./reconcile.ts";

export function onHostSaid(draft: Draft, said: HostSaid): void {
  switch (said.kind) {
    case "hello":
      return onHello(draft, said);
    case "host-open":
      return onOpen(draft, said.hostId);
    case "host-closed":
      return onClosed(draft, said.hostId);
    case "heard":
      return onHeard(draft, said.hostId, said.vitals);
    case "report":
      return onReport(draft, said.hostId, said.report);
    case "interrupted":
      return onInterrupted(draft, said);
    default:
      return assertNever(said, "host's message");
  }
}

function onOpen(draft: Draft, hostId: string): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const open: Host = { ...host, open: true, state: "connected", lastSeenMs: draft.nowMs };
  if (host.state === "connected") draft.hosts.set(hostId, open);
  else putHost(draft, open, "connected", host.state);
}

/** The session is gone: nothing can be sent, so nothing is granted; lost only after the grace. */
function onClosed(draft: Draft, hostId: string): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const closed: Host = { ...host, open: false };
  if (host.state !== "connected") draft.hosts.set(hostId, closed);
  else putHost(draft, { ...closed, state: "suspect" }, "session-closed", host.state);
}

function onHeard(draft: Draft, hostId: string, vitals: Vitals | null): void {
  const host = draft.hosts.get(hostId);
  if (!host) return;
  const heard: Host = { ...host, lastSeenMs: draft.nowMs, vitals: vitals ?? host.vitals };
  if (host.state === "suspect" && host.open) {
    putHost(draft, { ...heard, state: "connected" }, "heard-again", host.state);
  } else draft.hosts.set(hostId, heard);
}

function onInterrupted(draft: Draft, said: Extract<HostSaid, { kind: "interrupted" }>): void {
  const lease = leaseOn(draft, said.te);
  if (!lease || (said.lease !== null && said.lease !== lease.id)) return;
  if (lease.interruptions.length >= 100) return;
  const entry = { ...said.interruption, te: said.te };
  if (lease.interruptions.some((known) => JSON.stringify(known) === JSON.stringify(entry))) return;
  const noted = { ...lease, interruptions: [...lease.interruptions, entry] };
  putLease(draft, noted, "interrupted", lease.state.kind);
}

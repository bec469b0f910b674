/**
 * The broker's loop as one function: a ledger, what happened, the time → the next
 * ledger and what is to be done. Records first: whoever carries the effects out writes all
 * `record`s before any other (L6). Time and queue are looked at after every event, so that no
 * order of events leaves a TE idle beside a waiter that fits.
 */
import { assert, assertNever } from "../../base/assert.ts";
import { changeTestenv, closeDraft, openDraft } from "./draft.ts";
import type { Draft } from "./draft.ts";
import { onHolderEvent } from "./holder-events.ts";
import { onHostSaid } from "./host-events.ts";
import type { LedgerEffect, LedgerEvent, Refusal } from "./ledger-event.ts";
import type { Ledger } from "./ledger-state.ts";
import { grantReady } from "./queue.ts";
import { beginAnew, sweep } from "./time-events.ts";

export type Decision = {
  readonly ledger: Ledger;
  readonly effects: readonly LedgerEffect[];
  /** For each event: it was not taken; what time brought is in the effects all the same. */
  readonly refusals: readonly (Refusal | null)[];
};

/** The events in their order, as one step. `nowMs` must never go back between calls. */
export function decide(ledger: Ledger, events: readonly LedgerEvent[], nowMs: number): Decision {
  const draft = openDraft(ledger, nowMs);
  const refusals = events.map((event) => {
    const refusal = apply(draft, event);
    sweep(draft);
    grantReady(draft);
    return refusal;
  });
  return { ledger: closeDraft(draft), effects: draft.effects, refusals };
}

/**
 * What of these events is a sign of life: it needs no record, so it is not lost with the records of
 * those it came together with. Else a store that is away would cost who is there its place.
 */
export function noteSigns(ledger: Ledger, events: readonly LedgerEvent[], nowMs: number): Ledger {
  const draft = openDraft(ledger, nowMs);
  for (const event of events) {
    switch (event.kind) {
      case "look":
      case "stream-opened":
      case "stream-closed":
      case "renew":
        onHolderEvent(draft, event);
        break;
      case "patch":
      case "take":
      case "check-extend":
      case "release": // whoever insists on giving it back is there
        onHolderEvent(draft, { kind: "look", id: event.id });
        break;
      case "heard": {
        const host = draft.hosts.get(event.hostId);
        if (host && host.state !== "lost") {
          draft.hosts.set(host.id, { ...host, lastSeenMs: nowMs });
        }
        break;
      }
      default:
        break;
    }
  }
  assert(draft.effects.length === 0, "a sign of life is recorded");
  return closeDraft(draft);
}

function apply(draft: Draft, event: LedgerEvent): Refusal | null {
  switch (event.kind) {
    case "ask":
    case "patch":
    case "look":
    case "stream-opened":
    case "stream-closed":
    case "take":
    case "renew":
    case "check-extend":
    case "release":
    case "revoke":
      return onHolderEvent(draft, event);
    case "hello":
    case "host-open":
    case "host-closed":
    case "heard":
    case "report":
    case "interrupted":
      onHostSaid(draft, event);
      return null;
    case "drain":
      return drain(draft, event.te, event.on);
    case "tick":
      return null;
    case "woke":
      beginAnew(draft);
      return null;
    default:
      return assertNever(event, "event");
  }
}

function drain(draft: Draft, id: string, on: boolean): Refusal | null {
  const te = draft.testenvs.get(id);
  if (!te || te.life.kind === "removed") {
    return { code: "not-found", detail: `there is no test environment ${id}` };
  }
  changeTestenv(draft, id, { draining: on }, on ? "drained" : "undrained");
  draft.effects.push({ kind: "drain", hostId: te.hostId, number: te.number, on });
  return null;
}

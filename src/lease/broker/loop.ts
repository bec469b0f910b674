/**
 * The broker's one loop (L6): events queue in one mailbox; what is queued is decided in order,
 * recorded in one transaction, then acted upon, then answered. A record that cannot be written
 * leaves the ledger as it was, and whoever asked is told. Time is an event too: one timer, set
 * to the next moment at which the ledger has something due.
 */
import type { Clock, Timer } from "../../base/clock.ts";
import { describeError, fail, RackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Store } from "../../store/store.ts";
import { decide } from "../ledger/decide.ts";
import type { LedgerEffect, LedgerEvent, RecordEffect, Refusal } from "../ledger/ledger-event.ts";
import type { LeaseRecord, Ledger } from "../ledger/ledger-state.ts";
import { dueAtMs } from "../ledger/time-events.ts";
import { leaseLife, writeRecords } from "./records.ts";
import type { Certified } from "./records.ts";

export type Loop = AsyncDisposable & {
  readonly ledger: Ledger;
  /** Milliseconds since 1970 that never jump: the wall's at the start, then monotonic. */
  nowMs(): number;
  /** Resolves when it is durable and acted upon; a refusal throws its RackyardError. */
  post(event: LedgerEvent): Promise<void>;
};

export type LoopOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly nowMs: () => number;
  readonly ledger: Ledger;
  /** After the commit: carries effects out. Must not throw. */
  readonly act: (effects: readonly LedgerEffect[], ledger: Ledger) => void;
};

type Job = {
  readonly event: LedgerEvent;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

export function openLoop(options: LoopOptions): Loop {
  const { store, clock, log, nowMs, act } = options;
  let ledger = options.ledger;
  const queue: Job[] = [];
  let running: Promise<void> | undefined;
  let timer: Timer | undefined;
  let timerAtMs = Infinity;
  let closed = false;

  function post(event: LedgerEvent): Promise<void> {
    if (closed) return Promise.reject(new RackyardError("unavailable", "the broker is stopping"));
    if (queue.length >= limits.leaseMailbox) {
      fail("too-many", "the broker has more to do than it can: try again later");
    }
    return new Promise<void>((resolve, reject) => {
      queue.push({ event, resolve, reject });
      running ??= drain();
    });
  }

  async function drain(): Promise<void> {
    // Whatever is posted in this turn of the event loop shares the transaction.
    await Promise.resolve();
    while (queue.length > 0) await handle(queue.splice(0, limits.leaseBatch));
    running = undefined;
    schedule();
  }

  async function handle(batch: readonly Job[]): Promise<void> {
    let next = ledger;
    const effects: LedgerEffect[] = [];
    const refusals: (Refusal | null)[] = [];
    const atMs = nowMs();
    for (const { event } of batch) {
      const decision = decide(next, event, atMs);
      next = decision.ledger;
      effects.push(...decision.effects);
      refusals.push(decision.refusal);
    }
    try {
      await record(effects, atMs);
    } catch (error) {
      log.error({ error: describeError(error), events: batch.length }, "nothing could be recorded");
      const away = new RackyardError("unavailable", "the store is away", { cause: error });
      for (const { reject } of batch) reject(away);
      return;
    }
    ledger = next;
    act(effects, ledger);
    for (const [index, { resolve, reject }] of batch.entries()) {
      const refusal = refusals[index];
      if (refusal) reject(refusalError(refusal));
      else resolve();
    }
  }

  async function record(effects: readonly LedgerEffect[], atMs: number): Promise<void> {
    const records = effects.filter((effect): effect is RecordEffect => effect.kind === "record");
    const certified: Certified[] = [];
    for (const effect of effects) {
      if (effect.kind !== "certified" || effect.lease === null) continue;
      const { te, certificate } = effect;
      certified.push({ lease: effect.lease, body: { te, certificate } });
      const body = await proven(records, effect.lease);
      if (!body) continue;
      const to = body.state.kind;
      const done = { ...body, certified: true };
      records.push({
        kind: "record",
        life: "lease",
        id: body.id,
        from: to,
        event: "proved",
        to,
        body: done,
      });
    }
    if (records.length + certified.length > 0) await writeRecords(store, records, certified, atMs);
  }

  /** The lease whose reset was proved: over, and so in this very batch or in the store. */
  async function proven(
    records: readonly RecordEffect[],
    id: string,
  ): Promise<LeaseRecord | undefined> {
    const fresh = records.findLast((one) => one.life === "lease" && one.id === id);
    const body = fresh?.life === "lease" ? fresh.body : (await store.row(leaseLife, id))?.body;
    return body?.state.kind === "ended" ? body : undefined;
  }

  function schedule(): void {
    if (closed) return;
    const due = dueAtMs(ledger);
    if (due === timerAtMs) return;
    timer?.cancel();
    timerAtMs = due;
    timer = due === Infinity ? undefined : clock.after(Math.max(1, due - nowMs()), tick);
  }

  function tick(): void {
    const late = nowMs() - timerAtMs;
    timerAtMs = Infinity;
    const woke = late > limits.stoppedMs;
    if (woke) log.warn({ lateMs: Math.round(late) }, "this program was stopped: TTLs begin anew");
    post(woke ? { kind: "woke" } : { kind: "tick" }).catch(() => schedule());
  }

  schedule();
  return {
    get ledger() {
      return ledger;
    },
    nowMs,
    post,
    async [Symbol.asyncDispose]() {
      closed = true;
      timer?.cancel();
      await running;
    },
  };
}

/** Wall time at the start, moved on by the monotonic clock: a jump of the wall ends no lease. */
export function steadyTime(clock: Clock): () => number {
  const offsetMs = clock.wallMs() - clock.monoMs();
  return () => Math.round(offsetMs + clock.monoMs());
}

function refusalError(refusal: Refusal): RackyardError {
  const { code, detail, faults, remedy } = refusal;
  return new RackyardError(code, detail, {
    ...(faults ? { faults } : {}),
    ...(remedy === undefined ? {} : { remedy }),
  });
}

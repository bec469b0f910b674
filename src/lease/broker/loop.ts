/**
 * The broker's one loop (L6): events queue in one mailbox; what is queued is decided in order,
 * recorded in one transaction, then acted upon, then answered. A record that cannot be written
 * leaves the ledger as it was, but for signs of life, and whoever asked is told. Time is an event
 * too: one timer, set to the next moment at which the ledger has something due.
 */
import { setImmediate as immediate } from "node:timers/promises";
import type { Clock, Timer } from "../../base/clock.ts";
import { describeError, RackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Random } from "../../base/random.ts";
import { backoffMs } from "../../base/retry.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Log } from "../../base/log.ts";
import type { Store } from "../../store/store.ts";
import { decide, noteSigns } from "../ledger/decide.ts";
import type { LedgerEffect, LedgerEvent, RecordEffect, Refusal } from "../ledger/ledger-event.ts";
import type { LeaseRecord, Ledger } from "../ledger/ledger-state.ts";
import { leaseLife, writeRecords } from "./records.ts";
import type { Certified } from "./records.ts";

const RECORDING = "recording leases";

export type Loop = AsyncDisposable & {
  readonly ledger: Ledger;
  /** Milliseconds since 1970 that never jump: the wall's at the start, then monotonic. */
  nowMs(): number;
  /** Resolves when it is durable and acted upon; a refusal throws its RackyardError. */
  post(event: LedgerEvent): Promise<void>;
  /**
   * Recorded now, or as soon as the store is well again: for what nobody would say once more. A
   * later event under the same key takes the place of one that could not be recorded.
   */
  insist(key: string, event: LedgerEvent): void;
};

export type LoopOptions = {
  readonly store: Store;
  readonly clock: Clock;
  /** Of the pauses after a failure. */
  readonly random: Pick<Random, "fraction">;
  readonly log: Log;
  readonly nowMs: () => number;
  readonly ledger: Ledger;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  /** After the commit: carries effects out. Must not throw. */
  readonly act: (effects: readonly LedgerEffect[], ledger: Ledger) => void;
};

type Job = {
  readonly key?: string;
  readonly event: LedgerEvent;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

export function openLoop(options: LoopOptions): Loop {
  const { store, clock, log, nowMs, act, troubles } = options;
  let ledger = options.ledger;
  const queue: Job[] = [];
  /** What could not be recorded and must be, by key. */
  const owed = new Map<string, LedgerEvent>();
  let running: Promise<void> | undefined;
  let timer: Timer | undefined;
  let timerAtMs = Infinity;
  let failures = 0;
  let closed = false;

  function post(event: LedgerEvent): Promise<void> {
    if (closed) return Promise.reject(new RackyardError("unavailable", "the broker is stopping"));
    if (queue.length >= limits.leaseMailbox) {
      const detail = `the broker's queue is full (${limits.leaseMailbox} events)`;
      return Promise.reject(new RackyardError("too-many", detail, { remedy: "try again later" }));
    }
    return new Promise<void>((resolve, reject) => {
      queue.push({ event, resolve, reject });
      running ??= drain();
    });
  }

  function insist(key: string, event: LedgerEvent): void {
    owed.delete(key);
    if (closed) return;
    queue.push({ key, event, resolve: () => undefined, reject: () => undefined });
    running ??= drain();
  }

  async function drain(): Promise<void> {
    // Whatever is posted in this turn of the event loop shares the transaction.
    await immediate();
    while (queue.length > 0) await handle(queue.splice(0, limits.leaseBatch));
    running = undefined;
    schedule();
  }

  async function handle(batch: readonly Job[]): Promise<void> {
    const atMs = nowMs();
    const events = batch.map(({ event }) => event);
    const decision = decide(ledger, events, atMs);
    try {
      await record(decision.effects, atMs);
    } catch (error) {
      failures++;
      troubles.begin(RECORDING, describeError(error));
      ledger = noteSigns(ledger, events, atMs);
      const away = new RackyardError("unavailable", "the store is away", { cause: error });
      for (const { key, event, reject } of batch) {
        if (key !== undefined) owed.set(key, event);
        reject(away);
      }
      return;
    }
    failures = 0;
    troubles.end(RECORDING);
    ledger = decision.ledger;
    act(decision.effects, ledger);
    for (const [index, { key, resolve, reject }] of batch.entries()) {
      if (key !== undefined) owed.delete(key);
      const refusal = decision.refusals[index];
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

  const pauseMs = (): number =>
    backoffMs(failures, undefined, undefined, () => options.random.fraction());

  /** What is due but cannot be recorded is tried again, ever more rarely. */
  function schedule(): void {
    if (closed) return;
    const atMs = failures > 0 ? nowMs() + pauseMs() : ledger.dueMs;
    if (atMs === timerAtMs) return;
    timer?.cancel();
    timerAtMs = atMs;
    timer = atMs === Infinity ? undefined : clock.after(Math.max(1, atMs - nowMs()), tick);
  }

  function tick(): void {
    const late = nowMs() - timerAtMs;
    timerAtMs = Infinity;
    const woke = late > limits.stoppedMs;
    if (woke) log.warn({ lateMs: Math.round(late) }, "this program was stopped: TTLs begin anew");
    for (const [key, event] of Array.from(owed)) insist(key, event);
    post(woke ? { kind: "woke" } : { kind: "tick" }).catch(() => schedule());
  }

  schedule();
  return {
    get ledger() {
      return ledger;
    },
    nowMs,
    post,
    insist,
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

/**
 * Simulated time: a heap of timers, run one after another, and whoever lives by them. A program
 * that was killed runs no timer any more: what it waited for never comes.
 */
import type { Clock, Timer } from "../base/clock.ts";

export type Timeline = {
  readonly nowMs: number;
  at(delayMs: number, callback: () => void): Timer;
  sleep(ms: number): Promise<void>;
  /** Runs the next timer and lets what it began come to rest; false: none is left by then. */
  step(untilMs: number): Promise<boolean>;
};

type Entry = { readonly atMs: number; readonly order: number; callback: (() => void) | undefined };

/** 2026-01-01: what the walls showed when a world began. */
const START_MS = 1_767_225_600_000;
/** Turns of the real event loop in which what a timer began settles: nothing in it does I/O. */
const TURNS = 3;

export function openTimeline(): Timeline {
  const heap: Entry[] = [];
  let nowMs = 0;
  let order = 0;
  const before = (a: Entry, b: Entry): boolean =>
    a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);

  function push(entry: Entry): void {
    let at = heap.push(entry) - 1;
    for (let up = (at - 1) >> 1; at > 0 && before(entry, heap[up]!); up = (at - 1) >> 1) {
      heap[at] = heap[up]!;
      heap[up] = entry;
      at = up;
    }
  }

  function pop(): Entry {
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    heap[0] = last;
    for (let at = 0; ;) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let least = at;
      if (left < heap.length && before(heap[left]!, heap[least]!)) least = left;
      if (right < heap.length && before(heap[right]!, heap[least]!)) least = right;
      if (least === at) return top;
      [heap[at], heap[least]] = [heap[least]!, heap[at]!];
      at = least;
    }
  }

  function at(delayMs: number, callback: () => void): Timer {
    const entry: Entry = { atMs: nowMs + Math.max(0, delayMs), order: order++, callback };
    push(entry);
    return { cancel: () => void (entry.callback = undefined) };
  }

  return {
    get nowMs() {
      return nowMs;
    },
    at,
    sleep: (ms) => new Promise((resolve) => void at(ms, resolve)),
    async step(untilMs) {
      while (heap.length > 0 && heap[0]!.callback === undefined) pop();
      if (heap.length === 0 || heap[0]!.atMs > untilMs) {
        nowMs = Math.max(nowMs, untilMs);
        return false;
      }
      const entry = pop();
      nowMs = entry.atMs;
      entry.callback?.();
      for (let turn = 0; turn < TURNS; turn++) {
        await new Promise((resolve) => void setImmediate(resolve));
      }
      return true;
    },
  };
}

/** One run of a program, from its start to its kill. */
export type Life = {
  readonly alive: boolean;
  kill(): void;
  /** At the kill; gives how to take it back. */
  onKill(act: () => void): () => void;
  /** The promise, or a failure at the kill: for whoever waits outside of the program. */
  race<T>(promise: Promise<T>): Promise<T>;
};

export function openLife(): Life {
  const acts = new Set<() => void>();
  let alive = true;
  const onKill = (act: () => void): (() => void) => {
    acts.add(act);
    return () => void acts.delete(act);
  };
  return {
    get alive() {
      return alive;
    },
    kill() {
      if (!alive) return;
      alive = false;
      for (const act of acts) act();
      acts.clear();
    },
    onKill,
    race(promise) {
      return new Promise((resolve, reject) => {
        if (!alive) return reject(new Error("the program was killed"));
        const forget = onKill(() => reject(new Error("the program was killed")));
        promise.then(resolve, reject).finally(forget);
      });
    },
  };
}

/** What a program that was killed waits for. */
export function never(): Promise<never> {
  return new Promise(() => undefined);
}

/** The clock of one run; `machine`: when it was booted, and how far its wall clock is off. */
export function clockOf(
  timeline: Timeline,
  life: Life,
  machine: { readonly bootedMs: number; readonly wallOffMs: number },
): Clock {
  return {
    wallMs: () => START_MS + Math.round(timeline.nowMs) + machine.wallOffMs,
    monoMs: () => timeline.nowMs - machine.bootedMs,
    after: (delayMs, callback) =>
      timeline.at(delayMs, () => {
        if (life.alive) callback();
      }),
  };
}

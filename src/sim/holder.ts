/**
 * Simulated holders over the broker's real calls: they stream or poll, extend, release, go
 * silent or away, ask to be put back, avoid, hold themselves back. What was answered to them is
 * noted, so that the broker can be held to it.
 */
import type { Broker } from "../lease/broker/broker.ts";
import type { LeaseCreated, LeaseView } from "../model/lease.ts";
import { leaseRequestSchema } from "../model/lease.ts";
import type { BrokerRun } from "./broker-program.ts";
import type { Timeline } from "./clock.ts";
import type { Faults } from "./faults.ts";
import type { SeededRandom } from "./random.ts";

export type Holder = {
  readonly name: string;
  /** What it asked for was answered; undefined until then. */
  lease: string | undefined;
  askedMs: number;
  answeredMs: number;
  requeue: boolean;
  /** When it last made a call that the broker answered, as it went out. */
  signMs: number;
  streamLostMs: number;
  streaming: boolean;
  /** Since when nobody is there any more. */
  goneMs: number;
  /** The database in which it was asked for is gone. */
  void: boolean;
  /** The end was answered. */
  over: boolean;
  done: boolean;
};

export type HolderWorld = {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  readonly faults: Faults;
  readonly broker: () => BrokerRun | undefined;
  readonly note: (text: string) => void;
};

class Away extends Error {}

export function newHolder(name: string): Holder {
  return {
    name,
    lease: undefined,
    askedMs: 0,
    answeredMs: 0,
    requeue: false,
    signMs: -Infinity,
    streamLostMs: -Infinity,
    streaming: false,
    goneMs: Infinity,
    void: false,
    over: false,
    done: false,
  };
}

const caller = { name: "holders", role: "holder", groups: [] } as const;

export async function liveHolder(holder: Holder, world: HolderWorld): Promise<void> {
  try {
    await live(holder, world);
  } catch (error) {
    world.note(`${holder.name} ends: ${error instanceof Error ? error.message : "?"}`);
  } finally {
    holder.done = true;
    if (!holder.over && holder.goneMs === Infinity) holder.goneMs = world.timeline.nowMs;
  }
}

async function live(holder: Holder, world: HolderWorld): Promise<void> {
  const { timeline, note } = world;
  const random = world.random.fork(holder.name);
  const durationSeconds = random.between(5, 45);
  const request = leaseRequestSchema.parse({
    durationSeconds,
    requeue: random.chance(0.3),
    takeable: random.chance(0.85),
    priority: random.pick(["normal", "normal", "high", "low"]),
    ...(random.chance(0.2) ? { avoid: { hosts: ["h1"] } } : {}),
    ...(random.chance(0.1) ? { waitSeconds: random.between(0, 60) } : {}),
    holder: { name: holder.name },
  });
  holder.requeue = request.requeue;
  holder.askedMs = timeline.nowMs;

  async function call<T>(ask: (broker: Broker) => Promise<T>): Promise<T> {
    await timeline.sleep(random.between(1, 20));
    const run = world.broker();
    if (!run?.life.alive || !run.broker) throw new Away("nobody answers");
    const wentMs = timeline.nowMs;
    const asked = ask(run.broker);
    // it is heard also where what it asks cannot be recorded just now
    asked.catch(() => (holder.signMs = wentMs));
    const answer = await run.life.race(asked);
    holder.signMs = wentMs;
    await timeline.sleep(random.between(1, 20));
    if (random.chance(world.faults.answerChance)) throw new Away("the answer was lost");
    return answer;
  }

  /** Until it is answered: what a good client does. */
  async function insist<T>(ask: (broker: Broker) => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await call(ask);
      } catch (error) {
        const code: unknown = error instanceof Error ? Reflect.get(error, "code") : undefined;
        if (typeof code === "string" && code !== "unavailable" && code !== "host-gone") throw error;
        await timeline.sleep(random.between(100, 2_000));
      }
    }
  }

  const created: LeaseCreated = await insist((broker) =>
    broker.leases.ask(request, caller, holder.name),
  );
  const { id, token } = created;
  holder.lease = id;
  holder.answeredMs = timeline.nowMs;
  note(`${holder.name} has asked: ${id.slice(0, 8)} is ${created.state}`);

  const leave = (): void => {
    holder.goneMs = timeline.nowMs;
    note(`${holder.name} goes away`);
  };
  const fate = random.fraction();
  if (!request.takeable) {
    await timeline.sleep(random.between(100, 8_000));
    await insist((broker) => broker.leases.patch(id, { takeable: true }, token));
  }
  if (fate < 0.08) return leave();
  const patienceMs = fate < 0.2 ? random.between(0, 20_000) : Infinity;
  const waits = random.chance(0.6) ? follow : poll;
  const state = await waits(holder, world, random, { id, token, call, patienceMs });
  if (state === undefined) return leave();
  if (state.state !== "active") return void (holder.over = state.state === "ended");
  if (fate < 0.26) return leave();
  await insist((broker) => broker.leases.data(id, token));
  note(`${holder.name} has ${state.testenvs[0]?.id}`);
  const untilMs = timeline.nowMs + random.between(50, durationSeconds * 1_300);
  while (timeline.nowMs < untilMs) {
    await timeline.sleep(
      Math.min(random.between(4_000, 9_000), Math.max(1, untilMs - timeline.nowMs)),
    );
    if (random.chance(0.1))
      await call((broker) => broker.leases.extend(id, 10, token)).catch(() => undefined);
    if (fate < 0.36 && random.chance(0.4)) return leave();
    await insist((broker) => broker.leases.renew(id, token));
  }
  const last = await insist((broker) => broker.leases.release(id, token));
  holder.over = last.state === "ended";
  if (!holder.over) holder.goneMs = timeline.nowMs;
  note(`${holder.name} released: ${last.state}`);
}

type Wait = {
  readonly id: string;
  readonly token: string;
  readonly call: <T>(ask: (broker: Broker) => Promise<T>) => Promise<T>;
  readonly patienceMs: number;
};

/** Undefined: it lost its patience. */
async function poll(
  _holder: Holder,
  { timeline }: HolderWorld,
  random: SeededRandom,
  { id, token, call, patienceMs }: Wait,
): Promise<LeaseView | undefined> {
  const untilMs = timeline.nowMs + patienceMs;
  for (;;) {
    const view = await call((broker) => broker.leases.get(id, token)).catch((error: unknown) => {
      if (error instanceof Error && Reflect.get(error, "code") === "not-found") throw error;
      return undefined;
    });
    if (view?.state === "active" || view?.state === "ending" || view?.state === "ended")
      return view;
    if (timeline.nowMs > untilMs) return undefined;
    await timeline.sleep(random.between(500, 7_000));
  }
}

async function follow(
  holder: Holder,
  { timeline, broker, faults }: HolderWorld,
  random: SeededRandom,
  { id, token, patienceMs }: Wait,
): Promise<LeaseView | undefined> {
  const untilMs = timeline.nowMs + patienceMs;
  for (;;) {
    await timeline.sleep(random.between(1, 200));
    if (timeline.nowMs > untilMs) return undefined;
    const run = broker();
    if (!run?.life.alive || !run.broker) continue;
    const stop = new AbortController();
    const over = (): void => stop.abort();
    const breaks = faults.answerChance > 0 && random.chance(0.3);
    const leftMs = breaks ? random.between(10, 15_000) : untilMs - timeline.nowMs;
    const timer = leftMs === Infinity ? undefined : timeline.at(leftMs, over);
    try {
      const stream = run.broker.leases.watch(id, token, stop.signal);
      for (;;) {
        holder.signMs = timeline.nowMs;
        holder.streaming = true;
        const next = await run.life.race(stream.next());
        if (next.done) break;
        const view = next.value;
        if (view.state === "waiting" || view.state === "preparing") continue;
        await run.life.race(stream.return(undefined));
        return view;
      }
    } catch (error) {
      if (error instanceof Error && Reflect.get(error, "code") === "not-found") throw error;
    } finally {
      timer?.cancel();
      holder.streaming = false;
      holder.streamLostMs = timeline.nowMs;
    }
  }
}

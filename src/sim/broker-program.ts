/**
 * The real broker with its real sessions, as one run of a program on a simulated machine: from its
 * start, which reads the ledger from the disk, to its kill. Who starts it again is the world's.
 */
import type { Log } from "../base/log.ts";
import { openTroubles } from "../base/troubles.ts";
import { openBroker } from "../lease/broker/broker.ts";
import type { Broker } from "../lease/broker/broker.ts";
import { openHostSessions } from "../session/host-sessions.ts";
import type { HostSessions } from "../session/session-port.ts";
import type { Ledger } from "../lease/ledger/ledger-state.ts";
import { clockOf, openLife } from "./clock.ts";
import type { Life, Timeline } from "./clock.ts";
import { storeOn } from "./disk.ts";
import type { Disk } from "./disk.ts";
import type { Faults } from "./faults.ts";
import type { SeededRandom } from "./random.ts";

export type BrokerRun = {
  readonly life: Life;
  readonly sessions: HostSessions;
  /** Undefined until its ledger is read. */
  broker: Broker | undefined;
  readyMs: number;
  ledger(): Ledger | undefined;
};

export type BrokerMachine = { readonly disk: Disk; readonly bootedMs: number; wallOffMs: number };

/** Spans of the policy, shorter than in life: more happens in a simulated minute. */
export const policy = { holderTtlMs: 30_000, graceMs: 40_000, maxDurationMs: 300_000 };

export function startBroker(options: {
  readonly machine: BrokerMachine;
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  readonly faults: Faults;
  readonly log: Log;
  readonly onLease: (id: string, event: string, view: object) => void;
  readonly onReady: (run: BrokerRun) => void;
  readonly died: () => void;
  readonly crashed: (who: string, error: unknown) => void;
}): BrokerRun {
  const { machine, timeline, faults, log } = options;
  const life = openLife();
  const random = options.random.fork(`broker ${timeline.nowMs}`);
  const clock = clockOf(timeline, life, machine);
  const store = storeOn(machine.disk, {
    life,
    timeline,
    random,
    killChance: () => faults.killChance,
    kill: () => life.kill(),
  });
  let sessions: HostSessions | undefined;
  const run: BrokerRun = {
    life,
    get sessions() {
      return sessions!;
    },
    broker: undefined,
    readyMs: Infinity,
    ledger: () => run.broker?.ledger(),
  };
  life.onKill(options.died);
  const opened = openBroker({
    store,
    clock,
    random,
    log,
    troubles: openTroubles({ log, wallMs: () => clock.wallMs() }),
    config: policy,
    tenant: "default",
    serverUrl: () => "http://simulated",
    tokenKey: Buffer.alloc(32, 7),
    filesDirectory: "/nonexistent",
    sessions: (handler) =>
      (sessions = openHostSessions({ handler, log, clock, authorise: () => true })),
    nodes: {
      onHello: () => Promise.resolve(),
      expected: () => [],
      onConnected: () => undefined,
      onMessage: () => Promise.resolve(),
      onDisconnected: () => undefined,
    },
    onEvent: (topic, id, event, view) => {
      if (life.alive && topic === "lease") options.onLease(id, event, view);
    },
  });
  opened.then(
    (broker) => {
      if (!life.alive) return;
      run.broker = broker;
      run.readyMs = timeline.nowMs;
      options.onReady(run);
    },
    (error: unknown) => options.crashed("broker", error),
  );
  return run;
}

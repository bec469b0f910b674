/**
 * The broker: who gets which rack (lease.md). Joins the loop, the store, the host sessions and
 * what the API shows. Decides nothing itself: lease/ledger does. Its promise is L6: recorded,
 * then acted upon, then answered; after kill -9 all of it is read back.
 */
import type { Clock } from "../../base/clock.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Troubles } from "../../base/troubles.ts";
import type { Random } from "../../base/random.ts";
import type { HostEvent, ToHost } from "../../model/session.ts";
import type { HostSessions, HostSessionsHandler } from "../../session/session-port.ts";
import type { Store } from "../../store/store.ts";
import type { LedgerEffect } from "../ledger/ledger-event.ts";
import type { Ledger, Policy } from "../ledger/ledger-state.ts";
import { hostView, leaseView, testenvView } from "../ledger/reading.ts";
import { openConsoleRelay } from "./console-relay.ts";
import { openFleetViews } from "./fleet-views.ts";
import { openHostSide } from "./host-side.ts";
import type { NodeSessions } from "./host-side.ts";
import { openLeaseFiles } from "./lease-files.ts";
import { openLeaseTokens } from "./lease-tokens.ts";
import { openLeaseViews } from "./lease-views.ts";
import { openLoop, steadyTime } from "./loop.ts";
import type { Loop } from "./loop.ts";
import { openRackData } from "./rack-data.ts";
import { readLedger } from "./records.ts";
import { openWatchers } from "./watchers.ts";

export type BrokerOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  readonly config: {
    readonly holderTtlMs: number;
    readonly graceMs: number;
    readonly maxDurationMs: number;
  };
  readonly tenant: string;
  /** `http://…`, known when the API listens. */
  readonly serverUrl: () => string;
  /** The server's secret, from which leases' tokens are made (at least 32 bytes). */
  readonly tokenKey: Uint8Array;
  /** Where the hosts' files of leases are kept. */
  readonly filesDirectory: string;
  /** Opens the broker's end of the host sessions: session/host-sessions.ts, or the simulator's. */
  readonly sessions: (handler: HostSessionsHandler) => HostSessions;
  readonly nodes: NodeSessions;
  /** For `/v1/events`; after the commit, in order. */
  readonly onEvent: (
    topic: "lease" | "testenv" | "host",
    subject: string,
    event: string,
    body: object,
  ) => void;
};

export type Broker = Awaited<ReturnType<typeof openBroker>>;

export async function openBroker(options: BrokerOptions) {
  const { store, clock, random, log } = options;
  const policy = policyOf(options.config);
  const nowMs = steadyTime(clock);
  const tokens = openLeaseTokens(options.tokenKey);
  const watchers = openWatchers(clock);
  const files = openLeaseFiles(options.filesDirectory, random);
  const sendDirect = (hostId: string, message: ToHost): boolean => sessions.send(hostId, message);
  const data = openRackData({ clock, random, send: sendDirect });
  const consoles = openConsoleRelay({ clock, random, send: sendDirect });
  const hostSide = openHostSide({
    loop: (): Loop => loop,
    sessions: (): HostSessions => sessions,
    tokens,
    data,
    consoles,
    nodes: options.nodes,
    log,
    onHostEvent: tellHostEvent,
  });
  const loop = openLoop({
    store,
    clock,
    random,
    log,
    nowMs,
    ledger: await readLedger(store, policy, nowMs()),
    troubles: options.troubles,
    act,
  });
  const sessions = options.sessions(hostSide.handler);

  /** After the commit. */
  function act(effects: readonly LedgerEffect[], ledger: Ledger): void {
    const moved = new Set<string>();
    for (const effect of effects) {
      if (effect.kind === "record") {
        if (effect.life === "lease") {
          moved.add(effect.id);
          if (effect.to !== "active") data.forget(effect.id);
        }
        tellRecord(effect, ledger);
      } else if (effect.kind === "alarm") {
        log.error({ te: effect.te, alarm: true }, effect.what);
      } else if (effect.kind === "certified") {
        if (effect.lease !== null) moved.add(effect.lease);
        options.onEvent("testenv", effect.te, "certified", effect.certificate);
      } else hostSide.tell(effect);
    }
    watchers.moved(moved);
  }

  function tellRecord(effect: LedgerEffect & { kind: "record" }, ledger: Ledger): void {
    const { id, event, from, to } = effect;
    if (effect.life === "lease") {
      const { state } = effect.body;
      const te = state.kind === "waiting" ? null : (state.grant?.te ?? null);
      const reason = "reason" in state ? state.reason : null;
      log.info({ lease: id, te, from, event, to, reason }, `lease ${to}`);
      options.onEvent("lease", id, event, leaseView(effect.body));
    } else if (effect.life === "testenv") {
      log.info({ te: id, epoch: effect.body.epoch, from, event, to }, `test environment ${to}`);
      options.onEvent("testenv", id, event, testenvView(ledger, effect.body));
    } else {
      log.info({ host: id, from, event, to }, `host ${to}`);
      const host = ledger.hosts.get(id);
      if (host) options.onEvent("host", id, event, hostView(host));
    }
  }

  /** A line of the flight recorder, under the lease it belongs to, else under its TE. */
  function tellHostEvent(te: string | null, event: HostEvent): void {
    const body = { ...event, te };
    if (event.lease !== null) options.onEvent("lease", event.lease, event.what, body);
    else if (te !== null) options.onEvent("testenv", te, event.what, body);
  }

  let stopping = false;
  const leases = openLeaseViews({
    store,
    random,
    loop,
    tokens,
    data,
    files,
    watchers,
    tenant: options.tenant,
    send: hostSide.send,
    serverUrl: options.serverUrl,
    stopping: () => stopping,
    onFile: (lease, name, bytes) => options.onEvent("lease", lease, "file", { name, bytes }),
  });
  const fleet = openFleetViews({ store, loop, consoles, files, tellHost: sendDirect });

  return {
    leases,
    fleet,
    sessions,
    /** To a host, after its welcome where its hello is being answered; false: it is away. */
    send: hostSide.send,
    /** What it has decided and recorded so far. */
    ledger: (): Ledger => loop.ledger,
    nowMs,
    /** Removes leases' files to which nothing was added since then. */
    sweepFiles: (beforeMs: number, signal: AbortSignal) => files.sweep(beforeMs, signal),
    /** To be called before the API closes its streams: nobody loses a place by our stopping. */
    beginStop(): void {
      stopping = true;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await sessions[Symbol.asyncDispose]();
      await loop[Symbol.asyncDispose]();
    },
  };
}

function policyOf(config: BrokerOptions["config"]): Policy {
  return {
    holderTtlMs: config.holderTtlMs,
    streamLossMs: limits.streamLossMs,
    takenMs: limits.takenMs,
    prepareMs: limits.prepareMs,
    avoidMs: limits.avoidMs,
    maxDurationMs: config.maxDurationMs,
    deadlineSlackMs: limits.deadlineSlackMs,
    hostSuspectMs: Math.min(limits.hostSuspectMs, config.graceMs),
    hostGraceMs: config.graceMs,
    turnMs: limits.leaseTurnMs,
    waiters: limits.waiters,
    leasesPerHolder: limits.leasesPerHolder,
  };
}

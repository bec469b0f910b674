/**
 * The broker's half of the host sessions: what hosts say becomes events of the ledger, what the
 * ledger wants done becomes messages. Certificates are checked here against the key that the
 * host showed first; TE data pass by here and stay in memory. What is of nodes and images goes
 * to the node pool.
 */
import { assertNever } from "../../base/assert.ts";
import { isoTime } from "../../base/clock.ts";
import { fail } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { verifyCertificate } from "../../model/certificate.ts";
import type { Hello, HostEvent, ToHost, Wanted } from "../../model/session.ts";
import type { Certificate, TestenvReport } from "../../model/testenv.ts";
import type { FromHost, HostSessions, HostSessionsHandler } from "../../session/session-port.ts";
import type { CheckedReport, LedgerEffect, Proof } from "../ledger/ledger-event.ts";
import { grantOf, testenvId } from "../ledger/ledger-state.ts";
import type { Host, Ledger } from "../ledger/ledger-state.ts";
import { wantedOf } from "../ledger/wanted.ts";
import type { WantedOfTestenv } from "../ledger/wanted.ts";
import type { ConsoleRelay } from "./console-relay.ts";
import type { LeaseTokens } from "./lease-tokens.ts";
import type { Loop } from "./loop.ts";
import type { RackData } from "./rack-data.ts";

/** The node pool's part of a session. */
export type NodeSessions = {
  onHello(hello: Hello): Promise<void>;
  /** Ids of the nodes that should be on this host, for the welcome. */
  expected(hello: Hello): readonly string[];
  onConnected(hostId: string): void;
  /** Messages `node-…` and `image-…`; resolving acknowledges. */
  onMessage(hostId: string, message: FromHost): Promise<void>;
  onDisconnected(hostId: string): void;
};

export type HostSideOptions = {
  readonly loop: () => Loop;
  readonly sessions: () => HostSessions;
  readonly tokens: LeaseTokens;
  readonly data: RackData;
  readonly consoles: ConsoleRelay;
  readonly nodes: NodeSessions;
  readonly log: Log;
  /** The flight recorder's lines of a lease, as they come (H-11.1). */
  readonly onHostEvent: (te: string | null, event: HostEvent) => void;
};

export function openHostSide(options: HostSideOptions) {
  const { loop, sessions, data, consoles, nodes, log } = options;
  /** Messages for a host whose hello is being answered: they follow the welcome. */
  const greeting = new Map<string, ToHost[]>();

  /** False: the host is away, and its next hello settles it. */
  const send = (hostId: string, message: ToHost): boolean => {
    const held = greeting.get(hostId);
    if (held) return held.push(message) > 0;
    const sent = sessions().send(hostId, message);
    if (!sent) log.info({ host: hostId, message: message.kind }, "host is away");
    return sent;
  };

  const handler: HostSessionsHandler = {
    async onHello(hello) {
      const { hostId } = hello;
      admit(loop().ledger.hosts, hello);
      greeting.set(hostId, []);
      try {
        const {
          kind: _kind,
          testenvs,
          nodes: _nodes,
          images: _images,
          processes,
          ...facts
        } = hello;
        const reports = testenvs.map((report) => checkReport(hello, report));
        await loop().post({ kind: "hello", facts, reports, processes });
        await nodes.onHello(hello);
      } catch (error) {
        greeting.delete(hostId);
        throw error;
      }
      const testenvs = wantedOfHost(loop().ledger, hostId, options.tokens);
      const brokerTime = isoTime(loop().nowMs());
      const expected = [...nodes.expected(hello)];
      return { kind: "welcome", brokerTime, testenvs, nodes: expected };
    },
    onConnected(hostId) {
      const held = greeting.get(hostId) ?? [];
      greeting.delete(hostId);
      for (const message of held) send(hostId, message);
      loop().insist(`presence of ${hostId}`, { kind: "host-open", hostId });
      nodes.onConnected(hostId);
    },
    async onMessage(hostId, message) {
      const host = loop().ledger.hosts.get(hostId);
      if (!host) fail("not-found", `host ${hostId} is not known`);
      await onMessage(host, message);
    },
    onDisconnected(hostId) {
      greeting.delete(hostId);
      loop().insist(`presence of ${hostId}`, { kind: "host-closed", hostId });
      consoles.onDisconnected(hostId);
      data.onDisconnected(hostId);
      nodes.onDisconnected(hostId);
    },
  };

  /** A sign of life that cannot be recorded is followed by others. */
  function quietly(posted: Promise<void>): void {
    posted.catch(() => undefined);
  }

  async function onMessage(host: Host, message: FromHost): Promise<void> {
    const hostId = host.id;
    if (message.kind !== "heartbeat") quietly(loop().post({ kind: "heard", hostId, vitals: null }));
    switch (message.kind) {
      case "heartbeat": {
        const { kind: _kind, ...vitals } = message;
        return loop().post({ kind: "heard", hostId, vitals });
      }
      case "testenv": {
        const { report } = message;
        const { lease, leaseEpoch } = report;
        const checked = checkReport(host.facts, report);
        const data = message.data && lease && leaseEpoch ? { lease, leaseEpoch } : null;
        if (data) options.data.keep(data.lease, data.leaseEpoch, message.data!);
        await loop().post({ kind: "report", hostId, report: checked });
        return data ? dropUnwanted(data.lease, Number(data.leaseEpoch)) : undefined;
      }
      case "answer":
        return data.onAnswer(message);
      case "console-data":
      case "console-end":
        return consoles.onMessage(hostId, message);
      case "event":
        return onEvent(host, message);
      case "node-ready":
      case "node-failed":
      case "node-gone":
      case "image-ready":
      case "image-failed":
      case "image-progress":
        return inTurn(hostId, () => nodes.onMessage(hostId, message));
      default:
        return assertNever(message, "host's message");
    }
  }

  /** What hosts say of nodes is taken one after another; of racks, all at once (loop.ts). */
  const turns = new Map<string, Promise<void>>();
  function inTurn(hostId: string, act: () => Promise<void>): Promise<void> {
    const done = (turns.get(hostId) ?? Promise.resolve()).then(act);
    turns.set(
      hostId,
      done.catch(() => undefined),
    );
    return done;
  }

  function dropUnwanted(lease: string, epoch: number): void {
    const found = loop().ledger.leases.get(lease);
    const wanted = found?.state.kind === "active" && grantOf(found.state)?.epoch === epoch;
    if (!wanted) data.forget(lease, String(epoch));
  }

  async function onEvent(host: Host, event: HostEvent): Promise<void> {
    const te = event.testenv === null ? null : testenvId(host.facts.name, event.testenv);
    const { interruption, lease } = event;
    if (interruption) {
      const touched =
        te === null
          ? [...loop().ledger.testenvs.values()].filter((one) => one.hostId === host.id)
          : [{ id: te }];
      const post = (id: string): Promise<void> =>
        loop().post({ kind: "interrupted", te: id, lease, interruption });
      await Promise.all(touched.map(({ id }) => post(id)));
    }
    options.onHostEvent(te, event);
  }

  /** Carries out what the ledger wants of hosts. */
  function tell(effect: LedgerEffect): void {
    if (effect.kind === "drop-session") {
      return sessions().drop(effect.hostId, "silent for too long: say hello anew");
    }
    const message = messageOf(loop().ledger, effect, options.tokens);
    if (message && "hostId" in effect) send(effect.hostId, message);
  }

  return { handler, tell, send };
}

/** lease.md §6: who says hello must be who it was, and the only one of its name. */
function admit(hosts: ReadonlyMap<string, Host>, hello: Hello): void {
  const known = hosts.get(hello.hostId);
  if (known && known.facts.certificateKey !== hello.certificateKey) {
    fail(
      "not-allowed",
      `host ${hello.name} (${hello.hostId}) shows another key than it registered`,
    );
  }
  for (const other of hosts.values()) {
    if (other.id === hello.hostId || other.facts.name !== hello.name) continue;
    if (other.state !== "lost") {
      fail("conflict", `another host ${hello.name} (${other.id}) is registered and not lost`);
    }
  }
}

/** What is wanted of all its TEs: the host compares, and does what is missing. */
function wantedOfHost(ledger: Ledger, hostId: string, tokens: LeaseTokens): Wanted[] {
  return [...ledger.testenvs.values()]
    .filter((te) => te.hostId === hostId && te.life.kind !== "removed")
    .map((te) => told(te.number, wantedOf(ledger, te), tokens));
}

function told(testenv: number, wanted: WantedOfTestenv, tokens: LeaseTokens): Wanted {
  const { draining, lease, ended } = wanted;
  return {
    testenv,
    epoch: String(wanted.epoch),
    draining,
    lease: lease && {
      id: lease.record.id,
      epoch: String(lease.epoch),
      durationMs: lease.record.durationMs,
      needs: {
        machines: lease.record.request.machines.count,
        compat: lease.record.request.compat ?? null,
      },
      holderName: lease.record.request.holder.name,
      holderAddresses: [...lease.record.addresses],
      tokenHash: tokens.hashOf(lease.record.id),
    },
    ended: ended && { ...ended, epoch: String(ended.epoch) },
  };
}

function checkReport(
  host: Pick<Hello, "name" | "hostId" | "certificateKey">,
  report: TestenvReport,
): CheckedReport {
  const epoch = Number(report.epoch);
  return { report, proof: checkProof(host, report.number, epoch, report.certificate) };
}

/** L5: signed by this host's key, for this TE, of this epoch. */
export function checkProof(
  host: Pick<Hello, "name" | "hostId" | "certificateKey">,
  number: number,
  epoch: number,
  certificate: Certificate | null,
): Proof {
  const bad = (why: string): Proof => ({ kind: "bad", why });
  if (!certificate) return bad("there is none");
  if (certificate.host !== host.name && certificate.host !== host.hostId) {
    return bad(`it is of host ${certificate.host}`);
  }
  if (certificate.te !== number) return bad(`it is of TE ${certificate.te}`);
  if (certificate.epoch !== epoch) return bad(`it is of epoch ${certificate.epoch}, not ${epoch}`);
  if (!verifyCertificate(certificate, host.certificateKey)) return bad("its signature is wrong");
  return { kind: "valid" };
}

function messageOf(ledger: Ledger, effect: LedgerEffect, tokens: LeaseTokens): ToHost | undefined {
  switch (effect.kind) {
    case "prepare":
    case "drain":
    case "wanted":
    case "end": {
      const { hostId, number } = effect;
      const name = ledger.hosts.get(hostId)?.facts.name ?? "";
      const te = ledger.testenvs.get(testenvId(name, number));
      if (!te) return undefined;
      const over = effect.kind === "end" ? effect : null;
      const ended = over && { lease: over.lease, epoch: over.epoch, reason: over.reason };
      return { kind: "wanted", wanted: told(number, wantedOf(ledger, te, ended), tokens) };
    }
    case "taken": {
      const { number: testenv, lease } = effect;
      return { kind: "taken", testenv, lease, epoch: String(effect.epoch) };
    }
    case "record":
    case "certified":
    case "alarm":
    case "drop-session":
      return undefined;
    default:
      return assertNever(effect, "effect");
  }
}

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
import type { Hello, HostEvent, ToHost } from "../../model/session.ts";
import type { Certificate, TestenvReport } from "../../model/testenv.ts";
import type { FromHost, HostSessions, HostSessionsHandler } from "../../session/session-port.ts";
import type { CheckedReport, LedgerEffect, Proof } from "../ledger/ledger-event.ts";
import { grantOf, testenvId } from "../ledger/ledger-state.ts";
import type { Host } from "../ledger/ledger-state.ts";
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

  const send = (hostId: string, message: ToHost): void => {
    const held = greeting.get(hostId);
    if (held) held.push(message);
    else if (!sessions().send(hostId, message)) {
      log.info({ host: hostId, message: message.kind }, "host is away: its next hello settles it");
    }
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
      return { ...believed(loop(), hello), nodes: [...nodes.expected(hello)] };
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
    const te = "testenv" in message ? testenvId(host.facts.name, message.testenv ?? 0) : "";
    if (message.kind !== "heartbeat") quietly(loop().post({ kind: "heard", hostId, vitals: null }));
    switch (message.kind) {
      case "heartbeat": {
        const { kind: _kind, ...vitals } = message;
        return loop().post({ kind: "heard", hostId, vitals });
      }
      case "prepared": {
        const { lease, deadlineAt: expiresAt } = message;
        const epoch = Number(message.epoch);
        data.keep(lease, message.epoch, message.data);
        await loop().post({ kind: "prepared", te, lease, epoch, expiresAt });
        return dropUnwanted(lease, epoch);
      }
      case "epoch-too-low": {
        const [epoch, highest] = [Number(message.offered), Number(message.highest)];
        return loop().post({ kind: "epoch-too-low", te, lease: message.lease, epoch, highest });
      }
      case "resetting": {
        const { lease, reason, endedAt } = message;
        return loop().post({
          kind: "resetting",
          te,
          lease,
          epoch: Number(message.epoch),
          reason,
          endedAt,
        });
      }
      case "ready": {
        const { certificate, testenv } = message;
        const epoch = Number(message.epoch);
        const proof = checkProof(host.facts, testenv, epoch, certificate);
        return loop().post({ kind: "proved", te, epoch, certificate, proof });
      }
      case "faulty": {
        const { lease, detail } = message;
        return loop().post({ kind: "faulty", te, lease, epoch: Number(message.epoch), detail });
      }
      case "testenv": {
        const report = checkReport(host.facts, message.report);
        return loop().post({ kind: "report", hostId, report });
      }
      case "testenv-removed":
        return loop().post({ kind: "te-removed", te });
      case "extended": {
        const { lease, deadlineAt: expiresAt } = message;
        const epoch = Number(message.epoch);
        return loop().post({ kind: "extended", te, lease, epoch, expiresAt });
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
        return nodes.onMessage(hostId, message);
      default:
        return assertNever(message, "host's message");
    }
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
    const message = messageOf(effect, options.tokens);
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

/** What the broker believes; the host compares, and the higher epoch wins. */
function believed(loop: Loop, hello: Hello) {
  const testenvs = [...loop.ledger.testenvs.values()]
    .filter((te) => te.hostId === hello.hostId && te.life.kind !== "removed")
    .map((te) => ({
      number: te.number,
      state: te.life.kind === "removed" ? ("offline" as const) : te.life.kind,
      epoch: String(te.epoch),
      lease: "lease" in te.life ? te.life.lease : null,
    }));
  return { kind: "welcome" as const, brokerTime: isoTime(loop.nowMs()), testenvs };
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

function messageOf(effect: LedgerEffect, tokens: LeaseTokens): ToHost | undefined {
  switch (effect.kind) {
    case "prepare": {
      const { lease } = effect;
      return {
        kind: "prepare",
        testenv: effect.number,
        lease: lease.id,
        epoch: String(effect.epoch),
        durationMs: lease.durationMs,
        needs: { machines: lease.request.machines.count, compat: lease.request.compat ?? null },
        holderName: lease.request.holder.name,
        holderAddresses: [...lease.addresses],
        tokenHash: tokens.hashOf(lease.id),
      };
    }
    case "taken":
    case "end": {
      const { number: testenv, lease, reason } = effect;
      const epoch = String(effect.epoch);
      return effect.kind === "end"
        ? { kind: "end", testenv, lease, epoch, reason }
        : { kind: "taken", testenv, lease, epoch };
    }
    case "reset":
      return { kind: "reset", testenv: effect.number };
    case "drain":
      return { kind: "drain", testenv: effect.number, on: effect.on };
    case "record":
    case "certified":
    case "alarm":
    case "drop-session":
      return undefined;
    default:
      return assertNever(effect, "effect");
  }
}

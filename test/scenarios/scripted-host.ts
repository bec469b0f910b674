/**
 * A TE host for tests: it keeps epochs, makes TE data, fences, resets and signs as the real one
 * does (te-host.md H-1.14, section 8), on nothing but memory. It can be told to hold back, to
 * die and to come again with what it had recorded.
 */
import { createHash, generateKeyPairSync } from "node:crypto";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { systemRandom } from "../../src/base/random.ts";
import { signCertificate } from "../../src/model/certificate.ts";
import type { EndReason } from "../../src/model/lease.ts";
import type { Hello, ToHost, Wanted } from "../../src/model/session.ts";
import type { Certificate, TestenvData, TestenvReport } from "../../src/model/testenv.ts";
import { dialBroker } from "../../src/session/broker-session.ts";
import type { BrokerSession, FromHost } from "../../src/session/session-port.ts";
import { sampleHello, sampleReport } from "../samples/hosts.ts";

type Rack = {
  readonly number: number;
  state: "ready" | "leased" | "resetting";
  epoch: number;
  lease: string | null;
  tokenHash: string;
  deadlineMs: number;
  draining: boolean;
  ended: TestenvReport["ended"];
  certificate: Certificate;
};

/** What a test may hold back: offers by `prepare`, other wants by `end`. */
function nameOf(message: ToHost): string {
  if (message.kind !== "wanted") return message.kind;
  return message.wanted.lease ? "prepare" : "end";
}

export type ScriptedHost = ReturnType<typeof openScriptedHost>;

export function openScriptedHost(options: {
  readonly url: string;
  readonly name?: string;
  readonly id?: string;
  readonly racks?: number;
  readonly machines?: number;
  readonly labels?: readonly string[];
}) {
  const { name = "here", id = "7f3a01c2-0000-4000-8000-000000000001" } = options;
  const keys = generateKeyPairSync("ed25519");
  let sessionNumber = 0;
  let session: BrokerSession | undefined;
  /** Kinds of messages that are not answered for now. */
  const held = new Set<string>();
  const heard: ToHost[] = [];
  const parked: ToHost[] = [];

  const prove = (number: number, epoch: number, lease: string | null): Certificate =>
    signCertificate(
      {
        schema: "reset/1" as const,
        host: name,
        te: number,
        epoch,
        lease,
        reason: "released",
        began: new Date().toISOString(),
        ended: new Date().toISOString(),
        durationMs: 1,
      },
      keys.privateKey,
    );
  const racks: Rack[] = Array.from({ length: options.racks ?? 1 }, (_, index) => ({
    number: index + 1,
    state: "ready",
    epoch: 0,
    lease: null,
    tokenHash: "",
    deadlineMs: 0,
    draining: false,
    ended: null,
    certificate: prove(index + 1, 0, null),
  }));

  const say = (message: FromHost): void => session?.send(message);

  const reportOf = (rack: Rack): TestenvReport =>
    sampleReport({
      number: rack.number,
      labels: [...(options.labels ?? [])],
      state: rack.state,
      epoch: String(rack.epoch),
      draining: rack.draining,
      lease: rack.lease,
      leaseEpoch: rack.lease === null ? null : String(rack.epoch),
      deadlineAt: rack.state === "leased" ? new Date(rack.deadlineMs).toISOString() : null,
      ended: rack.ended,
      machines: { count: options.machines ?? 2, memoryMiB: 256, cpus: 1, diskGiB: 4 },
      machineList: [
        {
          name: `te${rack.number}-n0`,
          domain: `baremetalbrbm${rack.number}_0`,
          uuid: "7f3a01c2-0000-4000-8000-00000000000a",
          macs: [],
          power: "off",
        },
      ],
      seedIp: `10.99.0.${10 + rack.number}`,
      certificate: rack.state === "ready" ? rack.certificate : null,
    });
  const report = (rack: Rack, data: TestenvData | null = null): void =>
    say({ kind: "testenv", report: reportOf(rack), data });

  const dataOf = (rack: Rack): TestenvData => ({
    "env-num": String(rack.number),
    "host-ip": "10.99.0.1",
    "seed-ip": `10.99.0.${10 + rack.number}`,
    "ssh-user": `te${rack.number}`,
    "ssh-key": `-----BEGIN TEST KEY-----\nepoch ${rack.epoch}\n-----END TEST KEY-----\n`,
    "ssh-host-key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5vdCBhIGtleSBvZiBhbnlib2R5IGF0IGFsbA",
    nodes: [{ mac: ["00:0b:d0:69:7e:59"], memory: "256" }],
  });

  const hello = (): Hello =>
    sampleHello({
      hostId: id,
      name,
      sessionNumber,
      capacity: { memoryMiB: 4096, cpus: 2, diskGiB: 40 },
      certificateKey: keys.publicKey.export({ type: "spki", format: "pem" }).toString(),
      testenvs: racks.map(reportOf),
      processes: [{ name: "libvirtd", pid: 4711 }],
    });

  function fence(rack: Rack, reason: EndReason): void {
    rack.state = "resetting";
    rack.ended = { reason, fencedAt: new Date().toISOString() };
    report(rack);
    if (!held.has("reset")) finishReset(rack);
  }

  function finishReset(rack: Rack): void {
    if (rack.state !== "resetting") return;
    rack.certificate = prove(rack.number, rack.epoch, rack.lease);
    Object.assign(rack, { state: "ready", lease: null, ended: null });
    report(rack);
  }

  function act(message: ToHost): void {
    heard.push(message);
    // in order: what follows a message that is held back waits behind it
    if (parked.length > 0 || held.has(nameOf(message))) return void parked.push(message);
    perform(message);
  }

  /** Compares what is wanted with what is there, as te-host's orders.ts does. */
  function want({ testenv, epoch, draining, lease, ended }: Wanted): void {
    const rack = racks[testenv - 1];
    if (!rack) return;
    if (draining !== rack.draining) {
      rack.draining = draining;
      report(rack);
    }
    if (Number(epoch) > rack.epoch) {
      rack.epoch = Number(epoch);
      fence(rack, "te-lost");
    }
    if (lease && (rack.lease !== lease.id || String(rack.epoch) !== lease.epoch)) {
      if (Number(lease.epoch) <= rack.epoch || rack.state !== "ready") {
        rack.epoch = Math.max(rack.epoch, Number(lease.epoch));
        return report(rack);
      }
      const deadlineMs = Date.now() + lease.durationMs + 5_000;
      const { tokenHash, id: of } = lease;
      const leased = { epoch: Number(lease.epoch), lease: of, state: "leased" as const };
      Object.assign(rack, { ...leased, tokenHash, deadlineMs });
      report(rack, dataOf(rack));
    } else if (!lease && rack.state === "leased") {
      fence(rack, ended?.lease === rack.lease ? ended.reason : "revoked");
    }
  }

  function perform(message: ToHost): void {
    if (message.kind === "wanted") return want(message.wanted);
    const rack = "testenv" in message ? racks[message.testenv - 1] : undefined;
    if (message.kind === "reset" && rack) return fence(rack, "released");
    if (message.kind === "testenv-data" && rack) {
      const known = rack.lease === message.lease && String(rack.epoch) === message.epoch;
      const { request } = message;
      const data = known ? dataOf(rack) : null;
      say({ kind: "answer", request, data, code: known ? null : "stale-epoch", detail: null });
    } else if (message.kind === "extend" && rack?.lease === message.lease) {
      rack.deadlineMs += message.durationMs;
      report(rack);
    } else if (message.kind === "console-open") {
      const text = Buffer.from("line one\nline two\n").subarray(message.fromByte);
      const { stream, fromByte: offset } = message;
      say({ kind: "console-data", stream, offset, dataBase64: text.toString("base64") });
    }
  }

  return {
    id,
    name,
    racks,
    heard,
    held,
    say,
    /** Says of the rack what the test made of it. */
    report: (number: number) => report(racks[number - 1]!),
    /** It lived through so many leases, of which this broker knows nothing. */
    raise(number: number, epoch: number): void {
      const rack = racks[number - 1]!;
      Object.assign(rack, { epoch, certificate: prove(number, epoch, null) });
    },
    /** Three resets of this rack failed. */
    quarantine(number: number): void {
      const rack = racks[number - 1]!;
      Object.assign(rack, { state: "quarantined", certificate: null });
      report(rack);
    },
    /** What was wanted of its racks, in its order. */
    wanted: () => heard.flatMap((message) => (message.kind === "wanted" ? [message.wanted] : [])),
    get connected() {
      return session?.connected ?? false;
    },
    /** Dials; what was recorded is as it was. */
    start(): void {
      session ??= dialBroker({
        url: options.url,
        log: silentLog,
        clock: systemClock,
        random: systemRandom,
        handler: {
          hello: () => Promise.resolve(hello()),
          nextSessionNumber: () => Promise.resolve(++sessionNumber),
          onWelcome(welcome) {
            for (const wanted of welcome.testenvs) act({ kind: "wanted", wanted });
            return Promise.resolve();
          },
          onMessage(message) {
            act(message);
            return Promise.resolve();
          },
        },
      });
    },
    /** As kill -9 does: what was not sent is gone. */
    async die(): Promise<void> {
      await session?.[Symbol.asyncDispose]();
      session = undefined;
    },
    /** Answers again, and what was held back first. */
    resume(kind: string): void {
      held.delete(kind);
      for (const message of parked.splice(0)) perform(message);
      if (kind === "reset") racks.forEach(finishReset);
    },
    /** Ends a lease by itself (L7). */
    endAlone(number: number, reason: EndReason): void {
      fence(racks[number - 1]!, reason);
    },
    knowsToken(number: number, token: string): boolean {
      return racks[number - 1]!.tokenHash === createHash("sha256").update(token).digest("hex");
    },
  };
}

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
import type { Hello, ToHost } from "../../src/model/session.ts";
import type { Certificate, TestenvData, TestenvReport } from "../../src/model/testenv.ts";
import { dialBroker } from "../../src/session/broker-session.ts";
import type { BrokerSession, FromHost } from "../../src/session/session-port.ts";
import { sampleHello } from "../samples/hosts.ts";

type Rack = {
  readonly number: number;
  state: "ready" | "leased" | "resetting";
  epoch: number;
  lease: string | null;
  tokenHash: string;
  deadlineMs: number;
  certificate: Certificate;
};

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
    certificate: prove(index + 1, 0, null),
  }));

  const say = (message: FromHost): void => session?.send(message);

  const reportOf = (rack: Rack): TestenvReport => ({
    number: rack.number,
    kind: "two",
    labels: [...(options.labels ?? [])],
    state: rack.state,
    epoch: String(rack.epoch),
    lease: rack.lease,
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
    detail: null,
  });

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
    const { number: testenv, lease } = rack;
    const epoch = String(rack.epoch);
    say({ kind: "resetting", testenv, lease, epoch, reason, endedAt: new Date().toISOString() });
    if (!held.has("reset")) finishReset(rack);
  }

  function finishReset(rack: Rack): void {
    if (rack.state !== "resetting") return;
    rack.certificate = prove(rack.number, rack.epoch, rack.lease);
    Object.assign(rack, { state: "ready", lease: null });
    const { number: testenv, certificate } = rack;
    say({ kind: "ready", testenv, epoch: String(rack.epoch), certificate });
  }

  function act(message: ToHost): void {
    heard.push(message);
    // in order: what follows a message that is held back waits behind it
    if (parked.length > 0 || held.has(message.kind)) return void parked.push(message);
    perform(message);
  }

  function perform(message: ToHost): void {
    const rack = "testenv" in message ? racks[(message.testenv ?? 0) - 1] : undefined;
    if (message.kind === "prepare" && rack) {
      const { testenv, lease } = message;
      const epoch = Number(message.epoch);
      if (epoch <= rack.epoch) {
        const [offered, highest] = [message.epoch, String(rack.epoch)];
        return say({ kind: "epoch-too-low", testenv, lease, offered, highest });
      }
      const deadlineMs = Date.now() + message.durationMs + 5_000;
      const { tokenHash } = message;
      Object.assign(rack, { epoch, lease, state: "leased", tokenHash, deadlineMs });
      const deadlineAt = new Date(deadlineMs).toISOString();
      say({
        kind: "prepared",
        testenv,
        lease,
        epoch: message.epoch,
        deadlineAt,
        data: dataOf(rack),
      });
    } else if (message.kind === "end" && rack?.lease === message.lease) {
      if (rack.state === "leased") fence(rack, message.reason);
    } else if (message.kind === "testenv-data" && rack) {
      const known = rack.lease === message.lease && String(rack.epoch) === message.epoch;
      const { request } = message;
      const data = known ? dataOf(rack) : null;
      say({ kind: "answer", request, data, code: known ? null : "stale-epoch", detail: null });
    } else if (message.kind === "extend" && rack?.lease === message.lease) {
      rack.deadlineMs += message.durationMs;
      const { testenv, lease, epoch } = message;
      const deadlineAt = new Date(rack.deadlineMs).toISOString();
      say({ kind: "extended", testenv, lease, epoch, deadlineAt });
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
          onWelcome: () => Promise.resolve(),
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

/**
 * A server that leases racks and nothing else: real store, broker, sessions and HTTP API on a
 * socket file and a loopback port. It can be killed (its store is read by the next one, as after
 * kill -9: nothing is flushed or said on the way out).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openApi } from "../../src/api/server.ts";
import type { Views } from "../../src/api/views.ts";
import { systemClock } from "../../src/base/clock.ts";
import type { Endpoint } from "../../src/base/http-client.ts";
import { silentLog } from "../../src/base/log.ts";
import { openTroubles } from "../../src/base/troubles.ts";
import { systemRandom } from "../../src/base/random.ts";
import { openBroker } from "../../src/lease/broker/broker.ts";
import type { BrokerOptions } from "../../src/lease/broker/broker.ts";
import { openAnswerStore } from "../../src/main/answer-store.ts";
import type { Caller } from "../../src/model/identity.ts";
import { openHostSessions } from "../../src/session/host-sessions.ts";
import { openSqliteStore } from "../../src/store/store.ts";
import type { Store } from "../../src/store/store.ts";

export type Happened = { topic: string; subject: string; event: string; body: object };
export type LeaseServer = Awaited<ReturnType<typeof openLeaseServer>>;

export const callers: Record<string, Caller> = {
  ry_holder: { name: "someone", role: "holder", groups: [] },
  ry_reader: { name: "looker", role: "reader", groups: [] },
  ry_operator: { name: "boss", role: "operator", groups: [] },
};

export async function makeLeaseDirectory() {
  const path = await mkdtemp(join(tmpdir(), "rackyard-lease-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Opens the server on a directory; the second one on the same directory finds what was there. */
export async function openLeaseServer(
  directory: string,
  config: Partial<BrokerOptions["config"]> = {},
  wrap: (store: Store) => Store = (store) => store,
) {
  const real = await openSqliteStore(join(directory, "rackyard.db"));
  const store = wrap(real);
  const happened: Happened[] = [];
  const broker = await openBroker({
    store,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    troubles: openTroubles({ log: silentLog, wallMs: () => systemClock.wallMs() }),
    config: { holderTtlMs: 30_000, graceMs: 60_000, maxDurationMs: 4 * 3600_000, ...config },
    tenant: "default",
    serverUrl: () => "http://server.example",
    tokenKey: Buffer.alloc(32, 7),
    filesDirectory: join(directory, "files"),
    sessions: (handler) =>
      openHostSessions({ handler, log: silentLog, clock: systemClock, authorise: () => true }),
    nodes: {
      onHello: () => Promise.resolve(),
      expected: () => [],
      onConnected: () => undefined,
      onMessage: () => Promise.resolve(),
      onDisconnected: () => undefined,
    },
    onEvent: (topic, subject, event, body) => happened.push({ topic, subject, event, body }),
  });
  const socketPath = join(directory, "api.sock");
  const admin = { authenticate: (token: string) => Promise.resolve(callers[token]) };
  const views = {
    leases: broker.leases,
    fleet: broker.fleet,
    admin,
    raw: {
      git: () => Promise.resolve(),
      logs: () => Promise.resolve(),
      hostSession: (request, socket, head) => broker.sessions.accept(request, socket, head),
    },
    changes: {},
    builds: {},
    events: {},
  } as Pick<Views, "leases" | "fleet" | "raw"> & object as Views;
  const api = await openApi({
    views,
    answers: openAnswerStore(store, systemClock),
    log: silentLog,
    version: "0",
    listen: ["127.0.0.1:0"],
    socketPath,
    anonymousRead: true,
    hostNames: [],
    insecure: false,
  });
  const endpoint: Endpoint = { url: api.urls[0]!, token: "ry_holder" };
  return {
    store,
    broker,
    happened,
    socketPath,
    endpoint,
    hostUrl: `unix:${socketPath}`,
    /** Its sockets go, and nothing else is done or waited for: as when the process is killed. */
    async die(): Promise<void> {
      await Promise.all([broker.sessions[Symbol.asyncDispose](), api.close()]);
    },
    async close(): Promise<void> {
      await broker.sessions[Symbol.asyncDispose]();
      await api.close();
      await broker[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

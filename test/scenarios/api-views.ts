/**
 * Views of an imaginary yard, held in memory: what the API's tests stand on. One change, one
 * build, one rack, one node; a lease per request. Records what it was called with.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { writeFileSync } from "node:fs";
import type { Duplex } from "node:stream";
import { fail } from "../../src/base/errors.ts";
import type { Views, ApiEvent } from "../../src/api/views.ts";
import type { BuildView } from "../../src/model/build.ts";
import type { ChangeView } from "../../src/model/change.ts";
import type { Caller } from "../../src/model/identity.ts";
import type { LeaseView } from "../../src/model/lease.ts";
import type { NodeView } from "../../src/model/node.ts";
import type { Certificate, HostView, TestenvView } from "../../src/model/testenv.ts";

export const ids = {
  build: "11111111-1111-4111-8111-111111111111",
  buildset: "22222222-2222-4222-8222-222222222222",
  node: "33333333-3333-4333-8333-333333333333",
  host: "44444444-4444-4444-8444-444444444444",
  lease: "55555555-5555-4555-8555-555555555555",
  nothing: "99999999-9999-4999-8999-999999999999",
} as const;
const at = "2030-01-02T03:04:05.000Z";

export const callers: Readonly<Record<string, Caller>> = {
  ry_reader: { name: "rita", role: "reader", groups: [] },
  ry_holder: { name: "holly", role: "holder", groups: ["metal"] },
  ry_developer: { name: "dora", role: "developer", groups: [] },
  ry_operator: { name: "otto", role: "operator", groups: [] },
  ry_admin: { name: "ada", role: "admin", groups: [] },
};

export const build: BuildView = {
  id: ids.build,
  buildset: ids.buildset,
  tenant: "local",
  change: 1,
  patchset: 2,
  project: "p",
  branch: "master",
  pipeline: "check",
  job: "deploy",
  state: "reported",
  result: "FAILURE",
  attempt: 1,
  maxAttempts: 3,
  voting: true,
  createdAt: at,
  startedAt: at,
  endedAt: at,
  node: ids.node,
  nodeAddress: "10.99.0.180",
  lease: ids.lease,
  te: "here:1",
  epoch: "7",
  logsPath: "01/1/2/check/deploy/1111111",
  logsUrl: "/logs/01/1/2/check/deploy/1111111/",
  interruptions: [],
  errorDetail: null,
  evidence: [{ file: "rack/console-te1-n0.log", line: 2, text: "Kernel panic", rule: "panic" }],
  pids: { ssh: [] },
};
const change: ChangeView = {
  number: 1,
  project: "p",
  branch: "master",
  changeId: "I0123456789012345678901234567890123456789",
  status: "NEW",
  patchset: 2,
  subject: "Boot faster",
  owner: "dora",
  url: "http://127.0.0.1/changes/1",
  votes: [],
  comments: [],
  patchsets: [],
  dependsOn: [],
  builds: [ids.build],
};
const testenv: TestenvView = {
  id: "here:1",
  host: "here",
  number: 1,
  kind: "two",
  labels: [],
  state: "ready",
  draining: false,
  epoch: "7",
  lease: null,
  seedIp: "10.99.0.11",
  machines: { count: 2, memoryMiB: 256, cpus: 1, diskGiB: 4 },
  machineList: [],
  detail: null,
};
const host: HostView = {
  id: ids.host,
  name: "here",
  state: "connected",
  version: "0.1.0",
  labels: [],
  accelerator: "tcg",
  lastSeenAt: at,
  load: 0.5,
  freeMemoryMiB: 1024,
  health: "ok",
  problems: [],
  testNetwork: null,
  ssh: null,
  ca: null,
  certificateKey: "",
  cell: null,
  libvirt: null,
  processes: [],
};
const node: NodeView = {
  id: ids.node,
  label: "worker",
  provider: "here",
  state: "ready",
  address: "10.99.0.180",
  hostKey: null,
  image: null,
  build: null,
  attempt: 1,
  createdAt: at,
  readyAt: at,
  detail: null,
};
const certificate: Certificate = {
  schema: "reset/1",
  host: ids.host,
  te: 1,
  epoch: 7,
  lease: ids.lease,
  reason: "released",
  began: at,
  ended: at,
  durationMs: 900,
  signature: "c2ln",
};
const waiting: LeaseView = {
  id: ids.lease,
  tenant: "local",
  state: "waiting",
  holder: { name: "me" },
  group: "default",
  priority: "normal",
  createdAt: at,
  place: 1,
  why: [{ code: "all-held", text: "here:1 is held by deploy until 03:14", te: "here:1" }],
  testenvs: [],
  interruptions: [],
};

export type Memory = {
  readonly views: Views;
  readonly called: string[];
  lease: LeaseView;
  leaseChanged(next: LeaseView): void;
  /** How many streams are open now. */
  open: number;
  emit(event: ApiEvent): void;
};

/** One value now, and each that `push` brings, until the signal aborts. */
function source<T>(memory: { open: number }): {
  push(value: T): void;
  iterate(first: readonly T[], signal: AbortSignal): AsyncGenerator<T>;
} {
  const readers = new Set<(value: T) => void>();
  return {
    push: (value) => readers.forEach((reader) => reader(value)),
    async *iterate(first, signal) {
      const queue = [...first];
      let wake = (): void => undefined;
      const reader = (value: T): void => {
        queue.push(value);
        wake();
      };
      const stop = (): void => wake();
      readers.add(reader);
      signal.addEventListener("abort", stop);
      memory.open++;
      try {
        while (!signal.aborted) {
          const next = queue.shift();
          if (next !== undefined) yield next;
          else
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
        }
      } finally {
        memory.open--;
        readers.delete(reader);
        signal.removeEventListener("abort", stop);
      }
    },
  };
}

export function memoryViews(directory: string): Memory {
  const called: string[] = [];
  const memory: Memory = {
    called,
    lease: waiting,
    open: 0,
    leaseChanged(next) {
      memory.lease = next;
      leases.push(next);
    },
    emit: (event) => events.push(event),
    get views() {
      return views;
    },
  };
  const leases = source<LeaseView>(memory);
  const events = source<ApiEvent>(memory);
  const one = <T>(id: string, wanted: string, value: T): Promise<T> =>
    id === wanted ? Promise.resolve(value) : Promise.reject(missing(id));
  const holder = (id: string, token: string): Promise<LeaseView> => {
    if (token === "ryl_old") fail("stale-epoch", "this lease is over");
    if (token !== "ryl_good") fail("bad-token", "not this lease's token");
    return one(id, ids.lease, memory.lease);
  };
  const views: Views = {
    leases: {
      whole: (text) => Promise.resolve(ids.lease.startsWith(text) ? ids.lease : text),
      ask: (request, caller) => {
        called.push(`ask ${caller.name} ${request.holder.name}`);
        if (request.machines.count > 5) fail("unsatisfiable", "no TE has that many machines");
        return Promise.resolve({ ...memory.lease, token: `ryl_${called.length}` });
      },
      patch: (id, _patch, token) => holder(id, token),
      get: (id, token) =>
        token === undefined ? one(id, ids.lease, memory.lease) : holder(id, token),
      watch: (_id, _token, signal) => leases.iterate([memory.lease], signal),
      data: async (id, token) => {
        await holder(id, token);
        return {
          "env-num": "1",
          "host-ip": "10.99.0.1",
          "seed-ip": "10.99.0.11",
          "ssh-user": "te1",
          "ssh-key": "secret",
          nodes: [],
        };
      },
      renew: holder,
      extend: (id, _seconds, token) => holder(id, token),
      release: holder,
      revoke: (id, by) => {
        called.push(`revoke ${by.name}`);
        return one(id, ids.lease, memory.lease);
      },
      list: () => Promise.resolve({ items: [memory.lease], next: null }),
      certificate: (id) => one(id, ids.lease, certificate),
      files: (id) => one(id, ids.lease, [{ name: "console-te1-n0.log", bytes: 3 }]),
      filePath: async (id, name) => {
        await one(id, ids.lease, undefined);
        const path = `${directory}/${name}`;
        writeFileSync(path, "<b>hi</b>");
        return path;
      },
      storeFile: async (_id, { name }, body) => {
        let bytes = 0;
        for await (const chunk of body as AsyncIterable<Buffer>) bytes += chunk.length;
        called.push(`store ${name} ${bytes}`);
      },
    },
    fleet: {
      testenvs: () => Promise.resolve([testenv]),
      testenv: (id) => one(id, "here:1", testenv),
      certificate: (id) => one(id, "here:1", certificate),
      drain: (id, on) => one(id, "here:1", { ...testenv, draining: on }),
      reset: (id) => one(id, "here:1", testenv),
      hosts: () => Promise.resolve([host]),
      console: async function* (_id, _machine, from, follow, signal) {
        yield Buffer.from("boot: ok\n").subarray(from);
        if (follow) yield* quiet(signal);
      },
    },
    changes: {
      list() {
        const { comments: _own, ...listed } = change;
        return Promise.resolve({ items: [listed], next: "c2" });
      },
      get: (number) => one(String(number), "1", change),
      comment: (number, message, by) => {
        called.push(`comment ${by.name} ${message}`);
        return one(String(number), "1", change);
      },
      vote: (number) => one(String(number), "1", change),
      abandon: (number) => one(String(number), "1", change),
      restore: (number) => one(String(number), "1", change),
    },
    builds: {
      list: () => Promise.resolve({ items: [build], next: null }),
      whole: (text) => Promise.resolve(ids.build.startsWith(text) ? ids.build : text),
      get: (id) => one(id, ids.build, build),
      timeline: () => Promise.resolve([{ at, step: "pushed", atMs: 0, durationMs: 5 }]),
      async *console(_id, after, signal, follow) {
        for (let seq = after + 1; seq <= 3; seq++) yield { seq, line: `${at} line ${seq}` };
        if (follow) yield* quiet(signal);
      },
      cancel: (id) => one(id, ids.build, build),
      files: () => Promise.resolve([{ path: "console.log", bytes: 12 }]),
      nodes: () => Promise.resolve([node]),
      images: () => Promise.resolve([]),
      pipelines: () => Promise.resolve([{ name: "check", manager: "independent", items: [] }]),
    },
    admin: {
      authenticate: (token) => Promise.resolve(callers[token]),
      createToken: (request) => {
        called.push(`token ${request.name}`);
        return Promise.resolve({
          id: ids.nothing,
          name: request.name,
          role: request.role,
          groups: [...request.groups],
          createdAt: at,
          expiresAt: null,
          token: `ry_new${called.length}`,
        });
      },
      tokens: () => Promise.resolve([]),
      revokeToken: (id) => one(id, ids.nothing, undefined),
      reload: () => Promise.resolve({ layout: "layout", projects: 1, jobs: 1 }),
      status: () => Promise.resolve({ event: "ready" }),
      ready: () => Promise.resolve({ ok: false, problems: ["the store does not answer"] }),
      metrics: () => Promise.resolve("rackyard_up 1\n"),
    },
    events: {
      newest: () => Promise.resolve(8),
      async *watch(topics, after, signal) {
        if (after !== undefined && after < 5) yield { resync: true, id: 5 };
        for await (const event of events.iterate([], signal)) {
          if (topics.length === 0 || topics.includes(event.topic)) yield event;
        }
      },
    },
    raw: {
      git: (_request: IncomingMessage, response: ServerResponse, caller) => {
        called.push(`git ${caller?.name}`);
        response.end("git");
        return Promise.resolve();
      },
      logs: (_request, response) => {
        response.end("log");
        return Promise.resolve();
      },
      hostSession: (_request: IncomingMessage, socket: Duplex) => {
        called.push("session");
        socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n");
      },
    },
  };
  return memory;
}

// oxlint-disable-next-line require-yield -- a source that only ends
async function* quiet(signal: AbortSignal): AsyncGenerator<never> {
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

function missing(id: string): Error {
  try {
    return fail("not-found", `there is no ${id}`);
  } catch (error) {
    return error as Error;
  }
}

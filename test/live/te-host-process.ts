/**
 * A test's TE host: the real program in a cell of its own state directory, and a broker's end of
 * its session that the test plays by hand: it hears all messages, sends what it likes, and takes
 * the files that come home.
 */
import { createServer } from "node:http";
import type { Server } from "node:http";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { launch, plainEnv } from "../../src/base/command.ts";
import type { Child } from "../../src/base/command.ts";
import { readText } from "../../src/base/http-client.ts";
import { logTo } from "../../src/base/log.ts";
import { until } from "../../src/base/wait.ts";
import { endCell } from "../../src/hypervisor/cell-end.ts";
import type { Hello, ToBroker, ToHost, Wanted } from "../../src/model/session.ts";
import type { TestenvReport } from "../../src/model/testenv.ts";
import { openHostSessions } from "../../src/session/host-sessions.ts";
import type { FromHost, HostSessions } from "../../src/session/session-port.ts";

export type PlayedBroker = AsyncDisposable & {
  readonly hello: Hello | undefined;
  readonly messages: FromHost[];
  /** Files brought home, `lease/name`. */
  readonly files: Map<string, string>;
  send(message: ToHost): void;
  /** Waits for the first TE to be told of in this state. */
  reported(
    state: TestenvReport["state"],
    fits?: (report: TestenvReport) => boolean,
    timeoutMs?: number,
  ): Promise<Extract<FromHost, { kind: "testenv" }>>;
  /** Waits for a message of this kind that fits, from `after` on; gives it. */
  heard<K extends ToBroker["kind"]>(
    kind: K,
    fits?: (message: Extract<FromHost, { kind: K }>) => boolean,
    timeoutMs?: number,
  ): Promise<Extract<FromHost, { kind: K }>>;
  /** Messages before this point no longer count for `heard`. */
  forget(): void;
};

/** `wanted`: what every welcome says. */
export async function playBroker(
  socket: string,
  wanted: readonly Wanted[] = [],
): Promise<PlayedBroker> {
  const messages: FromHost[] = [];
  const files = new Map<string, string>();
  let from = 0;
  let hello: Hello | undefined;
  const sessions: HostSessions = openHostSessions({
    clock: systemClock,
    log: logTo({ write: () => undefined }),
    authorise: () => true,
    handler: {
      async onHello(said) {
        hello = said;
        const brokerTime = new Date().toISOString();
        return { kind: "welcome", brokerTime, testenvs: [...wanted], nodes: [] };
      },
      onConnected: () => undefined,
      onMessage: async (_, message) => void messages.push(message),
      onDisconnected: () => undefined,
    },
  });
  const server: Server = createServer((request, response) => {
    const [, lease = "", name = ""] =
      /^\/v1\/hosts\/leases\/([^/]+)\/files\/([^/?]+)(?:\?.*)?$/.exec(request.url ?? "") ?? [];
    void readText(request, 1e9).then((text) => {
      files.set(`${lease}/${name}`, text);
      response.writeHead(204).end();
    });
  });
  server.on("upgrade", (request, connection, head) => {
    sessions.accept(request, connection, head);
  });
  await mkdir(join(socket, ".."), { recursive: true });
  await rm(socket, { force: true });
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const heard: PlayedBroker["heard"] = (kind, fits = () => true, timeoutMs = 30_000) =>
    until(
      () =>
        messages
          .slice(from)
          .filter((message) => message.kind === kind)
          .find((message) => fits(message as never)),
      { timeoutMs, everyMs: 5, what: `${kind} from the host` },
    ) as never;
  return {
    get hello() {
      return hello;
    },
    messages,
    files,
    send(message) {
      if (!sessions.send(hello!.hostId, message)) throw new Error("the host is not connected");
    },
    heard,
    reported: (state, fits = () => true, timeoutMs) =>
      heard("testenv", ({ report }) => report.state === state && fits(report), timeoutMs),
    forget: () => void (from = messages.length),
    async [Symbol.asyncDispose]() {
      await sessions[Symbol.asyncDispose]();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
      await rm(socket, { force: true });
    },
  };
}

export type TestHost = AsyncDisposable & {
  readonly state: string;
  readonly socket: string;
  start(): Promise<Child>;
};

/** A state directory with this configuration of `teHost`; its cell ends with it. */
export async function makeTestHost(teHost: object): Promise<TestHost> {
  const state = await mkdtemp("/tmp/rackyard-tehost-");
  await writeFile(join(state, "rackyard.yaml"), JSON.stringify({ teHost }));
  const program = join(import.meta.dirname, "../../src/main/rackyard.ts");
  const flags = ["--disable-sigusr1", "--disable-warning=ExperimentalWarning"];
  const started: Child[] = [];
  return {
    state,
    socket: join(state, "run/api.sock"),
    async start() {
      const child = launch(process.execPath, [...flags, program, "te-host", "--state", state], {
        stdio: ["ignore", "inherit", "inherit"],
        env: plainEnv(),
      });
      started.push(child);
      return child;
    },
    async [Symbol.asyncDispose]() {
      for (const child of started) await child.end();
      const { left } = await endCell(state);
      if (left.length > 0) throw new Error(`left: ${JSON.stringify(left)}`);
      await rm(state, { recursive: true, force: true });
    },
  };
}

export const hostLog = (state: string): Promise<string> =>
  readFile(join(state, "log/te-host.jsonl"), "utf8");

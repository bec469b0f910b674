/**
 * A test's end of cell-agent.ts: starts the agent in a cell of its own state directory, calls it,
 * hears its events, kills it. Several may live side by side. The cell is ended by the test.
 */
import { createInterface } from "node:readline";
import { join } from "node:path";
import { launch } from "../../src/base/command.ts";
import { until } from "../../src/base/wait.ts";
import type { Cell } from "../../src/hypervisor/cell.ts";
import type { DomainEvent, Hypervisor } from "../../src/hypervisor/hypervisor-port.ts";

type Told =
  | { ready: number; cell: Cell; pid: number }
  | { id: number; value?: unknown; error?: string }
  | { event: DomainEvent }
  | { ack: { mac: string; ip: string } }
  | { restart: string };

/** Members of the port that can be called by a path. */
type Part = "domains" | "disks" | "bridges" | "portRules" | "testNetwork" | "daemons";
type Method<P extends Part> = keyof Hypervisor[P] & string;
type Result<P extends Part, M extends Method<P>> = Hypervisor[P][M] extends (
  ...args: never[]
) => infer R
  ? Awaited<R>
  : Hypervisor[P][M];
type Arguments<P extends Part, M extends Method<P>> = Hypervisor[P][M] extends (
  ...args: infer A
) => unknown
  ? A
  : [];

export type Agent = {
  readonly cell: Cell;
  readonly pid: number;
  /** Milliseconds that opening the hypervisor took. */
  readonly openedMs: number;
  readonly events: readonly DomainEvent[];
  readonly restarts: readonly string[];
  /** Addresses that dnsmasq acknowledged. */
  readonly acks: readonly { mac: string; ip: string }[];
  call<P extends Part, M extends Method<P>>(
    part: P,
    method: M,
    ...args: Arguments<P, M>
  ): Promise<Result<P, M>>;
  own<M extends "plan" | "mend" | "processes">(
    method: M,
  ): Promise<Awaited<ReturnType<Hypervisor[M]>>>;
  /** SIGKILL; returns when it is gone. */
  kill(): Promise<void>;
  /** Its stdin ends: it stops and leaves everything running. */
  stop(): Promise<void>;
};

export const testHostId = "b0000000-0000-4000-8000-000000000001";

export async function startAgent(state: string): Promise<Agent> {
  const program = join(import.meta.dirname, "cell-agent.ts");
  const child = launch(process.execPath, [program, state, testHostId], {
    stdio: ["pipe", "pipe", "inherit"],
    env: process.env as Record<string, string>,
  });
  const events: DomainEvent[] = [];
  const restarts: string[] = [];
  const acks: { mac: string; ip: string }[] = [];
  const waiting = new Map<number, (told: { value?: unknown; error?: string }) => void>();
  let ready: { ready: number; cell: Cell; pid: number } | undefined;
  let gone = false;
  child.exited.then(
    () => (gone = true),
    () => (gone = true),
  );
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const told = JSON.parse(line) as Told;
    if ("ready" in told) ready = told;
    else if ("event" in told) events.push(told.event);
    else if ("ack" in told) acks.push(told.ack);
    else if ("restart" in told) restarts.push(told.restart);
    else waiting.get(told.id)?.(told);
  });
  const opened = await until(() => ready ?? (gone && "gone"), {
    timeoutMs: 120_000,
    everyMs: 20,
    what: "the agent to open its hypervisor",
  });
  if (opened === "gone") throw new Error("the agent ended as it began");
  let last = 0;
  const send = async (path: readonly string[], args: readonly unknown[]): Promise<unknown> => {
    const id = ++last;
    const { promise, resolve } = Promise.withResolvers<{ value?: unknown; error?: string }>();
    waiting.set(id, resolve);
    child.stdin!.write(`${JSON.stringify({ id, path, args })}\n`);
    const told = await Promise.race([
      promise,
      child.exited.then(() => ({ error: "the agent is gone" })),
    ]);
    waiting.delete(id);
    if (told.error !== undefined) throw new Error(told.error);
    return "value" in told ? told.value : undefined;
  };
  return {
    cell: opened.cell,
    pid: opened.pid,
    openedMs: opened.ready,
    events,
    restarts,
    acks,
    call: async (part, method, ...args) => (await send([part, method], args)) as never,
    own: async (method) => (await send([method], [])) as never,
    async kill() {
      process.kill(child.pid, "SIGKILL");
      await child.exited;
    },
    async stop() {
      child.stdin!.end();
      await child.exited;
    },
  };
}

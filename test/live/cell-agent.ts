/**
 * The program that live tests run inside of a cell: it makes the cell, enters it, opens the
 * hypervisor, and then does what comes on stdin, a JSON line a call:
 * `{ id, path: ["domains", "start"], args: [uuid] }` → `{ id, value | error }`; domain events,
 * acknowledged addresses and restarts of daemons are told as `{ event | ack | restart }`.
 * Usage: cell-agent.ts STATE HOST-ID
 */
import { createInterface } from "node:readline";
import { describeError } from "../../src/base/errors.ts";
import { openFileLog, silentLog } from "../../src/base/log.ts";
import { enterCell, insideCell, prepareCell, readCell } from "../../src/hypervisor/cell.ts";
import { openHypervisor } from "../../src/hypervisor/hypervisor.ts";

const [state = "", hostId = ""] = process.argv.slice(2);
const recorded = process.env["RACKYARD_CELL"] ? await readCell(state) : undefined;
const cell =
  recorded && insideCell(recorded)
    ? recorded
    : await prepareCell({ state, cidr: "auto", mtu: 1_500, log: silentLog });
if (!insideCell(cell)) {
  const self = [import.meta.filename, state, hostId];
  await enterCell(cell, process.execPath, [...process.execArgv, ...self], process.env);
}

const log = openFileLog(`${state}/log/agent.jsonl`, "debug");
const doors = { gate: 22, nodes: 7_226 };
const began = performance.now();
const hypervisor = await openHypervisor({ cell, hostId, accelerator: "tcg", doors, log });
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
hypervisor.onRestart((restart) => say({ restart }));
const stop = new AbortController();
void hypervisor.domains.watch((event) => say({ event }), stop.signal);
void hypervisor.testNetwork.watchAcks((ack) => say({ ack }), stop.signal);
say({ ready: Math.round(performance.now() - began), cell, pid: process.pid });

type Call = { id: number; path: string[]; args: unknown[] };
const answer = async ({ id, path, args }: Call): Promise<void> => {
  try {
    let owner: unknown = hypervisor;
    let member: unknown = hypervisor;
    for (const name of path) {
      owner = member;
      member = (member as Record<string, unknown>)[name];
    }
    const value: unknown =
      typeof member === "function"
        ? await (member as (...all: unknown[]) => unknown).apply(owner, args)
        : member;
    say({ id, value: value ?? null });
  } catch (error) {
    say({ id, error: describeError(error) });
  }
};
for await (const line of createInterface({ input: process.stdin })) {
  void answer(JSON.parse(line) as Call);
}
stop.abort();
await hypervisor[Symbol.asyncDispose]();

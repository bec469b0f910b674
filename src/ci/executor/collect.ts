/**
 * Collect, always (surface.md §10, ci.md L-2): the workspace's `logs/` and a tarball of each
 * machine that the job listed, 4 at a time, 60 s and 64 MiB each, streamed through the node
 * into the archive, so that nothing is written on the node. A machine that gives nothing leaves
 * `NAME.missing` with the reason; failures here never change the result.
 */
import { PassThrough } from "node:stream";
import type { Readable } from "node:stream";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { NodeConnection } from "./connection.ts";
import { WORKSPACE } from "./environment.ts";
import { collectScript, machineCommand, parseMachines } from "./machines.ts";
import type { Machine } from "./machines.ts";

/** Where collected things go; the archive has this shape. */
export type CollectSink = {
  say(text: string): void;
  logs(stream: Readable, signal: AbortSignal): Promise<CollectedLogs>;
  machine(
    name: string,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<{ readonly bytes: number; readonly whole: boolean }>;
  missing(name: string, reason: string): Promise<void>;
};

export type CollectedLogs = {
  readonly files: number;
  readonly bytes: number;
  readonly left: readonly string[];
  readonly truncated: boolean;
};

export async function collectLogs(
  connection: NodeConnection,
  sink: CollectSink,
  options: { readonly machines: boolean },
  signal: AbortSignal,
): Promise<void> {
  if (options.machines) await collectMachines(connection, sink, signal);
  const command = `cd ${WORKSPACE}/logs 2>/dev/null && exec tar -cf - .`;
  const tar = connection.stream(command, "");
  const stop = AbortSignal.any([signal, AbortSignal.timeout(limits.gitMs)]);
  const abort = (): void => void tar.end();
  stop.addEventListener("abort", abort, { once: true });
  try {
    const report = await sink.logs(tar.stdout, stop);
    sink.say(`collected logs/: ${report.files} files, ${report.bytes} bytes`);
    for (const left of report.left) sink.say(`left out of logs/: ${left}`);
  } catch (error) {
    sink.say(`logs/ could not be collected whole: ${describeError(error)}`);
  } finally {
    stop.removeEventListener("abort", abort);
    await tar.end();
  }
}

async function collectMachines(
  connection: NodeConnection,
  sink: CollectSink,
  signal: AbortSignal,
): Promise<void> {
  const text = await readMachinesFile(connection, signal);
  if (text.trim() === "") return;
  const { machines, faults } = parseMachines(text);
  for (const fault of faults) sink.say(fault);
  const waiting = [...machines];
  const worker = async (): Promise<void> => {
    for (let machine = waiting.shift(); machine; machine = waiting.shift()) {
      if (signal.aborted) return;
      await collectMachine(connection, sink, machine, signal);
    }
  };
  await Promise.all(Array.from({ length: limits.collectParallel }, worker));
}

async function readMachinesFile(connection: NodeConnection, signal: AbortSignal): Promise<string> {
  const lines: string[] = [];
  const ended = await connection.script(
    (nonce) =>
      `head -c 65536 ${WORKSPACE}/machines.json 2>/dev/null; printf '\\n%s 0\\n' '${nonce}'\n`,
    { onLine: (line) => lines.push(line), timeoutMs: limits.collectMachineMs, signal },
  );
  return ended.kind === "status" ? lines.join("\n") : "";
}

async function collectMachine(
  connection: NodeConnection,
  sink: CollectSink,
  machine: Machine,
  signal: AbortSignal,
): Promise<void> {
  const began = performance.now();
  const command = connection.stream(machineCommand(machine), collectScript);
  const limit = AbortSignal.timeout(limits.collectMachineMs);
  const abort = (): void => void command.end();
  for (const stop of [limit, signal]) stop.addEventListener("abort", abort, { once: true });
  try {
    const through = command.stdout.pipe(new PassThrough());
    const { bytes, whole } = await sink.machine(machine.name, through, signal);
    if (!whole) await command.end();
    const { status, stderr } = await command.exited;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    if (limit.aborted) {
      await sink.missing(machine.name, `no end within ${limits.collectMachineMs / 1000} s`);
    } else if (bytes === 0) {
      await sink.missing(machine.name, stderr || `ssh to the machine ended with ${status}`);
    } else if (!whole) {
      await sink.missing(machine.name, `cut at ${limits.collectMachineBytes} bytes`);
    }
    sink.say(`collected ${machine.name}: ${bytes} bytes in ${seconds} s`);
  } catch (error) {
    await sink.missing(machine.name, describeError(error));
  } finally {
    for (const stop of [limit, signal]) stop.removeEventListener("abort", abort);
    await command.end();
  }
}

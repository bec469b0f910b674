/**
 * Collect, always (surface.md §10, ci.md L-2): the workspace's `logs/` and a tarball of each
 * machine that the job listed, 4 at a time, 60 s and 64 MiB each, streamed through the node
 * into the archive, so that nothing is written on the node. A machine that gives nothing leaves
 * `NAME.missing` with the reason; what is left out of `logs/` is told by name. Failures here never
 * change the result. Each stream ends with its signal, however long the peer goes on.
 */
import type { Readable } from "node:stream";
import { describeError, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { retry } from "../../base/retry.ts";
import type { NodeConnection } from "./connection.ts";
import { WORKSPACE } from "./environment.ts";
import { collectScript, machineCommand, parseMachines } from "./machines.ts";
import type { Machine } from "./machines.ts";
import { logsScript } from "./logs-script.ts";

/** Where collected things go; the archive has this shape. */
export type CollectSink = {
  say(text: string): void;
  logs(stream: Readable, signal: AbortSignal): Promise<CollectedLogs>;
  /** What the node did not send of logs/, in its words. */
  leftOut(names: readonly string[]): Promise<void>;
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
  readonly leftMore: number;
  /** Why the stream was not taken to its end. */
  readonly cut: string | null;
};

export async function collectFiles(
  connection: NodeConnection,
  sink: CollectSink,
  options: { readonly machines: boolean },
  signal: AbortSignal,
): Promise<void> {
  if (options.machines) await collectMachines(connection, sink, signal);
  const stop = AbortSignal.any([signal, AbortSignal.timeout(limits.gitMs)]);
  try {
    // A full disk of the archive may be freed: what was not kept is still on the node.
    await retry(() => collectLogs(connection, sink, stop), {
      tries: Infinity,
      signal: stop,
      worth: (error) => isRackyardError(error, "no-space"),
      onFailure: (error, failures) => {
        if (failures === 1) sink.say(`logs/ are taken again soon: ${describeError(error)}`);
      },
    });
  } catch (error) {
    const why = signal.aborted
      ? "the build was stopped"
      : stop.aborted
        ? `no end within ${limits.gitMs / 1_000} s`
        : describeError(error);
    sink.say(`logs/ are not archived whole: ${why}`);
  }
}

async function collectLogs(
  connection: NodeConnection,
  sink: CollectSink,
  signal: AbortSignal,
): Promise<void> {
  const tar = connection.stream("exec bash --norc -s", logsScript(), signal);
  try {
    const report = await sink.logs(tar.stdout, signal);
    if (report.cut !== null) await tar.end();
    const { status, stderr } = await tar.exited;
    sink.say(`collected logs/: ${report.files} files, ${report.bytes} bytes`);
    const said = stderr.split("\n").filter((line) => line.trim() !== "");
    const named = said.slice(0, limits.collectNamed + 1);
    for (const line of named) sink.say(`logs/: ${line}`);
    await sink.leftOut(named);
    for (const left of report.left) sink.say(`left out of logs/: ${left}`);
    if (report.leftMore > 0) sink.say(`left out of logs/: ${report.leftMore} more`);
    // tar: 1 is a file that changed while it was read
    const why = report.cut ?? (status > 1 ? `tar ended with ${status}` : null);
    if (why !== null) sink.say(`logs/ are not archived whole: ${why}`);
  } finally {
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
      const { name } = machine;
      await collectMachine(connection, sink, machine, signal).catch((error: unknown) => {
        sink.say(`${name} is not archived: ${describeError(error)}`);
      });
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
  const limit = AbortSignal.timeout(limits.collectMachineMs);
  const stop = AbortSignal.any([signal, limit]);
  const command = connection.stream(machineCommand(machine), collectScript, stop);
  try {
    const { bytes, whole } = await sink.machine(machine.name, command.stdout, stop);
    if (!whole) await command.end();
    const { status, stderr } = await command.exited;
    if (bytes === 0) {
      const last = stderr.split("\n").at(-1);
      await sink.missing(machine.name, last || `ssh to the machine ended with ${status}`);
    } else if (!whole) {
      await sink.missing(machine.name, `cut at ${bytes} bytes`);
    } else if (status !== 0) {
      await sink.missing(machine.name, `not whole: ended with ${status}`);
    }
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    sink.say(`collected ${machine.name}: ${bytes} bytes in ${seconds} s`);
  } catch (error) {
    const why = limit.aborted ? `no end within ${limits.collectMachineMs / 1000} s` : undefined;
    await sink.missing(machine.name, why ?? describeError(error));
  } finally {
    await command.end();
  }
}

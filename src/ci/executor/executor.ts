/**
 * Runs one build on its node over OpenSSH (ci.md §20): setup, workspace, the phases under their
 * time-outs, collection. It says how each step ended and judges nothing; results are
 * `ci/builds`'s. The job's clock is here; the lease's deadline is the outer net (T-1).
 */
import type { Readable } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import type { Executor, ExecutorJob, StepOutcome } from "../builds/build-ports.ts";
import { collectLogs } from "./collect.ts";
import type { CollectedLogs } from "./collect.ts";
import { openConnection } from "./connection.ts";
import type { Ended, NodeConnection } from "./connection.ts";
import { HOME, jobEnvironment, sourceDirectory, TE_DATAFILE } from "./environment.ts";
import {
  endPhaseScript,
  freeSpaceScript,
  isDiskFull,
  phaseScript,
  prepareScript,
  withStatus,
} from "./scripts.ts";
import type { NodeFile } from "./scripts.ts";
import { buildManifest, zuulVariable } from "./zuul-variable.ts";

type Facts = ExecutorJob["facts"];

/** Where console and files of a build go; the archive has this shape. */
export type ExecutorSink = {
  say(buildId: string, line: string): void;
  put(facts: Facts, path: string, content: string): Promise<void>;
  logs(facts: Facts, stream: Readable, signal: AbortSignal): Promise<CollectedLogs>;
  machine(
    facts: Facts,
    name: string,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<{ readonly bytes: number; readonly whole: boolean }>;
  missing(facts: Facts, name: string, reason: string): Promise<void>;
};

export type ExecutorOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly sink: ExecutorSink;
  readonly identityFile: string;
  readonly runDirectory: string;
  /** ZUUL_URL: `http://10.99.0.2:7226/git`. */
  readonly doorUrl: () => string;
};

export function openExecutor(options: ExecutorOptions): Executor & AsyncDisposable {
  const connections = new Map<string, NodeConnection>();

  async function connectionOf(job: ExecutorJob): Promise<NodeConnection> {
    const known = connections.get(job.facts.id);
    if (known) return known;
    const connection = await openConnection({ ...options, node: job.node });
    connections.set(job.facts.id, connection);
    return connection;
  }

  async function collect(
    job: ExecutorJob,
    after: StepOutcome,
    signal: AbortSignal,
  ): Promise<StepOutcome> {
    const connection = await connectionOf(job);
    try {
      const wait = after.kind === "unreachable" ? limits.childGraceMs : limits.nodeSetupMs;
      const connected = await connection.connect(wait, signal);
      if (connected.kind !== "status") {
        options.sink.say(job.facts.id, "the node cannot be reached: its logs are not collected");
        return outcomeOf(connected, "post");
      }
      return await finishOn(connection, job, after, signal, options);
    } finally {
      connections.delete(job.facts.id);
      await connection[Symbol.asyncDispose]();
    }
  }

  return {
    prepare: async (job, signal) =>
      job.resumed
        ? forgotten
        : prepareOn(await connectionOf(job), job, signal, options).catch((error: unknown) =>
            signal.aborted ? { kind: "aborted" } : Promise.reject(error as Error),
          ),
    run: async (job, signal) =>
      job.resumed ? forgotten : runOn(await connectionOf(job), job, signal, options),
    collect,
    pids: (buildId) => connections.get(buildId)?.pids() ?? [],
    async [Symbol.asyncDispose]() {
      await Promise.all([...connections.values()].map((c) => c[Symbol.asyncDispose]()));
      connections.clear();
    },
  };
}

/** Connections live in this process: what an earlier life began, nobody can take up. */
const forgotten: StepOutcome = {
  kind: "lost",
  detail: "the server was restarted while the build ran",
};

/** Setup within 60 s, then workspace and files in one script. */
async function prepareOn(
  connection: NodeConnection,
  job: ExecutorJob,
  signal: AbortSignal,
  options: ExecutorOptions,
): Promise<StepOutcome> {
  const { sink } = options;
  const { facts, node } = job;
  const connected = await connection.connect(limits.nodeSetupMs, signal);
  if (connected.kind !== "status") return outcomeOf(connected, "pre");
  sink.say(facts.id, `node ${node.id.slice(0, 8)} (${node.label}) at ${node.address}`);
  if (job.lease) sink.say(facts.id, `rack ${job.lease.te}, epoch ${job.lease.epoch}`);
  const zuul = `${JSON.stringify(zuulVariable(job), null, 2)}\n`;
  const manifest = `${JSON.stringify(buildManifest(job), null, 2)}\n`;
  await sink.put(facts, "zuul.json", zuul);
  await sink.put(facts, "manifest.json", manifest);
  const script = prepareScript(job, options.doorUrl(), filesOf(job, zuul, manifest));
  let last = "";
  const ended = await connection.script((nonce) => withStatus(`${script}\n`, nonce), {
    onLine: (line) => {
      last = line;
      sink.say(facts.id, line);
    },
    timeoutMs: limits.gitMs,
    signal,
  });
  if (ended.kind === "status" && ended.status !== 0) {
    if (await diskFull(connection, signal)) {
      return { kind: "disk-full", detail: "the node's disk is full: no workspace" };
    }
    return { kind: "unreachable", detail: `workspace: exit ${ended.status}: ${last}` };
  }
  return ended.kind === "status" ? { kind: "done" } : outcomeOf(ended, "pre");
}

/** pre, then run, under one time-out. */
async function runOn(
  connection: NodeConnection,
  job: ExecutorJob,
  signal: AbortSignal,
  options: ExecutorOptions,
): Promise<StepOutcome> {
  const deadlineMs = options.clock.monoMs() + job.facts.job.timeoutSeconds * 1000;
  for (const [phase, commands] of [
    ["pre", job.facts.job.preRun],
    ["run", job.facts.job.run],
  ] as const) {
    for (const command of commands) {
      const leftMs = deadlineMs - options.clock.monoMs();
      const outcome = await runCommand(connection, job, phase, command, leftMs, signal, options);
      if (outcome.kind !== "done") return outcome;
    }
  }
  return { kind: "done" };
}

/** post, cleanup, collection; the first post command that fails is the outcome. */
async function finishOn(
  connection: NodeConnection,
  job: ExecutorJob,
  after: StepOutcome,
  signal: AbortSignal,
  options: ExecutorOptions,
): Promise<StepOutcome> {
  const { sink } = options;
  const { facts } = job;
  let outcome: StepOutcome = { kind: "done" };
  if (after.kind !== "aborted") {
    for (const command of facts.job.postRun) {
      const limitMs = facts.job.postTimeoutSeconds * 1000;
      const ended = await runCommand(connection, job, "post", command, limitMs, signal, options);
      if (outcome.kind === "done") outcome = ended;
    }
  }
  for (const command of facts.job.cleanupRun) {
    await runCommand(connection, job, "post", command, limits.cleanupMs, signal, options);
  }
  await collectLogs(
    connection,
    {
      say: (text) => sink.say(facts.id, text),
      logs: (stream, stop) => sink.logs(facts, stream, stop),
      machine: (name, stream, stop) => sink.machine(facts, name, stream, stop),
      missing: (name, reason) => sink.missing(facts, name, reason),
    },
    { machines: after.kind !== "aborted" },
    signal,
  );
  return outcome;
}

async function runCommand(
  connection: NodeConnection,
  job: ExecutorJob,
  phase: "pre" | "run" | "post",
  command: string,
  limitMs: number,
  signal: AbortSignal,
  options: ExecutorOptions,
): Promise<StepOutcome> {
  const { facts } = job;
  const directory = sourceDirectory(facts.job.runIn);
  const environment = jobEnvironment(job, { doorUrl: options.doorUrl() });
  options.sink.say(facts.id, `${phase}: ${command}`);
  const ended = await connection.script(
    (nonce) => phaseScript(command, directory, environment, nonce),
    {
      onLine: (line) => options.sink.say(facts.id, line),
      timeoutMs: Math.max(1, limitMs),
      signal,
    },
  );
  if (ended.kind === "timed-out") {
    options.sink.say(facts.id, `${phase}: timed out, ended`);
  }
  if (ended.kind === "timed-out" || ended.kind === "aborted") {
    await endPhase(connection, ended.kind === "aborted" ? limits.endAbortedMs : limits.commandMs);
    return outcomeOf(ended, phase);
  }
  if (ended.kind === "unreachable") return ended;
  if (ended.status === 0) return { kind: "done" };
  options.sink.say(facts.id, `${phase}: exit ${ended.status}`);
  if (await diskFull(connection, signal)) {
    return { kind: "disk-full", detail: `${phase}: exit ${ended.status}, the node's disk is full` };
  }
  return { kind: "exited", phase, exitCode: ended.status };
}

async function endPhase(connection: NodeConnection, timeoutMs: number): Promise<void> {
  await connection.script((nonce) => withStatus(endPhaseScript, nonce), {
    onLine: () => undefined,
    timeoutMs,
    signal: new AbortController().signal, // it must end even where the build was aborted
  });
}

/** asked after anything that did not end with 0. */
async function diskFull(connection: NodeConnection, signal: AbortSignal): Promise<boolean> {
  const lines: string[] = [];
  const ended = await connection.script((nonce) => withStatus(freeSpaceScript, nonce), {
    onLine: (line) => lines.push(line),
    timeoutMs: limits.commandMs,
    signal,
  });
  return ended.kind === "status" && isDiskFull(lines.join("\n"));
}

function outcomeOf(ended: Ended, phase: "pre" | "run" | "post"): StepOutcome {
  switch (ended.kind) {
    case "status":
      return ended.status === 0
        ? { kind: "done" }
        : { kind: "exited", phase, exitCode: ended.status };
    case "timed-out":
      return { kind: "timed-out", phase };
    default:
      return ended;
  }
}

/** Files that the job finds (surface.md §10); secrets outside WORKSPACE, 0600. */
function filesOf(job: ExecutorJob, zuul: string, manifest: string): NodeFile[] {
  const files: NodeFile[] = [
    { path: `${HOME}/zuul.json`, mode: "0644", content: zuul },
    { path: "/opt/stack/new/manifest.json", mode: "0644", content: manifest },
  ];
  const data = job.lease?.data;
  if (data) {
    const hostKey = typeof data["ssh-host-key"] === "string" ? data["ssh-host-key"] : "";
    const ca = typeof data.ca === "string" ? data.ca : "";
    files.push(
      { path: TE_DATAFILE, mode: "0600", content: `${JSON.stringify(data, null, 2)}\n` },
      ...(ca === "" ? [] : [{ path: `${HOME}/te/ca.pem`, mode: "0600", content: ca }]),
      { path: `${HOME}/.ssh/id_rsa`, mode: "0600", content: data["ssh-key"] },
      {
        path: `${HOME}/.ssh/known_hosts`,
        mode: "0600",
        content: hostKey === "" ? "" : `${data["host-ip"]} ${hostKey}\n`,
      },
    );
  }
  return files;
}

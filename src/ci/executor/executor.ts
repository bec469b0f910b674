/**
 * Runs one build on its node over OpenSSH (ci.md §20): setup, workspace, the phases under their
 * time-outs, collection. It says how each step ended and judges nothing; results are
 * `ci/builds`'s. The job's clock is here; the lease's deadline is the outer net (T-1).
 */
import type { Readable } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Random } from "../../base/random.ts";
import { untilDone } from "../../base/retry.ts";
import type { Troubles } from "../../base/troubles.ts";
import { within } from "../../base/wait.ts";
import type { Executor, ExecutorJob, StepOutcome } from "../builds/build-ports.ts";
import { collectFiles } from "./collect.ts";
import type { CollectedLogs } from "./collect.ts";
import { openConnection } from "./connection.ts";
import type { Ended, NodeConnection } from "./connection.ts";
import { HOME, jobEnvironment, sourceDirectory, TE_DATAFILE } from "./environment.ts";
import {
  CHECKOUT_FAILED,
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
  /** A line of our own. */
  say(buildId: string, line: string): void;
  /** A line of the job. */
  output(buildId: string, line: string): void;
  /** Resolves when the job may say more; undefined: at once. */
  room(buildId: string): Promise<void> | undefined;
  put(facts: Facts, path: string, content: string): Promise<void>;
  logs(facts: Facts, stream: Readable, signal: AbortSignal): Promise<CollectedLogs>;
  /** What the node did not send of logs/, in its words. */
  leftOut(facts: Facts, names: readonly string[]): Promise<void>;
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
  readonly troubles: Pick<Troubles, "begin" | "end">;
  readonly sink: ExecutorSink;
  readonly identityFile: string;
  readonly runDirectory: string;
  /** ZUUL_URL: `http://10.99.0.2:7226/git`. */
  readonly doorUrl: () => string;
};

export function openExecutor(options: ExecutorOptions): Executor & AsyncDisposable {
  const connections = new Map<string, NodeConnection>();

  /** Its small files lie on our disk: one that is full is not the node's doing. */
  async function connectionOf(job: ExecutorJob, signal: AbortSignal): Promise<NodeConnection> {
    const known = connections.get(job.facts.id);
    if (known) return known;
    const open = () => openConnection({ ...options, node: job.node });
    const { troubles } = options;
    const connection = await untilDone("the executor's files of a node", open, {
      signal,
      troubles,
    });
    connections.set(job.facts.id, connection);
    return connection;
  }

  const orAborted =
    (signal: AbortSignal) =>
    (error: unknown): StepOutcome => {
      if (!signal.aborted) throw error;
      return { kind: "aborted" };
    };

  async function collect(
    job: ExecutorJob,
    after: StepOutcome,
    signal: AbortSignal,
  ): Promise<StepOutcome> {
    const connection = await connectionOf(job, signal);
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
        : connectionOf(job, signal)
            .then((connection) => prepareOn(connection, job, signal, options))
            .catch(orAborted(signal)),
    run: async (job, signal) =>
      job.resumed
        ? forgotten
        : connectionOf(job, signal)
            .then((connection) => runOn(connection, job, signal, options))
            .catch(orAborted(signal)),
    collect: (job, after, signal) => collect(job, after, signal).catch(orAborted(signal)),
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
  for (const [path, content] of [
    ["zuul.json", zuul],
    ["manifest.json", manifest],
  ] as const) {
    await sink.put(facts, path, content).catch((error: unknown) => {
      sink.say(facts.id, `${path} is not archived: ${describeError(error)}`);
    });
  }
  const script = prepareScript(job, options.doorUrl(), filesOf(job, zuul, manifest));
  let reason = "";
  const ended = await connection.script((nonce) => withStatus(`${script}\n`, nonce), {
    onLine: (line) => {
      // git's own word of what is wrong; what it says after that is advice
      if (!/^(error|fatal): /.test(reason)) reason = line;
      sink.say(facts.id, line);
    },
    timeoutMs: limits.gitMs,
    signal,
  });
  if (ended.kind !== "status") return outcomeOf(ended, "pre");
  if (ended.status === 0) return { kind: "done" };
  if (await diskFull(connection, signal)) {
    return { kind: "disk-full", detail: "the node's disk is full: no workspace" };
  }
  const own = ended.status === CHECKOUT_FAILED;
  const what = own ? "cannot be checked out" : "could not be made";
  return { kind: "no-workspace", own, detail: `the workspace ${what}: ${reason}` };
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

/**
 * post, cleanup, collection; the first post command that fails is the outcome. Of a build that was
 * stopped, clean-up and logs are short: somebody waits for its node.
 */
async function finishOn(
  connection: NodeConnection,
  job: ExecutorJob,
  after: StepOutcome,
  signal: AbortSignal,
  options: ExecutorOptions,
): Promise<StepOutcome> {
  const { sink, clock } = options;
  const { facts } = job;
  const stopped = after.kind === "aborted";
  let outcome: StepOutcome = { kind: "done" };
  if (!stopped && after.kind !== "no-workspace") {
    for (const command of facts.job.postRun) {
      const limitMs = facts.job.postTimeoutSeconds * 1000;
      const ended = await runCommand(connection, job, "post", command, limitMs, signal, options);
      if (outcome.kind === "done") outcome = ended;
      if (signal.aborted) return { kind: "aborted" };
    }
  }
  const cleanUntilMs = clock.monoMs() + (stopped ? limits.abortedCleanupMs : Infinity);
  for (const command of facts.job.cleanupRun) {
    const limitMs = Math.min(limits.cleanupMs, cleanUntilMs - clock.monoMs());
    await runCommand(connection, job, "post", command, limitMs, signal, options);
    if (signal.aborted) return { kind: "aborted" };
  }
  const limitMs = stopped ? limits.abortedCollectMs : limits.collectMs;
  await collectFiles(
    connection,
    {
      say: (text) => sink.say(facts.id, text),
      logs: (stream, stop) => sink.logs(facts, stream, stop),
      leftOut: (names) => sink.leftOut(facts, names),
      machine: (name, stream, stop) => sink.machine(facts, name, stream, stop),
      missing: (name, reason) => sink.missing(facts, name, reason),
    },
    { machines: !stopped },
    AbortSignal.any([signal, AbortSignal.timeout(limitMs)]),
  );
  return signal.aborted ? { kind: "aborted" } : outcome;
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
      onLine: (line) => options.sink.output(facts.id, line),
      room: () => options.sink.room(facts.id),
      timeoutMs: Math.max(1, limitMs),
      signal,
    },
  );
  if (ended.kind === "timed-out") {
    options.sink.say(facts.id, `${phase}: timed out, ended`);
  }
  if (ended.kind === "timed-out" || ended.kind === "aborted") {
    const ending = endPhase(connection, ended.kind === "aborted" ? undefined : signal);
    // an aborted step ends at once; its command is ended beside what follows
    if (ended.kind === "aborted") {
      await within(limits.endAbortedMs, "ending the command", ending).catch(() => undefined);
    } else await ending;
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

async function endPhase(
  connection: NodeConnection,
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  await connection.script((nonce) => withStatus(endPhaseScript, nonce), {
    onLine: () => undefined,
    timeoutMs: limits.commandMs,
    signal,
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

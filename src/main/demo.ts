/**
 * `rackyard demo` (surface.md §8): sets an example up, pushes a change and watches it the whole
 * way. Only a client: all it does, a user can do. Its last line is the summary, whatever happens.
 */
import { copyFile, mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { openClient } from "../api/client.ts";
import type { Client } from "../api/client.ts";
import { describeError, fail, isRackyardError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { until } from "../base/wait.ts";
import { waitsOf } from "../cli/build-waits.ts";
import type { CliContext } from "../cli/context.ts";
import { followChange } from "./demo/follow.ts";
import type { Followed, Seen } from "./demo/follow.ts";
import { ensureRunning, stopRunning } from "./demo/installation.ts";
import { readManifest } from "./demo/manifest.ts";
import type { DemoManifest } from "./demo/manifest.ts";
import { openProgress, summaryText } from "./demo/progress.ts";
import type { Progress, StepFacts } from "./demo/progress.ts";
import { pushChange, pushContents } from "./demo/push.ts";
import type { Pushed, Remote } from "./demo/push.ts";
import { summarize } from "./demo/summary.ts";

type Run = {
  api?: Client;
  pushed?: Pushed;
  seen?: Seen & { vote?: Followed["vote"] };
};

export async function runDemo(
  context: CliContext,
  options: { breaks: boolean; down: boolean },
): Promise<number> {
  const { out, signal } = context;
  const startMs = Date.now() - process.uptime() * 1_000;
  const progress = openProgress(out, startMs);
  const run: Run = {};
  let failed: unknown;
  try {
    await watch(context, options.breaks, progress, run);
  } catch (error) {
    failed = error;
  }
  progress.end();
  const summary = await summarize(run.api, {
    breaks: options.breaks,
    pushed: run.pushed,
    seen: run.seen,
    timeline: progress.timeline,
    durationMs: Math.round(Date.now() - startMs),
    failure: failed === undefined ? undefined : failureText(failed, signal),
  });
  if (options.down) await stopRunning(context);
  out.record(summary, () => summaryText(out, summary));
  if (signal.aborted) return signal.reason === "SIGINT" ? 130 : 143;
  if (isRackyardError(failed) && run.pushed === undefined) {
    if (failed.remedy) out.talk(failed.remedy);
    return failed.exitCode;
  }
  return summary.ok ? 0 : 1;
}

async function watch(
  context: CliContext,
  breaks: boolean,
  progress: Progress,
  run: Run,
): Promise<void> {
  const { out, signal } = context;
  progress.step("installed", Date.now());
  out.talk("looking for a running installation, starting one if there is none");
  progress.now(undefined, "starting server and TE host");
  const { started } = await ensureRunning(context);
  // No signal: what is asked at the very end is asked after an interruption too.
  const api = openClient(await context.endpoint());
  run.api = api;
  const status = await readyStatus(api, signal);
  progress.step("ready", Date.now(), { started, url: String(status["dashboard"]) });

  progress.now(undefined, "setting the example up");
  const manifest = await readManifest();
  await setUp(api, manifest);
  const remote: Remote = {
    url: String(status["git"]),
    token: api.endpoint.token ?? fail("no-token", "the demo pushes, and has no token to do so"),
    signal,
  };
  await pushContents(manifest, remote);
  const change = breaks ? manifest.broken : manifest.good;
  run.pushed = await pushChange(change, remote);
  const { number, patchset, url, atMs } = run.pushed;
  progress.step("pushed", atMs, { change: number, patchset, url });
  await followToTheEnd(context, api, progress, run, run.pushed);
}

async function readyStatus(api: Client, signal: AbortSignal): Promise<Record<string, unknown>> {
  return until(() => api.status(), {
    timeoutMs: limits.upReadyMs,
    signal,
    what: "the server to answer",
  });
}

/** As README says for an own project: the layout names it, a reload makes it exist. */
async function setUp(api: Client, manifest: DemoManifest): Promise<void> {
  const { layout } = await api.reload();
  await mkdir(layout, { recursive: true });
  await copyFile(manifest.layout, join(layout, `demo-${basename(manifest.layout)}`));
  await api.reload();
}

async function followToTheEnd(
  { out, endpoint, signal }: CliContext,
  api: Client,
  progress: Progress,
  run: Run,
  pushed: Pushed,
): Promise<void> {
  const over = new AbortController();
  const told = new Set<string>();
  let watched: string | undefined;
  const talk = openClient(await endpoint(), AbortSignal.any([signal, over.signal]));
  const onSeen = async (seen: Seen): Promise<void> => {
    run.seen = { ...run.seen, ...seen };
    await tellSteps(api, progress, told, seen);
    progress.now(seen, await nowText(api, seen));
    const build = seen.build?.id;
    if (!out.attended || out.json || build === undefined || build === watched) return;
    watched = build;
    void tellConsole(talk, build, progress);
  };
  try {
    run.seen = await followChange(api, pushed, onSeen, endpoint, signal);
  } finally {
    over.abort();
  }
}

/** surface.md §8; a build's time line may tell more. */
const shown = new Set([
  "enqueued",
  "prepared",
  "node-ready",
  "leased",
  "started",
  "seed-up",
  "machine-up",
  "finished",
  "collected",
  "lease-ended",
  "voted",
  "reset",
  "node-deleted",
]);

/** New moments of the time line, in order; `finished` waits until the result is known. */
async function tellSteps(
  api: Client,
  progress: Progress,
  told: Set<string>,
  seen: Seen,
): Promise<void> {
  const { build, timeline } = seen;
  if (!build) return;
  const once = new Set(["enqueued", "prepared"]);
  for (const entry of timeline) {
    const { step, machine } = entry;
    const key = once.has(step) ? step : `${build.id} ${step} ${machine ?? ""}`;
    if (!shown.has(step) || told.has(key)) continue;
    if (step === "finished" && build.result === null) return;
    told.add(key);
    progress.step(step, Date.parse(entry.at), await more(api, step, entry, seen));
  }
}

async function more(
  api: Client,
  step: string,
  entry: Seen["timeline"][number],
  { build, change, certificate }: Seen,
): Promise<StepFacts> {
  const machine = entry.machine === undefined ? {} : { machine: entry.machine };
  switch (step) {
    case "enqueued":
    case "prepared":
      return { change: change?.number };
    case "node-ready":
      return { node: build?.node, address: build?.nodeAddress };
    case "leased":
      return { lease: build?.lease, te: build?.te, epoch: build?.epoch };
    case "finished":
      return { result: build?.result };
    case "collected":
      return { files: build ? (await api.builds.files(build.id).catch(() => [])).length : 0 };
    case "voted": {
      const vote = change?.votes.find(({ label }) => label === "Verified");
      return { label: vote?.label ?? null, value: vote?.value ?? null };
    }
    case "reset":
      return {
        certificate: build ? `${api.endpoint.url}/v1/leases/${build.lease}/certificate` : null,
        resetMs: certificate?.durationMs ?? null,
      };
    case "machine-up":
    case "seed-up":
      return machine;
    default:
      return {};
  }
}

async function tellConsole(api: Client, build: string, progress: Progress): Promise<void> {
  try {
    for await (const { line } of api.builds.follow(build)) progress.line(line);
  } catch {
    // only for show: the demo goes on without
  }
}

async function nowText(api: Client, { build }: Seen): Promise<string> {
  if (!build) return "waiting for the checks to begin";
  const { job, state, result, attempt } = build;
  const again = attempt > 1 ? `, attempt ${attempt}` : "";
  if (state === "reported") return `${job}: ${result}${again}; waiting for the rack's reset`;
  const waits = await waitsOf(api, [build]);
  const why = waits.map(({ reason }) => reason).join("; ");
  return `${job}: ${state}${again}${why === "" ? "" : `: ${why}`}`;
}

function failureText(error: unknown, signal: AbortSignal): string {
  return signal.aborted ? "interrupted" : describeError(error);
}

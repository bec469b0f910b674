/**
 * Builds and pipelines as they read over the API (surface.md §5): out of the rows, and for what
 * is under way out of memory, so that what people see is what the scheduler knows. Reads only.
 */
import { isoTime } from "../base/clock.ts";
import { fail } from "../base/errors.ts";
import type { BuildState, BuildView, TimelineEntry } from "../model/build.ts";
import type { ImageView, NodeView } from "../model/node.ts";
import type { Store } from "../store/store.ts";
import { wholeId } from "../store/whole-id.ts";
import type { Executor } from "./builds/build-ports.ts";
import type { BuildDriver } from "./builds/driver.ts";
import { buildLife } from "./builds/record.ts";
import type { Build } from "./builds/record.ts";
import { buildTimeline } from "./builds/timeline.ts";
import { testedChange } from "./pipeline/item.ts";
import type { Item } from "./pipeline/item.ts";

export type BuildFilter = {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly change?: number | undefined;
  readonly project?: string | undefined;
  readonly pipeline?: string | undefined;
  readonly job?: string | undefined;
  readonly state?: string | undefined;
  readonly result?: string | undefined;
};

export type BuildPage = { readonly items: readonly BuildView[]; readonly next: string | null };

/** The parts of archive and node pool that are only looked at. */
export type Shown = {
  readonly archive: {
    console(
      build: { readonly id: string; readonly logsPath: string },
      afterSeq: number,
      signal: AbortSignal,
      follow: boolean,
    ): AsyncIterable<{ readonly seq: number; readonly line: string }>;
    files(build: { readonly logsPath: string }): Promise<{ path: string; bytes: number }[]>;
  };
  readonly nodePool: { nodes(): readonly NodeView[]; images(): readonly ImageView[] };
  readonly executor: Pick<Executor, "pids">;
};

/** What no list shows of a build, and nobody reads for one. */
const unlisted = [
  "marks",
  "facts.repos",
  ...["vars", "preRun", "run", "postRun", "cleanupRun"].map((key) => `facts.job.${key}`),
];

/** `BuildViews` of the API, but for what only the scheduler can do: cancel, pipelines. */
export function openBuildViews(
  store: Store,
  driver: Pick<BuildDriver, "live">,
  { archive, nodePool, executor }: Shown,
) {
  const { pids } = executor;

  async function find(id: string): Promise<Build> {
    const live = driver.live(id);
    if (live) return live;
    const row = await store.row(buildLife, id);
    if (!row) fail("not-found", `there is no build ${id}`);
    return { state: row.state as BuildState, record: row.body };
  }

  /** Newest first. */
  async function list(filter: BuildFilter): Promise<BuildPage> {
    const { change, project, job, pipeline, result, state } = filter;
    const rows = await store.rows(buildLife, {
      ...(state === undefined ? {} : { states: [state] }),
      where: {
        ...(change === undefined ? {} : { a: String(change) }),
        ...(project === undefined ? {} : { b: project }),
        ...(job === undefined ? {} : { c: job }),
        ...(pipeline === undefined ? {} : { d: pipeline }),
        ...(result === undefined ? {} : { e: result }),
      },
      after: filter.cursor === undefined ? undefined : cursorOf(filter.cursor),
      limit: filter.limit + 1,
      newestFirst: true,
      without: unlisted,
    });
    const shown = rows.slice(0, filter.limit);
    const last = shown.at(-1);
    return {
      items: shown.map((row) => {
        const build = driver.live(row.id) ?? {
          state: row.state as BuildState,
          record: row.body,
        };
        return buildView(build, pids);
      }),
      next: rows.length > shown.length && last ? `${last.createdMs}.${last.id}` : null,
    };
  }

  return {
    find,
    list,
    whole: (text: string): Promise<string> => wholeId(store, buildLife, text),
    get: async (id: string): Promise<BuildView> => buildView(await find(id), pids),
    timeline: async (id: string): Promise<readonly TimelineEntry[]> =>
      buildTimeline((await find(id)).record),
    async *console(id: string, afterSeq: number, signal: AbortSignal, follow: boolean) {
      yield* archive.console((await find(id)).record.facts, afterSeq, signal, follow);
    },
    files: async (id: string) => archive.files((await find(id)).record.facts),
    nodes: (): Promise<readonly NodeView[]> => Promise.resolve(nodePool.nodes()),
    images: (): Promise<readonly ImageView[]> => Promise.resolve(nodePool.images()),
  };
}

function cursorOf(text: string): { createdMs: number; id: string } {
  const [createdMs, id] = text.split(".");
  if (!/^\d{1,16}$/.test(createdMs ?? "") || !id) fail("bad-request", "the cursor is not ours");
  return { createdMs: Number(createdMs), id };
}

export function buildView(build: Build, pids: Executor["pids"]): BuildView {
  const { state, record } = build;
  const { facts, node, rack } = record;
  const tested = facts.changes.at(-1);
  const at = (ms: number | null): string | null => (ms === null ? null : isoTime(ms));
  return {
    id: facts.id,
    buildset: facts.buildset,
    tenant: facts.tenant,
    change: tested?.change ?? null,
    patchset: tested?.patchset ?? null,
    project: facts.project,
    branch: facts.branch,
    pipeline: facts.pipeline,
    job: facts.job.name,
    state,
    result: record.result,
    attempt: facts.attempt,
    maxAttempts: facts.job.attempts,
    voting: facts.job.voting,
    createdAt: isoTime(record.createdMs),
    startedAt: at(record.startedMs),
    endedAt: at(record.endedMs),
    node: node?.id ?? null,
    nodeAddress: node?.address ?? null,
    lease: record.lease,
    te: rack?.te ?? null,
    epoch: rack?.epoch ?? null,
    logsPath: facts.logsPath,
    logsUrl: facts.logsUrl,
    interruptions: [...record.interruptions],
    errorDetail: record.errorDetail,
    evidence: [...record.evidence],
    pids: { ssh: [...pids(facts.id)] },
  };
}

/** An item as `/v1/pipelines` shows it. */
export function itemView(item: Item, driver: Pick<BuildDriver, "live" | "why">) {
  const { change, patchset, project } = testedChange(item);
  return {
    id: item.id,
    change,
    patchset,
    project,
    enqueuedAt: isoTime(item.enqueuedMs),
    jobs: item.buildset.jobs.map((run) => {
      const build = run.current?.build ?? run.ended.at(-1)?.build ?? null;
      const live = build === null ? undefined : driver.live(build);
      return {
        name: run.job.name,
        build,
        state: live?.state ?? (run.final ? "reported" : "waiting"),
        result: run.final?.result ?? null,
        why: build === null ? null : driver.why(build),
      };
    }),
  };
}

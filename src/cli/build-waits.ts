/**
 * Why builds wait, for `change show` and `build show`: each reason once, with the jobs it holds up
 * and, where the broker forecasts it, the time when the first of them is expected to start.
 */
import type { Client } from "../api/client.ts";
import { isRackyardError } from "../base/errors.ts";
import type { BuildView } from "../model/build.ts";
import type { LeaseView } from "../model/lease.ts";
import { startText } from "./lease-text.ts";

export type Wait = {
  readonly reason: string;
  readonly jobs: readonly string[];
  readonly start: string | null;
};

/** The parts of the API that are looked at. */
type Looked = {
  readonly pipelines: Pick<Client["pipelines"], "list">;
  readonly leases: Pick<Client["leases"], "get">;
};

type Waiting = Pick<BuildView, "id" | "job" | "state" | "lease">;

export async function waitsOf(api: Looked, builds: readonly Waiting[]): Promise<readonly Wait[]> {
  const waiting = builds.filter(({ state }) => state === "waiting" || state === "acquiring");
  if (waiting.length === 0) return [];
  const jobs = (await api.pipelines.list()).flatMap(({ items }) => items.flatMap((i) => i.jobs));
  const told = await Promise.all(
    waiting.map(async (build) => {
      const lease = build.lease === null ? undefined : await leaseOf(api, build.lease);
      const own = jobs.find((job) => job.build === build.id)?.why ?? null;
      const why = lease?.state === "waiting" ? (lease.why ?? []).map(({ text }) => text) : [];
      const reasons = why.length > 0 ? why : (own?.split("; ") ?? []);
      return { job: build.job, reasons, start: (lease && startText(lease)) ?? null };
    }),
  );
  return gathered(told);
}

/** A lease that ended meanwhile and was swept is no reason any more. */
async function leaseOf(api: Looked, id: string): Promise<LeaseView | undefined> {
  try {
    return await api.leases.get(id);
  } catch (error) {
    if (isRackyardError(error, "not-found")) return undefined;
    throw error;
  }
}

type Told = {
  readonly job: string;
  readonly reasons: readonly string[];
  readonly start: string | null;
};

/** One entry a reason, in the order in which they were first told. */
function gathered(told: readonly Told[]): readonly Wait[] {
  const byReason = new Map<string, { jobs: string[]; start: string | null }>();
  for (const { job, reasons, start } of told) {
    for (const reason of reasons) {
      const known = byReason.get(reason) ?? { jobs: [], start };
      if (!known.jobs.includes(job)) known.jobs.push(job);
      byReason.set(reason, { jobs: known.jobs, start: known.start ?? start });
    }
  }
  return [...byReason].map(([reason, { jobs, start }]) => ({ reason, jobs, start }));
}

/** A line a reason; the start once below them, or beside each where they differ. */
export function waitLines(waits: readonly Wait[]): string[] {
  const starts = new Set(waits.map(({ start }) => start));
  const together = starts.size === 1 ? [...starts][0] : undefined;
  const lines = waits.map(({ reason, jobs, start }) => {
    const own = together === undefined && start !== null ? `; ${start}` : "";
    return `waiting: ${jobs.join(", ")}: ${reason}${own}`;
  });
  return together ? [...lines, `  ${together}`] : lines;
}

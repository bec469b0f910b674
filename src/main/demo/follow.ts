/**
 * Follows a pushed change over the API until it is voted on, its rack is clean again and its node
 * gone: reads the builds' time lines whenever an event says that something has happened, and now
 * and then in any case. A build that is tried again is followed in its next attempt.
 */
import type { Client } from "../../api/client.ts";
import { fail, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { pause } from "../../base/wait.ts";
import type { BuildView, TimelineEntry } from "../../model/build.ts";
import type { ChangeView } from "../../model/change.ts";
import type { LeaseView } from "../../model/lease.ts";
import type { Certificate, TestenvView } from "../../model/testenv.ts";

export type Seen = {
  readonly change: ChangeView | undefined;
  readonly build: BuildView | undefined;
  readonly timeline: readonly TimelineEntry[];
  readonly lease: LeaseView | undefined;
  readonly testenv: TestenvView | undefined;
  readonly certificate: Certificate | undefined;
};

export type Followed = Seen & { readonly vote: { label: string; value: number } | undefined };

/**
 * Calls `onSeen` with each new look; ends when all is over, or a while after the report.
 * Throws `timed-out`, also for a server that stays away, and what `stillRuns` throws when nobody
 * will start it again.
 */
export async function followChange(
  api: Client,
  { number, patchset }: { readonly number: number; readonly patchset: number },
  onSeen: (seen: Seen) => Promise<void>,
  stillRuns: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<Followed> {
  const over = new AbortController();
  const all = AbortSignal.any([signal, over.signal]);
  const bell = openBell();
  const listening = listen(api, bell, all);
  const deadline = performance.now() + limits.demoMs;
  let answeredMs = performance.now();
  let toldMs: number | undefined;
  try {
    for (;;) {
      signal.throwIfAborted();
      const seen = await whileAway(() => look(api, number, patchset));
      if (seen) {
        answeredMs = performance.now();
        await whileAway(() => onSeen(seen));
        const now = performance.now();
        if (isTold(seen)) toldMs ??= now;
        // What follows the report has its own limit: a host that is gone resets nothing.
        const patient = toldMs !== undefined && now - toldMs < limits.demoTailMs;
        if (toldMs !== undefined && (isOver(seen) || !patient)) {
          return { ...seen, vote: voteOf(seen) };
        }
      } else await stillRuns();
      const now = performance.now();
      if (now > deadline) fail("timed-out", `no end within ${limits.demoMs} ms`);
      if (now - answeredMs > limits.demoAwayMs) {
        fail("timed-out", `the server has not answered for ${limits.demoAwayMs / 1_000} s`);
      }
      await bell.next(limits.backoffFirstMs, signal);
    }
  } finally {
    over.abort();
    await listening;
  }
}

/** A server that is away is started again by its supervisor: the next look is soon enough. */
async function whileAway<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    const away = ["unavailable", "timed-out", "internal", "too-many"];
    const broken = (error as NodeJS.ErrnoException).code ?? "";
    if (isRackyardError(error) ? away.includes(error.code) : /^E[A-Z]+$/.test(broken)) {
      return undefined;
    }
    throw error;
  }
}

async function look(api: Client, number: number, patchset: number): Promise<Seen> {
  const page = await api.builds.list({ change: number, limit: 100 });
  // Newest first: the latest attempt; of several jobs the one that has a rack.
  const builds = page.items.filter((build) => build.patchset === patchset);
  const found = builds.find(({ lease, te }) => lease ?? te) ?? builds[0];
  const nothing = { lease: undefined, testenv: undefined, certificate: undefined };
  if (!found) {
    const change = await api.changes.get(number);
    return { change, build: found, timeline: [], ...nothing };
  }
  // The build after its time line: it knows at least what that tells.
  const timeline = await api.builds.timeline(found.id);
  const build = await api.builds.get(found.id);
  const change = await api.changes.get(number);
  if (build.lease === null) return { change, build, timeline, ...nothing };
  const lease = await api.leases.get(build.lease);
  const testenv = build.te === null ? undefined : await api.testenvs.get(build.te);
  const certificate =
    lease.state === "ended" ? await maybe(api.leases.certificate(build.lease)) : undefined;
  return { change, build, timeline, lease, testenv, certificate };
}

/** Its report is with the review system, vote or no vote. */
function isTold({ build, timeline }: Seen): boolean {
  return build?.state === "reported" && timeline.some((entry) => entry.step === "voted");
}

/** Where there was a rack and a node: proved clean, and gone. */
function isOver(seen: Seen): boolean {
  const { build, timeline, certificate } = seen;
  if (!build) return false;
  const has = (step: string): boolean => timeline.some((entry) => entry.step === step);
  if (build.te !== null && !certificate) return false;
  return build.node === null || has("node-deleted");
}

function voteOf({ change, build, timeline }: Seen): Followed["vote"] {
  if (!build || !timeline.some((entry) => entry.step === "voted")) return undefined;
  const vote = change?.votes.find(({ label, value }) => label === "Verified" && value !== 0);
  return vote && { label: vote.label, value: vote.value };
}

async function maybe<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (isRackyardError(error, "not-found")) return undefined;
    throw error;
  }
}

type Bell = { ring(): void; next(patienceMs: number, signal: AbortSignal): Promise<void> };

function openBell(): Bell {
  let rung = false;
  let wake = (): void => undefined;
  return {
    ring() {
      rung = true;
      wake();
    },
    async next(patienceMs, signal) {
      if (!rung) {
        const quiet = new AbortController();
        const either = AbortSignal.any([quiet.signal, signal]);
        wake = () => quiet.abort();
        await pause(patienceMs, either).catch(() => undefined);
        wake = () => undefined;
      }
      rung = false;
    },
  };
}

/** The server may be started again meanwhile: then the stream is taken up again. */
async function listen(api: Client, bell: Bell, signal: AbortSignal): Promise<void> {
  let lastId: number | undefined;
  while (!signal.aborted) {
    try {
      const more = { signal, ...(lastId === undefined ? {} : { lastId }) };
      for await (const event of api.events(
        ["change", "item", "build", "lease", "testenv", "node"],
        more,
      )) {
        lastId = event.id;
        bell.ring();
      }
    } catch {
      // looked at again by the clock meanwhile
    }
    await pause(limits.backoffFirstMs, signal).catch(() => undefined);
  }
}

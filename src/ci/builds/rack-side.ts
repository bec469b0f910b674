/**
 * The side of a build that faces the broker: asks for its rack under a key of its own, follows
 * the lease while the build lives, and gives it back. What the lease says becomes events of the
 * build: interruptions, and reasons to stop (ci.md F-1, lease.md §2).
 */
import { describeError, isRackyardError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { backoffMs, untilDone } from "../../base/retry.ts";
import { pause } from "../../base/wait.ts";
import type { Interruption, LeaseRequestInput, LeaseView } from "../../model/lease.ts";
import { collectingMs, leaseSeconds } from "../../model/job-duration.ts";
import { isoTime } from "../../base/clock.ts";
import type { AskLine } from "./ask-line.ts";
import { openAskLine } from "./ask-line.ts";
import type { Acquisition } from "./acquisition.ts";
import type { BuildEvent } from "./build-life.ts";
import type { ReadyNode } from "./build-ports.ts";
import type { DriverOptions, Live } from "./live.ts";
import type { AskedRack } from "./rack-port.ts";
import { rackKey } from "./record.ts";
import type { BuildRecord, Stop } from "./record.ts";

type Driver = {
  readonly post: (id: string, event: BuildEvent) => Promise<void>;
  readonly acquisition: Acquisition;
  readonly returnNode: (node: ReadyNode) => Promise<void>;
};

export function openRackSide(options: DriverOptions, driver: Driver) {
  const { racks, clock, log, scope } = options;
  const { post, acquisition } = driver;

  /** By project: each has a quota of its own, and one that has used it holds up no other. */
  const lines = new Map<string, AskLine>();
  const lineOf = ({ facts: { project } }: BuildRecord): AskLine => {
    const line = lines.get(project) ?? openAskLine();
    lines.set(project, line);
    return line;
  };

  /** waiting: takes a place in the broker's queue; a job without a rack needs none. */
  async function ask(live: Live, signal: AbortSignal): Promise<void> {
    const { record } = live.build;
    if (record.facts.job.testenv === null) return post(live.id, { kind: "asked", lease: null });
    const patienceEndsMs = clock.monoMs() + limits.hostGraceMs;
    for (let failures = 1; live.build.state === "waiting"; failures++) {
      try {
        const first = () => askFirst(live, signal);
        const asked = await lineOf(record).turn(record.place, signal, first);
        if (asked === undefined) return; // stopped in between
        if (live.build.state !== "waiting") return await release(asked);
        live.refused = null;
        follow(live, asked);
        await post(live.id, { kind: "asked", lease: asked.id });
        if (signal.aborted) return;
        // Stopped in between: the record does not know of it, so nobody else gives it back.
        if (live.build.record.lease !== asked.id) await release(asked);
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        // A host that is about to register may make it satisfiable.
        const hopeless =
          isRackyardError(error, "unsatisfiable") || isRackyardError(error, "bad-request");
        if (hopeless && clock.monoMs() > patienceEndsMs) {
          const why = error.message;
          return post(live.id, { kind: "stop", stop: { kind: "rack-unavailable", why } });
        }
        live.refused = isRackyardError(error) ? error.message : "the broker does not answer";
        log.warn({ build: live.id, detail: describeError(error) }, "no lease asked");
      }
      await pause(backoffMs(failures, limits.pollMs * 5, limits.heartbeatMs), signal);
    }
  }

  /** First in line: where the broker takes no more for now, it waits, and all behind it. */
  async function askFirst(live: Live, signal: AbortSignal): Promise<AskedRack | undefined> {
    const { record } = live.build;
    while (live.build.state === "waiting") {
      try {
        return await racks.ask(rackRequest(record), rackKey(record));
      } catch (error) {
        if (!isRackyardError(error, "too-many")) throw error;
        live.refused = error.message;
        await pause(limits.pollMs, signal);
      }
    }
    return undefined;
  }

  /** acquiring: stands in line for a node, and for the grant. */
  async function acquire(live: Live, signal: AbortSignal): Promise<void> {
    const { record } = live.build;
    const { job } = record.facts;
    if (record.lease !== null && live.asked === null) {
      // After a restart: the same key is the same lease. One that was granted meanwhile was
      // granted for the address of a node that nobody remembers: it cannot be held back.
      const asked = await again(record, signal);
      if (asked === undefined) return lostPlace(live, "the broker refuses it now");
      const still = await persist(signal, () => racks.offer(asked, false, [])).then(
        (view) => view.state === "waiting",
        () => false,
      );
      signal.throwIfAborted();
      if (!still) {
        await persist(signal, () => release(asked));
        return post(live.id, { kind: "place-lost", why: "the server was restarted" });
      }
      follow(live, asked);
    }
    signal.throwIfAborted();
    if (live.build.state !== "acquiring") return;
    if (live.view && isOver(live.view)) return hear(live, live.view);
    acquisition.enter({
      build: live.id,
      label: job.node!.label,
      place: record.place,
      rack: live.asked,
      lease: live.view,
      leaseWaitMs: (job.testenv?.leaseWaitSeconds ?? 0) * 1_000,
      onAcquired: ({ node, held }) => {
        live.held = held;
        const rack = held && { te: held.te, epoch: held.epoch, host: held.host };
        const event = { kind: "acquired", node, nodeReadyMs: clock.wallMs(), rack } as const;
        scope.spawn(`build ${live.id} acquired`, async (over) => {
          await post(live.id, event);
          if (over.aborted) return;
          // Stopped in between: releasing does not know of the node.
          if (live.build.record.node?.id !== node.id) await driver.returnNode(node);
        });
      },
      onPlaceLost: (why) => lostPlace(live, why),
      onStop: (stop) => tell(live, { kind: "stop", stop }),
    });
  }

  function lostPlace(live: Live, why: string): void {
    log.info({ build: live.id, why }, "place in the rack queue lost");
    live.watching?.abort();
    live.asked = null;
    tell(live, { kind: "place-lost", why });
  }

  function tell(live: Live, event: BuildEvent): void {
    scope.spawn(`build ${live.id} ${event.kind}`, () => post(live.id, event));
  }

  /** Follows the lease until it has ended: its sign of life, and its news (L11, L14). */
  function follow(live: Live, asked: AskedRack): void {
    live.watching?.abort();
    const stop = new AbortController();
    live.asked = asked;
    live.view = null;
    live.watching = stop;
    scope.spawn(`lease of ${live.id}`, async (signal) => {
      const over = AbortSignal.any([signal, stop.signal]);
      for (let failures = 0; !over.aborted;) {
        try {
          for await (const view of racks.watch(asked, over)) {
            failures = 0;
            hear(live, view);
            if (view.state === "ended") return;
          }
        } catch (error) {
          if (over.aborted) return;
          log.warn({ build: live.id, detail: describeError(error) }, "lease not followed");
          if (isRackyardError(error, "not-found")) return forgotten(live);
        }
        failures++;
        await pause(backoffMs(failures, limits.pollMs, limits.heartbeatMs), over).catch(
          () => undefined,
        );
      }
    });
  }

  function hear(live: Live, view: LeaseView): void {
    if (live.asked?.id !== view.id) return;
    live.view = view;
    if (view.interruptions.length > 0) {
      tell(live, { kind: "interrupted", interruptions: view.interruptions });
    }
    if (live.build.state === "acquiring") acquisition.leaseChanged(live.id, view);
    if (!isOver(view)) return;
    const stop = stopBy(view);
    if (stop) tell(live, { kind: "stop", stop });
    else if (live.build.state === "acquiring") {
      acquisition.leave(live.id);
      lostPlace(live, view.reason ?? "ended");
    }
  }

  /** The broker does not know the lease: it was set back to an older state. */
  function forgotten(live: Live): void {
    const why = "the broker does not know the lease any more";
    if (live.build.state !== "acquiring") {
      return tell(live, { kind: "stop", stop: { kind: "lease-over", why } });
    }
    acquisition.leave(live.id);
    lostPlace(live, why);
  }

  function stopBy(view: LeaseView): Stop | undefined {
    // While it stood in line only a person's word, or the broker's limit, ends the build.
    const had = view.testenvs.length > 0 && view.expiresAt !== undefined;
    switch (view.reason) {
      case "revoked":
        return { kind: "revoked" };
      case "wait-timeout":
      case "unsatisfiable":
        return { kind: "rack-unavailable", why: `the lease ended: ${view.reason}` };
      case "te-lost":
        return had ? { kind: "rack-lost", why: lostText(view) } : undefined;
      case "expired":
      case "holder-lost":
        return had ? { kind: "lease-over", why: `the lease ended: ${view.reason}` } : undefined;
      default:
        return undefined; // released by us, or a place in line that is asked for anew
    }
  }

  /** The key's lease once more; undefined where the broker refuses it for good. */
  function again(record: BuildRecord, signal: AbortSignal): Promise<AskedRack | undefined> {
    return persist(signal, () => racks.ask(rackRequest(record), rackKey(record))).catch(
      (error: unknown) => {
        signal.throwIfAborted();
        log.warn({ build: record.facts.id, detail: describeError(error) }, "lease refused");
        return undefined;
      },
    );
  }

  /**
   * After a restart, before a step goes on: the same lease and its TE data again. False: the
   * build had a rack and has it no more. A host that starts anew beside us gets its time.
   */
  async function recover(live: Live, signal: AbortSignal): Promise<boolean> {
    const { record } = live.build;
    if (live.held || !record.rack || !record.lease) return true;
    if (record.stop) return false;
    const patience = AbortSignal.any([
      signal,
      AbortSignal.timeout(limits.hostGraceMs + limits.hostSuspectMs),
    ]);
    try {
      const asked = await persist(patience, () => racks.ask(rackRequest(record), rackKey(record)));
      if (asked.id !== record.lease) {
        await persist(patience, () => release(asked));
        return false;
      }
      if (live.asked === null) follow(live, asked);
      const data = await persist(patience, () => racks.data(asked));
      live.held = { id: asked.id, ...record.rack, data };
      return true;
    } catch (error) {
      log.warn({ build: live.id, detail: describeError(error) }, "rack not found again");
      return false;
    }
  }

  /** T-1: collecting may take longer than the deadline leaves; a refusal leaves it as it is. */
  async function prolong(live: Live): Promise<void> {
    const { asked } = live;
    if (!asked || live.build.record.stop) return;
    try {
      const { expiresAt } = live.view ?? (await racks.look(asked));
      if (expiresAt === undefined) return;
      const leftMs = Date.parse(expiresAt) - clock.wallMs();
      const missingMs = collectingMs(live.build.record.facts.job, limits) - leftMs;
      if (missingMs > 0) await racks.extend(asked, Math.ceil(missingMs / 1_000));
    } catch (error) {
      log.info({ build: live.id, detail: describeError(error) }, "lease not extended");
    }
  }

  /** What a broker that is away, or a host that starts, does not answer is asked again. */
  function persist<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    return untilDone("the broker", act, {
      signal,
      troubles: options.troubles,
      firstMs: limits.pollMs,
      lastMs: limits.heartbeatMs,
      worth: (error) => !isRefusal(error),
    });
  }

  /** Once more is no harm: a lease that is over, or forgotten, is over. */
  async function release(asked: AskedRack): Promise<void> {
    await racks.release(asked).catch((error: unknown) => {
      if (!isRackyardError(error, "not-found")) throw error;
    });
  }

  async function giveBack(live: Live): Promise<void> {
    if (!live.asked) return;
    await release(live.asked).catch((error: unknown) => {
      log.warn({ build: live.id, detail: describeError(error) }, "rack not given back yet");
    });
  }

  /**
   * releasing: the rack goes back, and its fence is waited for: a host that does not answer by
   * then was gone while the job ran, which no exit status shows (F-1).
   */
  async function releaseRack(live: Live, signal: AbortSignal): Promise<readonly Interruption[]> {
    const { record } = live.build;
    if (record.lease === null) return [];
    live.asked ??= (await again(record, signal)) ?? null;
    const { asked } = live;
    if (asked === null) return [];
    await persist(signal, () => release(asked)).catch((error: unknown) => {
      signal.throwIfAborted();
      log.warn({ lease: asked.id, detail: describeError(error) }, "lease not released");
    });
    if (record.rack === null) return [];
    const last = await fenced(asked, signal);
    live.watching?.abort();
    if (!last || last.state === "ended") return last?.interruptions ?? [];
    const seconds = fenceMs / 1_000;
    const text = `the host did not confirm the end of the lease within ${seconds} s`;
    const silent = { code: "host-silent", text, te: record.rack.te };
    return [...last.interruptions, { at: isoTime(clock.wallMs()), ...silent }];
  }

  const fenceMs = options.fenceMs ?? limits.hostSuspectMs + limits.heartbeatMs;

  /**
   * The lease when it has ended, or as it reads after the limit, which counts from the first
   * answer; undefined: the broker does not know it any more, so it is over.
   */
  async function fenced(asked: AskedRack, signal: AbortSignal): Promise<LeaseView | undefined> {
    let sinceMs: number | undefined;
    for (;;) {
      const view = await persist(signal, () => racks.look(asked)).catch((error: unknown) => {
        signal.throwIfAborted();
        log.warn({ lease: asked.id, detail: describeError(error) }, "lease not looked at");
        return undefined;
      });
      if (view === undefined) return undefined;
      sinceMs ??= clock.monoMs();
      if (view.state === "ended" || clock.monoMs() - sinceMs > fenceMs) return view;
      await pause(limits.pollMs, signal);
    }
  }

  return { ask, acquire, recover, prolong, giveBack, release: releaseRack };
}

/** Refusals that no waiting mends. */
function isRefusal(error: unknown): boolean {
  return isRackyardError(error) && !passing.has(error.code);
}

const passing: ReadonlySet<string> = new Set([
  "unavailable",
  "not-running",
  "timed-out",
  "too-many",
  "host-gone",
  "internal",
  "no-space",
]);

function isOver(view: LeaseView): boolean {
  return view.state === "ending" || view.state === "ended";
}

function lostText(view: LeaseView): string {
  const last = view.interruptions.at(-1);
  return last ? `the rack was lost: ${last.text}` : "the rack or its host was lost";
}

/** T-1: the lease outlasts every limit between the grant and the release. */
export function rackRequest(record: BuildRecord): LeaseRequestInput {
  const { facts } = record;
  const { job } = facts;
  const testenv = job.testenv!;
  const optional = {
    ...(testenv.memoryMiB === null ? {} : { memoryMiB: testenv.memoryMiB }),
    ...(testenv.cpus === null ? {} : { cpus: testenv.cpus }),
    ...(testenv.diskGiB === null ? {} : { diskGiB: testenv.diskGiB }),
  };
  const priorities = { 100: "high", 200: "normal", 300: "low" } as const;
  const place = record.place.precedence as keyof typeof priorities;
  return {
    machines: { count: testenv.machines, ...optional },
    ...(testenv.labels === null ? {} : { labels: testenv.labels }),
    durationSeconds: leaseSeconds(job, limits),
    group: facts.project,
    priority: priorities[place] ?? "normal",
    takeable: false,
    avoid: { hosts: [...record.avoid.hosts], testenvs: [...record.avoid.testenvs] },
    holder: { name: `build ${facts.id.slice(0, 8)}`, url: facts.buildUrl },
  };
}

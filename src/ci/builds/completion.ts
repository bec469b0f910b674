/**
 * Moments of a time line that come after a build is over: its rack's reset, its node's end. They
 * are told once; what was told while nobody listened (a server that was killed, a write that
 * failed) is taken from the records of lease and node, so that a time line survives both.
 */
import { openBell } from "../../base/bell.ts";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Scope } from "../../base/scope.ts";
import type { BuildRecord, Mark } from "./record.ts";

/** What lease and node themselves say of their end; empty while they have none. */
export type EndRecords = {
  lease(id: string): Promise<readonly Mark[]>;
  node(id: string): Promise<readonly Mark[]>;
};

type Open = {
  readonly lease: string | null;
  readonly node: string | null;
  readonly untilMs: number;
};

export type Completion = ReturnType<typeof openCompletion>;

export function openCompletion(options: {
  readonly clock: Pick<Clock, "monoMs" | "after">;
  readonly log: Log;
  readonly scope: Scope;
  readonly ends: EndRecords;
  readonly note: (build: string, mark: Mark) => Promise<void>;
}) {
  const { clock, log, scope, ends, note } = options;
  const open = new Map<string, Open>();
  /** `lease ID`, `node ID` → build. */
  const owners = new Map<string, string>();
  const bell = openBell(clock);

  scope.spawn("completion of time lines", async (signal) => {
    while (!signal.aborted) {
      await bell.wait(signal, open.size > 0 ? limits.heartbeatMs : undefined);
      for (const [build, one] of open) {
        if (signal.aborted) return;
        await complete(build, one).catch((error: unknown) => {
          log.warn({ build, detail: describeError(error) }, "time line not completed yet");
        });
      }
    }
  });

  async function complete(build: string, { lease, node, untilMs }: Open): Promise<void> {
    const marks = [
      ...(lease === null ? [] : await ends.lease(lease)),
      ...(node === null ? [] : await ends.node(node)),
    ];
    for (const mark of marks) await note(build, mark);
    const whole = marks.length >= (lease === null ? 0 : 1) + (node === null ? 0 : 1);
    if (whole || clock.monoMs() > untilMs) open.delete(build);
  }

  function trim(map: Map<string, unknown>): void {
    for (const oldest of map.keys()) {
      if (map.size <= limits.recentBuilds) return;
      map.delete(oldest);
    }
  }

  return {
    /** A build that is over, with whatever its time line has by now. */
    remember({ facts, lease, rack, node, marks }: BuildRecord): void {
      if (lease !== null) owners.set(`lease ${lease}`, facts.id);
      if (node !== null) owners.set(`node ${node.id}`, facts.id);
      trim(owners);
      const has = (step: string): boolean => marks.some((mark) => mark.step === step);
      const missing = {
        lease: rack !== null && !has("reset") ? lease : null,
        node: node !== null && !has("node-deleted") ? node.id : null,
      };
      if (missing.lease === null && missing.node === null) return;
      open.set(facts.id, { ...missing, untilMs: clock.monoMs() + limits.timelineOpenMs });
      trim(open);
      bell.ring();
    },
    /** The build that lately had it. */
    owner: (what: "lease" | "node", id: string): string | undefined => owners.get(`${what} ${id}`),
  };
}

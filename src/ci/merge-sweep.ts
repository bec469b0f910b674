/**
 * Forgets, now and then, what the merger prepared for buildsets that are over (ci.md M-4). One
 * that fails is tried again until it works: refs that stay make every fetch dearer.
 */
import { limits } from "../base/limits.ts";
import { untilDone } from "../base/retry.ts";
import type { Scope } from "../base/scope.ts";
import type { Troubles } from "../base/troubles.ts";
import { pause } from "../base/wait.ts";
import type { Merger } from "./merger/merger.ts";

export function startMergeSweep(parts: {
  readonly merger: Pick<Merger, "sweep">;
  readonly troubles: Pick<Troubles, "begin" | "end">;
  readonly scope: Pick<Scope, "spawn">;
  /** Whose states nodes may still fetch; asked anew at each ref's turn. */
  readonly live: () => ReadonlySet<string>;
}): void {
  const { merger, troubles, live } = parts;
  parts.scope.spawn("merger sweep", async (signal) => {
    for (;;) {
      await untilDone("merger sweep", () => merger.sweep(live, signal), { signal, troubles });
      await pause(limits.mergerSweepMs, signal);
    }
  });
}

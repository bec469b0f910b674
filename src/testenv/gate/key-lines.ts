/**
 * The one key line of each rack's account (H-6.4), and its expiry. A lease ends by the host's
 * monotonic clock, sshd judges `expiry-time` by the wall: after a step of the wall clock every
 * line is written anew, so that a live key is not refused and a dead one not let in.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { writeFileAtomic } from "../../base/files.ts";
import { limits } from "../../base/limits.ts";
import { authorizedKeyLine } from "../../ssh/sshd.ts";
import { accountName } from "../parts.ts";

export type GateOpening = {
  readonly number: number;
  readonly lease: string;
  readonly epoch: number;
  readonly publicKey: string;
  readonly expiresAtMs: number;
  readonly from: readonly string[];
};

export type KeyLines = {
  install(opening: GateOpening): Promise<void>;
  remove(number: number): Promise<void>;
  /** To be called often: has the wall clock been set? Then all lines are written anew. */
  look(): Promise<"stepped" | "steady">;
};

export function openKeyLines(folder: string, clock: Clock): KeyLines {
  const installed = new Map<number, { opening: GateOpening; endsMonoMs: number }>();
  const offsetMs = (): number => clock.wallMs() - clock.monoMs();
  let seenMs = offsetMs();
  const file = (number: number): string => join(folder, accountName(number));

  async function write(opening: GateOpening): Promise<void> {
    const { lease, epoch } = opening;
    const command = ["te-shell", "--lease", lease, "--epoch", String(epoch)];
    await writeFileAtomic(file(opening.number), authorizedKeyLine({ ...opening, command }), 0o644);
  }

  return {
    async install(opening) {
      const endsMonoMs = opening.expiresAtMs - offsetMs();
      installed.set(opening.number, { opening, endsMonoMs });
      await write(opening);
    },
    async remove(number) {
      installed.delete(number);
      await rm(file(number), { force: true });
    },
    async look() {
      const nowMs = offsetMs();
      if (Math.abs(nowMs - seenMs) < limits.clockStepMs) return "steady";
      for (const [number, { opening, endsMonoMs }] of installed) {
        const moved = { ...opening, expiresAtMs: endsMonoMs + nowMs };
        // One that was removed meanwhile stays away.
        if (installed.get(number)?.opening !== opening) continue;
        installed.set(number, { opening: moved, endsMonoMs });
        await write(moved);
        if (!installed.has(number)) await rm(file(number), { force: true });
      }
      // A line that could not be written is tried again at the next look.
      seenMs = nowMs;
      return "stepped";
    },
  };
}

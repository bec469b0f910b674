/**
 * The way back out of the cell, for what needs the machine's network (image builds fetch
 * packages; the cell has no way out). Before it enters the cell the program notes its namespaces
 * and root; later it looks for any process that still lives in all of them, and goes there. No
 * process of ours has to wait outside, and nothing is left when we die.
 */
import { readdirSync, readlinkSync, statSync } from "node:fs";
import { fail } from "../../base/errors.ts";
import type { OutsideCommand } from "../../nodehost/image-builds.ts";

const VARIABLE = "RACKYARD_MACHINE";

/** To be called outside, before the cell is entered: what the environment carries in. */
export function noteOutside(): Record<string, string> {
  return { [VARIABLE]: placeOf("self") ?? "" };
}

/** Inside: runs programs where {@link noteOutside} was called. */
export function wayOutside(env: Readonly<Record<string, string | undefined>>): OutsideCommand {
  const place = env[VARIABLE] ?? "";
  return async (program, args) => {
    const pid = findProcess(place);
    if (pid === undefined) {
      fail("unavailable", "no process is left outside of the cell to build an image by", {
        remedy: "start te-host by `rackyard up`, which stays outside",
      });
    }
    const ways = ["net", "mount"].map((kind) => `--${kind}=/proc/${pid}/ns/${nameOf(kind)}`);
    const words = [...ways, `--root=/proc/${pid}/root`, "--", "env", "--chdir=/", program];
    return { program: "nsenter", args: [...words, ...args] };
  };
}

const nameOf = (kind: string): string => (kind === "mount" ? "mnt" : kind);

function findProcess(place: string): number | undefined {
  const pids = readdirSync("/proc").map(Number).filter(Number.isInteger);
  return pids.find((pid) => place !== "" && placeOf(pid) === place);
}

/** Network and mount namespace and root directory of a process, as one word. */
function placeOf(pid: number | "self"): string | undefined {
  try {
    const namespaces = ["net", "mnt"].map((kind) => readlinkSync(`/proc/${pid}/ns/${kind}`));
    const root = statSync(`/proc/${pid}/root/`);
    return [...namespaces, `${root.dev}:${root.ino}`].join(" ");
  } catch {
    return undefined; // gone, or not ours to see
  }
}

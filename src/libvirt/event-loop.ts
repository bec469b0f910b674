/**
 * The two event loops (H-3.5, H-4.5): each a `virsh` that prints a line an event, started again
 * when it or libvirtd died. What was missed meanwhile is not made up here: `onGap` says that the
 * list must be read anew, because events are hints and the list is the truth.
 */
import { forEachLine, launch } from "../base/command.ts";
import { limits } from "../base/limits.ts";
import { pause } from "../base/wait.ts";
import { parseLifecycle, parseMonitor } from "./event-codec.ts";
import type { LibvirtEvent } from "./event-codec.ts";
import { virshEnv, withParent } from "./virsh-pool.ts";

export type EventSink = {
  readonly onEvent: (event: LibvirtEvent) => void;
  /** A loop begins (again): what happened before it listens is in the list alone. */
  readonly onGap: () => void;
};

/** Watches until the signal aborts. */
export async function watchEvents(
  uri: string,
  sink: EventSink,
  signal: AbortSignal,
): Promise<void> {
  await Promise.all([
    loop(uri, ["event", "--all", "--loop", "--timestamp"], parseLifecycle, sink, signal),
    loop(uri, ["qemu-monitor-event", "--loop"], parseMonitor, sink, signal),
  ]);
}

async function loop(
  uri: string,
  args: readonly string[],
  parse: (line: string) => LibvirtEvent | undefined,
  sink: EventSink,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const child = launch("setpriv", [...withParent, "virsh", "-q", "-c", uri, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: virshEnv(),
    });
    const stop = (): void => void child.end("abort", 500);
    signal.addEventListener("abort", stop, { once: true });
    child.stderr?.resume();
    sink.onGap();
    await forEachLine(child.stdout!, (line) => {
      const event = parse(line);
      if (event) sink.onEvent(event);
    }).catch(() => undefined);
    await child.end();
    signal.removeEventListener("abort", stop);
    await pause(limits.eventLoopRestartMs, signal).catch(() => undefined);
  }
}

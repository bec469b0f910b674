/**
 * Signals while a command runs under ours: passed on to the command, so that what was taken for it
 * is given back whatever comes.
 */
import type { Child } from "../base/command.ts";

const SIGNALS: readonly NodeJS.Signals[] = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGTSTP",
];
/**
 * SIGTSTP: a lease cannot stop, it must be renewed; a command that the key has stopped goes on. A
 * shell on the rack has groups of its own, and stops and continues its jobs as ever.
 */
const FROM_KEYS: ReadonlySet<NodeJS.Signals> = new Set(["SIGINT", "SIGQUIT", "SIGTSTP"]);
const NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
};

/** 128 + n, as a shell tells it. */
export function exitOfSignal(name: NodeJS.Signals): number {
  return 128 + (NUMBERS[name] ?? 15);
}

export type Signals = {
  /** Aborted by the first signal, while no command runs. */
  readonly stop: AbortSignal;
  readonly first: NodeJS.Signals | undefined;
  /**
   * From now on they go to this command's group; a second INT or TERM kills it. Those of the
   * terminal's keys reach a command in the foreground by themselves.
   */
  passTo(child: Child, foreground: boolean): void;
  giveBack(): void;
};

/** This command minds signals itself: the rack must be given back whatever comes. */
export function takeSignals(): Signals {
  const stop = new AbortController();
  let first: NodeJS.Signals | undefined;
  let ends = 0;
  let child: Child | undefined;
  let shared = false;
  const before = SIGNALS.map((name) => [name, process.listeners(name)] as const);
  const onSignal = (name: NodeJS.Signals): void => {
    // The terminal sends these to its whole foreground group: the command has them already.
    if (child && shared && FROM_KEYS.has(name)) {
      if (name === "SIGTSTP") child.kill("SIGCONT");
      return;
    }
    if (name === "SIGTSTP") return;
    const ending = name === "SIGINT" || name === "SIGTERM";
    if (ending) ends++;
    if (child) return child.kill(ending && ends > 1 ? "SIGKILL" : name);
    if (first !== undefined && ends > 1) process.exit(exitOfSignal(name));
    first ??= name;
    stop.abort(new DOMException(`stopped by ${name}`, "AbortError"));
  };
  for (const name of SIGNALS) {
    process.removeAllListeners(name);
    process.on(name, onSignal);
  }
  return {
    stop: stop.signal,
    get first() {
      return first;
    },
    passTo(running, foreground) {
      shared = foreground;
      child = running;
      ends = 0;
    },
    giveBack() {
      for (const [name, listeners] of before) {
        process.off(name, onSignal);
        for (const listener of listeners) process.on(name, listener);
      }
    },
  };
}

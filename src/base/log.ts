/**
 * Logs of the programs: JSON lines `{ time, level, msg, component, … ids }`, one line a fact
 * (surface.md §8), into `<state>/log/<program>.jsonl`, 64 MiB × 4. Never a secret.
 */
import { closeSync, existsSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import pino from "pino";
import { limits } from "./limits.ts";

export type Log = {
  debug(facts: object, msg: string): void;
  info(facts: object, msg: string): void;
  warn(facts: object, msg: string): void;
  error(facts: object, msg: string): void;
  /** A log whose lines all carry these facts, e.g. `{ component: "broker" }`. */
  child(facts: object): Log;
};

/** A log into a file that rotates by size; `<file>.1` is the newest old one. */
export function openFileLog(path: string, level = "info"): Log {
  return logTo(openRotatingFile(path, limits.logFileBytes, limits.logFiles), level);
}

/** A log to a stream, for tests and foreground programs. */
export function logTo(stream: { write(line: string): void }, level = "info"): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: pino.stdSerializers.err },
    },
    stream,
  );
}

export const silentLog: Log = logTo({ write: () => undefined }, "silent");

function openRotatingFile(
  path: string,
  maxBytes: number,
  files: number,
): { write(line: string): void } {
  let fd = openSync(path, "a", 0o640);
  let size = fstatSync(fd).size;
  let lost = 0;
  const rotate = (): void => {
    for (let n = files - 1; n >= 1; n--) {
      const from = n === 1 ? path : `${path}.${n - 1}`;
      if (existsSync(from)) renameSync(from, `${path}.${n}`);
    }
    const next = openSync(path, "a", 0o640);
    closeSync(fd);
    fd = next;
    size = 0;
  };
  /** What a full disk cut off ends with a line of its own, so that the next one is whole. */
  const resume = (): void => {
    const time = new Date().toISOString();
    const line = JSON.stringify({ level: "error", time, lost, msg: "lines of this log are lost" });
    size += writeSync(fd, `\n${line}\n`);
    lost = 0;
  };
  return {
    write(line) {
      // A log that cannot be written, as on a full disk, must not end who writes it.
      try {
        if (size + line.length > maxBytes) rotate();
        if (lost > 0) resume();
        size += writeSync(fd, line);
      } catch {
        lost++;
      }
    },
  };
}

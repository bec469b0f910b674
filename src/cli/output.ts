/**
 * What commands print: results on stdout, talk on stderr; with `--json` one value, or one a line
 * for streams; colours and progress only on a terminal (surface.md §2). The only place where
 * clients write, so that nothing is printed twice.
 */
import { stripVTControlCharacters, styleText } from "node:util";

import { terminalText } from "./terminal-text.ts";

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

export type Output = {
  readonly json: boolean;
  /** stdout is a terminal, for colours. */
  readonly colours: boolean;
  /** stderr is a terminal that a person watches, for progress. */
  readonly attended: boolean;
  /** A result: with --json as one line of JSON, else by `text`. */
  result(value: unknown, text: () => string): void;
  /** One record of a stream: a line of JSON, or `text`. */
  record(value: unknown, text: () => string): void;
  /** Text on stdout without a newline added; bytes as they are. */
  write(text: string | Uint8Array): void;
  /** Talk, on stderr, silent with --json unless it is a terminal. */
  talk(text: string): void;
  style(style: Style | Style[], text: string): string;
  /** Columns aligned; a row's cells are texts already. */
  table(columns: readonly string[], rows: readonly (readonly string[])[]): string;
};

export type Streams = {
  readonly stdout: {
    write(data: string | Uint8Array): unknown;
    readonly isTTY?: boolean;
    readonly columns?: number;
  };
  readonly stderr: { write(data: string): unknown; readonly isTTY?: boolean };
};

export function openOutput(
  options: { json: boolean },
  streams: Streams = process,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Output {
  const plain = env["NO_COLOR"] !== undefined || env["CI"] === "true" || env["TERM"] === "dumb";
  const colours = streams.stdout.isTTY === true && !plain;
  const attended = streams.stderr.isTTY === true && env["CI"] !== "true";
  const shown = (text: string): string =>
    streams.stdout.isTTY === true ? terminalText(text) : text;
  const line = (text: string): void => {
    if (text !== "") streams.stdout.write(`${shown(text)}\n`);
  };
  const print = (value: unknown, text: () => string): void =>
    line(options.json ? JSON.stringify(value) : text());
  const style = (styles: Style | Style[], text: string): string =>
    colours ? styleText(styles, text, { validateStream: false }) : text;
  return {
    json: options.json,
    colours,
    attended,
    result: print,
    record: print,
    write: (text) => void streams.stdout.write(typeof text === "string" ? shown(text) : text),
    talk: (text) => {
      if (options.json && !attended) return;
      const told = streams.stderr.isTTY === true ? terminalText(text) : text;
      streams.stderr.write(`${told}\n`);
    },
    style,
    table: (columns, rows) =>
      tableText(columns, rows, style, streams.stdout.isTTY ? streams.stdout.columns : undefined),
  };
}

/**
 * Two spaces between columns; the last one is not padded. On a terminal the widest columns are cut
 * until a row fits; the first column is what one pastes into the next command, and is cut last.
 */
function tableText(
  columns: readonly string[],
  rows: readonly (readonly string[])[],
  style: Output["style"],
  terminalColumns?: number,
): string {
  if (rows.length === 0) return style("dim", "none");
  const wanted = columns.map((column, n) =>
    Math.max(column.length, ...rows.map((row) => widthOf(row[n] ?? ""))),
  );
  const widths = terminalColumns === undefined ? wanted : fitted(wanted, terminalColumns);
  const put = (cells: readonly string[]): string =>
    cells
      .map((cell, n) => {
        const width = widths[n] ?? 0;
        return n === cells.length - 1 ? cutTo(cell, width) : padTo(cutTo(cell, width), width);
      })
      .join("  ")
      .trimEnd();
  const head = put(columns.map((column) => column.toUpperCase()));
  return [style("dim", head), ...rows.map((row) => put(row))].join("\n");
}

/** Columns that a cell keeps, however narrow the terminal is. */
const LEAST_ROOM = 4;

/** No column but the first is wider than the cap with which all fit. */
function fitted(wanted: readonly number[], terminalColumns: number): number[] {
  const room = Math.max(0, terminalColumns - 2 * (wanted.length - 1));
  const capped = (cap: number): number[] =>
    wanted.map((width, n) => Math.min(width, n === 0 ? Math.max(cap, FIRST_ROOM) : cap));
  let cap = Math.max(...wanted);
  const sum = (widths: readonly number[]): number => widths.reduce((all, one) => all + one, 0);
  while (cap > LEAST_ROOM && sum(capped(cap)) > room) cap--;
  // What the cap leaves over goes to the last column, which holds the sentences.
  const widths = capped(cap);
  const last = widths.length - 1;
  const spare = Math.max(0, room - sum(widths));
  widths[last] = Math.min(wanted[last] ?? 0, (widths[last] ?? 0) + spare);
  return widths;
}

/** An id's short form and a rack's name stay whole. */
const FIRST_ROOM = 12;

/** Colours go when it is cut: they would not end. */
const cutTo = (cell: string, width: number): string =>
  widthOf(cell) <= width
    ? cell
    : `${lettersOf(cell)
        .slice(0, width - 1)
        .join("")}…`;

/** Never half a character. */
const lettersOf = (cell: string): string[] => Array.from(stripVTControlCharacters(cell));
const widthOf = (cell: string): number => lettersOf(cell).length;
const padTo = (cell: string, width: number): string =>
  cell + " ".repeat(Math.max(0, width - widthOf(cell)));

/** `90 days`, `1 h 5 min`, `12 min`, `3.4 s`: as exact as people care. */
export function spanText(ms: number): string {
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s`;
  const minutes = Math.round(ms / 60_000);
  if (minutes >= 2 * 1_440) return `${Math.round(minutes / 1_440)} days`;
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Where steps are compared: always in seconds. */
export function secondsText(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

/** `10:38:36 UTC`, with the day where it is not today's: to the second, as people compare. */
export function timeText(at: string, nowMs = Date.now()): string {
  const today = at.slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10);
  return `${today ? "" : `${at.slice(0, 10)} `}${at.slice(11, 19)} UTC`;
}

/** How long ago, or until, seen from `nowMs`. */
export function agoText(at: string | null | undefined, nowMs: number): string {
  if (!at) return "–";
  const ms = nowMs - Date.parse(at);
  return ms >= 0 ? `${spanText(ms)} ago` : `in ${spanText(-ms)}`;
}

export function bytesText(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  if (bytes < 1_024 ** 2) return `${(bytes / 1_024).toFixed(1)} KiB`;
  return `${(bytes / 1_024 ** 2).toFixed(1)} MiB`;
}

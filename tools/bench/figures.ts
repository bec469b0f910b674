/**
 * Medians and ranges of what several runs of the demo told. Pure: lines of `demo --json` come in,
 * figures go out; demo.ts runs and prints.
 */
import { z } from "zod";

const step = z.object({
  event: z.literal("step"),
  step: z.string(),
  ms: z.number(),
  machine: z.string().nullish(),
});
const summary = z.object({
  event: z.literal("summary"),
  ok: z.boolean(),
  durationMs: z.number(),
  pushToVoteMs: z.number().nullable(),
  failure: z.string().nullable(),
});

export type Run = {
  readonly ok: boolean;
  /** Why it was not ok. */
  readonly failure: string | null;
  /** By name, in the order in which they came; a step that comes twice counts as one. */
  readonly ms: ReadonlyMap<string, number>;
};

export type Figure = {
  readonly name: string;
  /** How many of the runs have it. */
  readonly runs: number;
  readonly medianMs: number;
  readonly minMs: number;
  readonly maxMs: number;
};

/** One run from its lines; a run without a summary is not ok. */
export function readRun(output: string): Run {
  const ms = new Map<string, number>();
  let end: z.output<typeof summary> | undefined;
  for (const line of output.split("\n")) {
    const record = parseLine(line);
    const took = step.safeParse(record);
    if (took.success) {
      const name = took.data.machine ? `${took.data.step} ${took.data.machine}` : took.data.step;
      ms.set(name, (ms.get(name) ?? 0) + took.data.ms);
    }
    end = summary.safeParse(record).data ?? end;
  }
  if (!end) return { ok: false, failure: "no summary was printed", ms };
  ms.set("pushToVoteMs", end.pushToVoteMs ?? Number.NaN);
  ms.set("durationMs", end.durationMs);
  if (end.pushToVoteMs === null) ms.delete("pushToVoteMs");
  return { ok: end.ok, failure: end.failure, ms };
}

/** Figures of all that any run has: the two of the whole first, then the steps in their order. */
export function figuresOf(runs: readonly Run[]): Figure[] {
  const whole = ["durationMs", "pushToVoteMs"];
  const steps = new Set(runs.flatMap((run) => [...run.ms.keys()]));
  return [...whole, ...[...steps].filter((name) => !whole.includes(name))].flatMap((name) => {
    const values = runs.flatMap((run) => run.ms.get(name) ?? []).toSorted((a, b) => a - b);
    const medianMs = median(values);
    if (medianMs === undefined) return [];
    return [{ name, runs: values.length, medianMs, minMs: values[0]!, maxMs: values.at(-1)! }];
  });
}

/** Of an even number of values, the mean of the two in the middle. */
function median(sorted: readonly number[]): number | undefined {
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)];
  const lower = sorted[Math.ceil(middle) - 1];
  return upper === undefined || lower === undefined ? undefined : Math.round((upper + lower) / 2);
}

export function figuresText(figures: readonly Figure[]): string {
  const seconds = (ms: number): string => (ms / 1_000).toFixed(1);
  const rows = figures.map(({ name, runs, medianMs, minMs, maxMs }) => [
    name.replace(/Ms$/, ""),
    seconds(medianMs),
    `${seconds(minMs)}–${seconds(maxMs)}`,
    `${runs}`,
  ]);
  const head = ["seconds", "median", "min–max", "runs"];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  return [head, ...rows]
    .map((row) =>
      row
        .map((cell, n) => (n === 0 ? cell.padEnd(widths[n]!) : cell.padStart(widths[n]!)))
        .join("  "),
    )
    .join("\n");
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // not of the demo: a warning of Node's, an empty line
  }
}

/**
 * What the demo shows while it runs: with --json a line of JSON a step; on a terminal each step
 * with its time and, below, what is under way: the machines as they boot and the job's last line.
 */
import { stripVTControlCharacters } from "node:util";
import { isoTime } from "../../base/clock.ts";
import { asCalled } from "../../cli/called.ts";
import type { Output } from "../../cli/output.ts";
import { limits } from "../../base/limits.ts";
import { secondsText, spanText } from "../../cli/output.ts";
import type { Seen } from "./follow.ts";
import type { Summary } from "./summary.ts";

/** What a step tells beside its name and time. */
export type StepFacts = Readonly<Record<string, string | number | boolean | null | undefined>>;

export type Progress = {
  /** A step is done, at this wall time. */
  step(step: string, atMs: number, more?: StepFacts): void;
  /** What is under way, for people at a terminal. */
  now(seen: Seen | undefined, text: string): void;
  /** The job's last line. */
  line(text: string): void;
  readonly timeline: Summary["timeline"];
  end(): void;
};

/** `terminal`: where what is under way is drawn, and erased again. */
export function openProgress(
  out: Output,
  startMs: number,
  terminal: { write(text: string): unknown; readonly columns?: number } = process.stderr,
): Progress {
  const timeline: { step: string; atMs: number; machine?: string }[] = [];
  let lastMs = startMs;
  let drawn = 0;
  let block: string[] = [];
  let lastLine = "";
  let waitsFor = "";
  let sinceMs = performance.now();
  let saidMs = sinceMs;
  const live = out.attended && !out.json;

  const erase = (): void => {
    if (drawn > 0) terminal.write(`\u001b[${drawn}A\u001b[0J`);
    drawn = 0;
  };
  const draw = (): void => {
    if (!live) return;
    erase();
    const width = Math.max(40, terminal.columns ?? 80);
    const seconds = out.style("dim", ` ${Math.floor((performance.now() - sinceMs) / 1_000)} s`);
    const head = waitsFor === "" ? [] : [`${out.style("bold", waitsFor)}${seconds}`];
    const lines = [...head, ...block, ...(lastLine === "" ? [] : [`  ${lastLine}`])];
    for (const text of lines) terminal.write(`${cut(text, width)}\n`);
    drawn = lines.length;
  };

  /** On a terminal the seconds run; elsewhere a line now and then says that it is alive. */
  const tick = (): void => {
    if (waitsFor === "") return;
    if (live) return draw();
    const now = performance.now();
    if (now - saidMs < limits.demoWaitLineMs) return;
    saidMs = now;
    out.talk(`${waitsFor}, for ${Math.round((now - sinceMs) / 1_000)} s`);
  };
  const ticking = setInterval(tick, 1_000);

  return {
    timeline,
    step(step, atMs, more = {}) {
      const ms = Math.max(0, Math.round(atMs - lastMs));
      lastMs = Math.max(lastMs, atMs);
      saidMs = performance.now();
      const machine = typeof more["machine"] === "string" ? { machine: more["machine"] } : {};
      timeline.push({ step, atMs: Math.round(atMs - startMs), ...machine });
      erase();
      out.record({ event: "step", step, at: isoTime(atMs), ms, ...more }, () => {
        const total = out.style("dim", secondsText(Math.max(0, atMs - startMs)).padStart(8));
        const took = out.style("dim", `+${secondsText(ms)}`.padStart(9));
        return `${total} ${took}  ${step.replaceAll("-", " ").padEnd(13)} ${tellMore(out, more)}`;
      });
      draw();
    },
    now(seen, text) {
      if (text !== waitsFor) sinceMs = performance.now();
      waitsFor = text;
      block = machinesOf(out, seen);
      draw();
    },
    line(text) {
      lastLine = stripVTControlCharacters(text).replace(/^\S+Z /, "");
      draw();
    },
    end() {
      clearInterval(ticking);
      erase();
      waitsFor = "";
      block = [];
      lastLine = "";
    },
  };
}

function cut(text: string, width: number): string {
  const plain = stripVTControlCharacters(text);
  return plain.length < width ? text : `${plain.slice(0, width - 2)}…`;
}

function machinesOf(out: Output, seen: Seen | undefined): string[] {
  if (!seen?.testenv || seen.build?.state === "reported") return [];
  const up = new Set(
    seen.timeline.flatMap(({ step, machine }) =>
      (step === "machine-up" || step === "seed-up") && machine ? [machine] : [],
    ),
  );
  return seen.testenv.machineList.map(({ name, power }) => {
    const state = up.has(name) ? out.style("green", "up") : power === "on" ? "booting" : power;
    return `  ${name.padEnd(10)} ${state}`;
  });
}

/** The facts of a step that people want to see, in words. */
function tellMore(out: Output, more: StepFacts): string {
  const words: [string, (value: string) => string][] = [
    ["machine", (value) => value],
    ["change", (value) => `change ${value}`],
    ["address", (value) => value],
    ["te", (value) => `rack ${value}, epoch ${more["epoch"] ?? "?"}`],
    ["result", (value) => out.style(value === "SUCCESS" ? "green" : "red", value)],
    [
      "value",
      (value) => out.style(Number(value) > 0 ? "green" : "red", `Verified ${signed(value)}`),
    ],
    ["files", (value) => `${value} files`],
    ["resetMs", (value) => `proved clean in ${secondsText(Number(value))}`],
    ["url", (value) => value],
  ];
  return words
    .flatMap(([name, text]) => {
      const value = more[name];
      return value === undefined || value === null ? [] : [text(String(value))];
    })
    .join("  ");
}

const signed = (value: string): string => (Number(value) > 0 ? `+${value}` : value);

/** The end, for people. */
export function summaryText(out: Output, summary: Summary): string {
  const verdict = summary.ok
    ? out.style(["green", "bold"], "It went as it should.")
    : out.style(["red", "bold"], `It did not go as it should: ${summary.failure}`);
  const evidence = summary.evidence.map(
    ({ url, line, text }) => `  ${out.style("red", text)}\n    ${url}, line ${line}`,
  );
  return [
    "",
    verdict,
    ...(summary.result === null
      ? []
      : [`result ${summary.result}, vote ${summary.vote?.value ?? "none"}, rack ${summary.te}`]),
    ...(evidence.length === 0 ? [] : ["why, from the logs:", ...evidence]),
    ...(summary.pushToVoteMs === null
      ? []
      : [`push to vote ${spanText(summary.pushToVoteMs)}, all ${spanText(summary.durationMs)}`]),
    ...(summary.change === null ? [] : [`change   ${out.style("cyan", summary.change.url)}`]),
    ...(summary.logsUrl === null ? [] : [`logs     ${out.style("cyan", summary.logsUrl)}`]),
    "try next:",
    ...summary.next.map((command) => `  ${asCalled(command, process.env["RACKYARD_CALLED"])}`),
  ].join("\n");
}

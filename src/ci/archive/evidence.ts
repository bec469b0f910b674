/**
 * Evidence (ci.md L-4): the places in a build's logs that explain why it failed, found by a
 * short table. Pure: lines go in one by one, up to ten places come out, machines' consoles
 * before the job's own. A line counts once, for the first rule it meets.
 */
import { limits } from "../../base/limits.ts";
import type { Evidence } from "../../model/build.ts";

/** Found by what stands around the line, not in it. */
const NEVER = /(?!)/;

type Rule = { readonly name: string; readonly pattern: RegExp; readonly where: "any" | "console" };

/**
 * First come, first served; each rule at most once a file, the last one of `traceback` and
 * `job-error`. `panic-cause` is the line before a panic, `traceback` the last of one.
 */
const rules: readonly Rule[] = [
  { name: "panic-cause", pattern: NEVER, where: "any" },
  { name: "kernel-panic", pattern: /Kernel panic - not syncing/, where: "any" },
  { name: "init-killed", pattern: /Attempted to kill init/, where: "any" },
  {
    name: "oops",
    pattern: /\bOops: |BUG: unable to handle|general protection fault/,
    where: "any",
  },
  {
    name: "out-of-memory",
    pattern: /Out of memory: |\boom-kill:|invoked oom-killer/,
    where: "any",
  },
  {
    name: "no-boot-device",
    pattern: /No bootable device|not a bootable disk|No more network devices/i,
    where: "any",
  },
  { name: "ipxe-error", pattern: /https?:\/\/ipxe\.org\/[0-9a-f]{6,8}/i, where: "any" },
  { name: "rackyard-fail", pattern: /@rackyard fail\b/, where: "any" },
  { name: "disk-full", pattern: /No space left on device/, where: "any" },
  { name: "traceback", pattern: NEVER, where: "any" },
  { name: "job-error", pattern: /(^|\s)(error|fatal|failed):\s/i, where: "console" },
];

const PHASE = /@rackyard phase=(\S+)/;
const UP = /@rackyard up\b/;
const PANIC = new Set(["kernel-panic", "init-killed"]);
const TRACEBACK = /^Traceback \(most recent call last\):/;

/** Lines before and after that are quoted with a place, and how many places have them. */
const CONTEXT_LINES = 3;
const CONTEXT_CHARS = 120;
const CONTEXT_PLACES = 3;

export type EvidenceSearch = {
  /** Lines in order. */
  push(line: string): void;
  /** So many lines are there and not looked at. */
  skip(lines: number): void;
  /** What this file says. */
  found(): Evidence[];
};

type Place = Evidence & { context: { from: number; lines: string[] } };

/**
 * `file` as it stands in the archive: `console.log`, `rack/console-te1-n0.log`; `isConsole`: the
 * job's own console, not a machine's.
 */
export function searchEvidence(file: string, isConsole: boolean): EvidenceSearch {
  const places = new Map<string, Place>();
  let number = 0;
  let lastPhase: Place | undefined;
  let before: { number: number; text: string }[] = [];
  let open: { place: Place; left: number }[] = [];
  let inTraceback = false;

  /** A place at this line, with what stood before it; what comes after it is added. */
  function placeAt(line: number, text: string, rule: string): Place {
    const earlier = before.filter((one) => one.number < line).slice(-CONTEXT_LINES);
    const quoted = [...earlier.map((one) => one.text), text.slice(0, CONTEXT_CHARS)];
    const from = earlier[0]?.number ?? line;
    const place: Place = {
      file,
      line,
      text: text.slice(0, limits.evidenceTextChars),
      rule,
      context: { from, lines: quoted },
    };
    open.push({ place, left: CONTEXT_LINES });
    return place;
  }

  function look(line: string, indented: boolean): void {
    if (inTraceback && !indented) {
      inTraceback = false;
      if (line !== "") {
        places.set("traceback", placeAt(number, line, "traceback"));
        return;
      }
    }
    if (TRACEBACK.test(line)) {
      inTraceback = true;
      return;
    }
    const rule = rules.find(
      (candidate) => (candidate.where === "any" || isConsole) && candidate.pattern.test(line),
    );
    if (!rule) return;
    // the first time counts, of the job's own errors the last
    if (places.has(rule.name) && rule.name !== "job-error") return;
    const cause = before.findLast((one) => one.text !== "");
    if (PANIC.has(rule.name) && cause && !places.has("panic-cause")) {
      const place = placeAt(cause.number, cause.text, "panic-cause");
      place.context.lines.push(line.slice(0, CONTEXT_CHARS));
      places.set("panic-cause", place);
    }
    places.set(rule.name, placeAt(number, line, rule.name));
  }

  return {
    push(raw) {
      number++;
      const { line, indented } = plain(raw);
      for (const one of open) one.place.context.lines.push(line.slice(0, CONTEXT_CHARS));
      open = open.filter((one) => --one.left > 0);
      const phase = PHASE.exec(line);
      if (phase && !isConsole) {
        const text = `silent after phase ${phase[1]}: ${line}`;
        lastPhase = placeAt(number, text, "silence");
      }
      if (UP.test(line)) lastPhase = undefined;
      look(line, indented);
      before = [...before, { number, text: line.slice(0, limits.evidenceTextChars) }];
      if (before.length > CONTEXT_LINES + 1) before.shift();
    },
    skip(lines) {
      number += lines;
      before = [];
      open = [];
      inTraceback = false;
    },
    found: () => {
      const all = [...places.values()];
      return all.length === 0 && lastPhase ? [lastPhase] : all;
    },
  };
}

/** The best ten: consoles of machines first, in the order of the rules; the first with context. */
export function chooseEvidence(found: readonly Evidence[]): Evidence[] {
  const rank = (evidence: Evidence): number => {
    const rule = rules.findIndex((candidate) => candidate.name === evidence.rule);
    return (rule < 0 ? rules.length : rule) + (evidence.file === "console.log" ? 100 : 0);
  };
  return [...found]
    .sort((x, y) => rank(x) - rank(y) || (x.file < y.file ? -1 : x.file > y.file ? 1 : 0))
    .slice(0, limits.evidenceItems)
    .map(({ context, ...place }, index) =>
      context && index < CONTEXT_PLACES ? { ...place, context } : place,
    );
}

/** Printable: without our time stamp, ANSI sequences (ECMA-48 CSI) and control characters. */
function plain(raw: string): { line: string; indented: boolean } {
  const line = raw
    .replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| /, "")
    .replace(ANSI, "")
    .replace(CONTROL, " ");
  return { line: line.trim(), indented: /^\s/.test(line) };
}

// eslint-disable-next-line no-control-regex
const ANSI = /\u001b\[[0-9;?]*[ -/]*[@-~]/g;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f]/g;

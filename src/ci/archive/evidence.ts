/**
 * Evidence (ci.md L-4): the places in a build's logs that explain why it failed, found by a
 * short table. Pure: lines go in one by one, up to ten places come out, machines' consoles
 * before the job's own. A line counts once, for the first rule it meets.
 */
import { limits } from "../../base/limits.ts";
import type { Evidence } from "../../model/build.ts";

type Rule = { readonly name: string; readonly pattern: RegExp; readonly where: "any" | "console" };

/** First come, first served; each rule at most once a file, `job-error` the last one. */
const rules: readonly Rule[] = [
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
  { name: "job-error", pattern: /(^|\s)(error|fatal|failed):\s/i, where: "console" },
];

const PHASE = /@rackyard phase=(\S+)/;
const UP = /@rackyard up\b/;

export type EvidenceSearch = {
  /** Lines in order; `isConsole`: the job's own console, not a machine's. */
  push(line: string): void;
  /** What this file says. */
  found(): Evidence[];
};

/** `file` as it stands in the archive: `console.log`, `rack/console-te1-n0.log`. */
export function searchEvidence(file: string, isConsole: boolean): EvidenceSearch {
  const places = new Map<string, Evidence>();
  let number = 0;
  let lastPhase: Evidence | undefined;
  return {
    push(raw) {
      number++;
      const line = plain(raw);
      const text = line.slice(0, limits.evidenceTextChars);
      const phase = PHASE.exec(line);
      if (phase && !isConsole) {
        lastPhase = {
          file,
          line: number,
          text: `silent after phase ${phase[1]}: ${text}`.slice(0, limits.evidenceTextChars),
          rule: "silence",
        };
      }
      if (UP.test(line)) lastPhase = undefined;
      const rule = rules.find(
        (candidate) => (candidate.where === "any" || isConsole) && candidate.pattern.test(line),
      );
      if (!rule) return;
      // the first time counts, of the job's own errors the last
      if (places.has(rule.name) && rule.name !== "job-error") return;
      places.set(rule.name, { file, line: number, text, rule: rule.name });
    },
    found: () => {
      const all = [...places.values()];
      return all.length === 0 && lastPhase ? [lastPhase] : all;
    },
  };
}

/** The best ten: consoles of machines first, in the order of the rules. */
export function chooseEvidence(found: readonly Evidence[]): Evidence[] {
  const rank = (evidence: Evidence): number => {
    const rule = rules.findIndex((candidate) => candidate.name === evidence.rule);
    return (rule < 0 ? rules.length : rule) + (evidence.file === "console.log" ? 100 : 0);
  };
  return [...found]
    .sort((x, y) => rank(x) - rank(y) || (x.file < y.file ? -1 : x.file > y.file ? 1 : 0))
    .slice(0, limits.evidenceItems);
}

/** Printable: without our time stamp, ANSI sequences (ECMA-48 CSI) and control characters. */
function plain(line: string): string {
  return line
    .replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \| /, "")
    .replace(ANSI, "")
    .replace(CONTROL, " ")
    .trim();
}

// eslint-disable-next-line no-control-regex
const ANSI = /\u001b\[[0-9;?]*[ -/]*[@-~]/g;
// eslint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f]/g;

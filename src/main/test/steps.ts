/**
 * What `rackyard test` runs, in this order, as data: checks of the tree, then suites of tests.
 * How they run: checks.ts, suite.ts; the order's end, counts and exit code: ../test.ts.
 */

export type Check = {
  readonly name: string;
  /** Beside this program's Node: a script of the tree or of an npm package. */
  readonly script: string;
  readonly args: readonly string[];
};

export type Suite = {
  readonly name: string;
  /** Needs daemons or machines: one such suite at a time on the whole machine. */
  readonly alone: boolean;
  /** Boots machines, whose slowness it has to know. */
  readonly boots: boolean;
};

export const checks: readonly Check[] = [
  { name: "types", script: "node_modules/typescript/bin/tsc", args: ["--noEmit"] },
  {
    name: "lint",
    script: "node_modules/oxlint/bin/oxlint",
    args: ["--type-aware", "--max-warnings", "0", "--format", "unix"],
  },
  { name: "format", script: "node_modules/oxfmt/bin/oxfmt", args: ["--check"] },
  { name: "tidy", script: "tools/tidy.ts", args: [] },
  { name: "unused exports", script: "node_modules/knip/bin/knip.js", args: ["--no-progress"] },
];

export const suites: readonly Suite[] = [
  { name: "pure", alone: false, boots: false },
  { name: "sim", alone: false, boots: false },
  { name: "scenarios", alone: false, boots: false },
  { name: "conformance", alone: true, boots: false },
  { name: "live", alone: true, boots: true },
  { name: "web", alone: true, boots: true },
];

/** One thing that passed, failed or was skipped. */
export type Outcome = {
  readonly name: string;
  readonly state: "passed" | "failed" | "skipped";
  /** What failed, or why it was skipped. */
  readonly text: string;
};

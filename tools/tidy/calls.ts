/**
 * Calls that are banned, each with its substitute: as data. Some hold everywhere under src/,
 * some in pure code, some in tests (no test sleeps). Also words that must not stand in the tree.
 */
import { lineAt } from "./source.ts";
import type { Source } from "./source.ts";
import { isPure, isTest, programs } from "./table.ts";
import type { Fault, Tree } from "./tree.ts";

type Ban = {
  readonly rule: string;
  readonly form: RegExp;
  readonly where: (path: string) => boolean;
  /** Look at strings too (module names); else at code alone. */
  readonly strings?: true;
  readonly what: string;
  readonly instead: string;
};

const inSource = (path: string): boolean => path.startsWith("src/");
const outside =
  (...folders: readonly string[]) =>
  (path: string): boolean =>
    inSource(path) &&
    !isTest(path) &&
    !programs.includes(path) &&
    !folders.some((folder) => path.startsWith(folder));

const pure = (what: string, form: RegExp, instead: string): Ban => ({
  rule: "pure",
  form,
  where: (path) => inSource(path) && isPure(path),
  what: `pure code uses ${what}`,
  instead,
});

const sleep = (what: string, form: RegExp, strings?: true): Ban => ({
  rule: "sleep",
  form,
  where: isTest,
  ...(strings ? { strings } : {}),
  what: `a test sleeps (${what})`,
  instead: "wait for the condition: until() of src/base/wait.ts, an event, or a simulated clock",
});

const bans: readonly Ban[] = [
  pure("the clock", /\bDate\.now\b|\bnew Date\(\)|\bperformance\./g, "take nowMs as a value"),
  pure("randomness", /\bMath\.random\b|\brandom(?:UUID|Bytes|Int)\w*\b/g, "take it as a value"),
  pure("timers", /\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b/g, "return an effect"),
  pure("the process", /\bprocess\./g, "take what it needs as a value"),
  pure("async code", /\basync\b|\bawait\b|\bnew Promise\b/g, "return effects, let the edge await"),
  pure("the network", /\bfetch\(/g, "return an effect"),

  sleep("setTimeout", /\bset(?:Timeout|Interval)\(/g),
  sleep("sleep", /\b(?:sleep|delay)\(/g),
  sleep("timers/promises", /"node:timers\/promises"|"timers\/promises"/g, true),
  sleep("pause of base/wait.ts", /\bpause\(\s*[\w.]/g),
  sleep("Atomics.wait", /\bAtomics\.wait\b/g),
  {
    rule: "test",
    form: /\b(?:test|it|describe)\.only\(/g,
    where: isTest,
    what: "runs this test only",
    instead: "remove .only",
  },
  {
    rule: "test",
    form: /\bvi\.(?:mock|spyOn|stubGlobal)\(/g,
    where: isTest,
    what: "mocks a module",
    instead: "hand a real part or the simulator's port in",
  },
  {
    rule: "process",
    form: /"(?:node:)?child_process"/g,
    strings: true,
    where: (path) => path !== "src/base/command.ts" && inSource(path) && !programs.includes(path),
    what: "starts child processes",
    instead: "use run() or launch() of src/base/command.ts",
  },
  {
    rule: "process",
    form: /\b(?:exec|spawn|execFile)Sync\(/g,
    where: (path) => !path.startsWith("tools/"),
    what: "blocks the event loop on a child process",
    instead: "use run() of src/base/command.ts",
  },
  {
    rule: "process",
    form: /\bshell:\s*true\b/g,
    where: () => true,
    what: "goes through a shell",
    instead: "give the arguments as an array",
  },
  {
    rule: "output",
    form: /\bconsole\.(?:log|error|warn|info|debug|trace|table|dir)\b/g,
    where: (path) => inSource(path),
    what: "prints by console",
    instead: "programs log by base/log.ts; clients print by the output file of src/cli",
  },
  {
    rule: "output",
    form: /\bprocess\.std(?:out|err)\.write\b/g,
    where: outside("src/cli/", "src/main/"),
    what: "writes to the terminal",
    instead: "return the text; src/cli and src/main print",
  },
  {
    rule: "exit",
    form: /\bprocess\.exit\(/g,
    where: outside("src/cli/", "src/main/"),
    what: "ends the process",
    instead: "throw: fail(code, …) or assert(…); main decides the exit code",
  },
  {
    rule: "environment",
    form: /\bprocess\.env\b/g,
    where: outside("src/base/", "src/cli/", "src/main/", "src/lease/holder/"),
    what: "reads the environment",
    instead: "configuration is read once at the border: take it as a value",
  },
  {
    rule: "any",
    form: /(?::|\bas|<|\|)\s*any\b(?!\()|\bany\[\]/g,
    where: () => true,
    what: "uses the type any",
    instead: "use unknown and a schema",
  },
];

export function checkCalls(tree: Tree): Fault[] {
  const faults: Fault[] = [];
  for (const source of tree.sources) {
    for (const ban of bans) if (ban.where(source.path)) faults.push(...found(source, ban));
  }
  return [...faults, ...checkWords(tree)];
}

function found(source: Source, ban: Ban): Fault[] {
  const text = ban.strings ? source.withStrings : source.code;
  // A quote inside of another string is blanked in the code: that one names no module.
  const matches = [...text.matchAll(ban.form)].filter(
    ({ index }) => !ban.strings || source.code[index] === text[index],
  );
  return matches.map((match) => ({
    file: source.path,
    line: lineAt(text, match.index),
    rule: ban.rule,
    what: `${ban.what}: ${match[0].trim()}`,
    instead: ban.instead,
  }));
}

type Word = {
  readonly form: RegExp;
  readonly where: (path: string) => boolean;
  readonly what: string;
  readonly instead: string;
};

// Written in parts, so that this file does not hold them either.
const typeCheckOff = ["@", "ts"].join("");
const example = ["tiny", "rack"].join("");
const hosts = [
  ["deb", "debian", "org"],
  ["security", "debian", "org"],
  ["snapshot", "debian", "org"],
  ["registry", "npmjs", "org"],
  ["registry", "yarnpkg", "com"],
  ["pypi", "org"],
  ["files", "pythonhosted", "org"],
  ["proxy", "golang", "org"],
  ["crates", "io"],
].map((parts) => parts.join("\\."));
const machinePaths = ["work/main", "work/shared", "opt/rk", "var/lib/virtlab"];

const words: readonly Word[] = [
  {
    form: new RegExp(example, "gi"),
    where: inSource,
    what: "names the example",
    instead: "nothing in src/ knows it: take the name from what the user configured",
  },
  {
    form: new RegExp(`\\b(?:${hosts.join("|")})\\b`, "g"),
    where: (path) => path !== "rackyard",
    what: "names a registry's host",
    instead: "use the machine's own settings; only ./rackyard holds npm's public one",
  },
  {
    form: new RegExp(machinePaths.map((path) => `(?:^|[^\\w.])/${path}\\b`).join("|"), "gm"),
    where: (path) => !path.endsWith("package-lock.json"),
    what: "names a path of one machine",
    instead: "use a path relative to the tree or the state directory",
  },
  {
    form: new RegExp(`${typeCheckOff}-(?:ignore|nocheck|expect-error)`, "g"),
    where: (path) => path.endsWith(".ts"),
    what: "switches the type checker off",
    instead: "mend the type",
  },
  {
    form: /\b(?:TODO|FIXME|XXX)\b/g,
    where: (path) => /^(?:src|tools|test|images|examples)\//.test(path) && !path.includes("tidy"),
    what: "leaves work undone",
    instead: "do it, or file an issue",
  },
];

function checkWords(tree: Tree): Fault[] {
  const faults: Fault[] = [];
  for (const [path, text] of tree.texts) {
    for (const word of words) {
      if (!word.where(path)) continue;
      for (const match of text.matchAll(word.form)) {
        faults.push({
          file: path,
          line: lineAt(text, match.index + match[0].length - 1),
          rule: "words",
          what: `${word.what}: ${match[0].trim()}`,
          instead: word.instead,
        });
      }
    }
  }
  return faults;
}

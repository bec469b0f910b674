/**
 * Sizes and names: what keeps files readable. A function's lines are its own: those of functions
 * inside it count for these. Tests may have long functions (`describe`), nothing else.
 */
import type { Source } from "./source.ts";
import { fileName, isTest, schedulerLines } from "./table.ts";
import type { Fault, Tree } from "./tree.ts";

export const sizes = {
  fileLines: 600,
  /** Above it a file is named in the warnings. */
  fileLinesGood: 350,
  functionLines: 70,
  columns: 100,
  /** Source files in one folder; tests beside them do not count. */
  folderFiles: 25,
  /** Lines of text in the comment that opens a file. */
  headerLines: { least: 1, most: 14 },
} as const;

const refusedNames = [
  "utils",
  "util",
  "helpers",
  "helper",
  "common",
  "misc",
  "core",
  "service",
  "handler",
];

export function checkShape(tree: Tree): { faults: Fault[]; warnings: Fault[] } {
  const faults: Fault[] = [];
  const warnings: Fault[] = [];
  for (const source of tree.sources) {
    faults.push(...name(source), ...columns(source), ...functions(source), ...header(source));
    const length = lines(source);
    (length?.rule === "warn" ? warnings : faults).push(...(length ? [length] : []));
  }
  faults.push(...folderSizes(tree));
  return { faults, warnings };
}

function lines(source: Source): Fault | undefined {
  const count = source.text.split("\n").length - 1;
  const most = source.path === "src/ci/scheduler.ts" ? schedulerLines : sizes.fileLines;
  if (count <= sizes.fileLinesGood && count <= most) return undefined;
  return {
    file: source.path,
    line: 1,
    rule: count > most ? "size" : "warn",
    what: `${count} lines (good: ${sizes.fileLinesGood}, never more than ${most})`,
    instead: "split it where its parts know least of each other",
  };
}

function name(source: Source): Fault[] {
  const own = fileName(source.path);
  const stem = own.replace(/(?:(?:\.property)?\.test|\.config|\.d)?\.ts$/, "");
  const fault = (what: string, instead: string): Fault[] => [
    { file: source.path, line: 1, rule: "name", what, instead },
  ];
  if (!/^[a-z0-9]+(?:-[a-z0-9]+)*$/.test(stem)) {
    return fault(`${own} is not kebab-case`, "name it by a noun, a-z, 0-9 and -");
  }
  if (refusedNames.includes(stem))
    return fault(`${own} says nothing`, "name it after what it holds");
  return [];
}

/** Strings of tests, lines inside of a template and regular expressions may be longer. */
function columns(source: Source): Fault[] {
  const code = source.code.split("\n");
  const strings = source.withStrings.split("\n");
  return source.text.split("\n").flatMap((text, index) => {
    const blanked = code[index] ?? "";
    if (blanked.trim() === "" && (strings[index] ?? "").trim() !== "") return []; // all string
    const measured = isTest(source.path) ? blanked.replace(/(?<=\S) {2,}/g, " ") : text;
    const count = Array.from(measured).length;
    const unbreakable = /https?:\/\/\S{60}/.test(text) || /\/ {40,}\//.test(blanked);
    if (count <= sizes.columns || unbreakable) return [];
    return [
      {
        file: source.path,
        line: index + 1,
        rule: "columns",
        what: `${count} columns, ${sizes.columns} are allowed`,
        instead: "break the line (oxfmt does what it can)",
      },
    ];
  });
}

function header(source: Source): Fault[] {
  if (isTest(source.path)) return [];
  const text = source.text.replace(/^#!.*\n/, "");
  const comment = /^\/\*\*?\n([\s\S]*?)\*\//.exec(text)?.[1];
  const count = comment?.split("\n").filter((line) => /[^\s*]/.test(line)).length ?? 0;
  const { least, most } = sizes.headerLines;
  if (count >= least && count <= most) return [];
  return [
    {
      file: source.path,
      line: 1,
      rule: "header",
      what: count === 0 ? "opens without a comment" : `its opening comment has ${count} lines`,
      instead: "say in 3–10 lines its role, what it leaves to others, the rule it keeps",
    },
  ];
}

function folderSizes(tree: Tree): Fault[] {
  const counts = new Map<string, number>();
  for (const { path } of tree.sources) {
    if (path.endsWith(".test.ts")) continue;
    const folder = path.slice(0, path.lastIndexOf("/"));
    counts.set(folder, (counts.get(folder) ?? 0) + 1);
  }
  return [...counts]
    .filter(([, count]) => count > sizes.folderFiles)
    .map(([folder, count]) => ({
      file: folder,
      line: 1,
      rule: "size",
      what: `${count} files in one folder (at most ${sizes.folderFiles})`,
      instead: "give what belongs together a folder of its own",
    }));
}

type Frame = { readonly open: number; readonly isFunction: boolean; inner: number };

function functions(source: Source): Fault[] {
  if (isTest(source.path)) return [];
  const { code } = source;
  const starts = lineStarts(code);
  const frames: Frame[] = [];
  const faults: Fault[] = [];
  for (let at = 0; at < code.length; at++) {
    if (code[at] === "{") frames.push({ open: at, isFunction: opensFunction(code, at), inner: 0 });
    if (code[at] !== "}") continue;
    const frame = frames.pop();
    if (!frame?.isFunction) {
      if (frame) outer(frames, frame.inner);
      continue;
    }
    const first = lineOf(starts, frame.open);
    const total = lineOf(starts, at) - first + 1;
    const own = total - frame.inner;
    outer(frames, total);
    if (own > sizes.functionLines) {
      faults.push({
        file: source.path,
        line: first,
        rule: "size",
        what: `a function of ${own} lines of its own (at most ${sizes.functionLines})`,
        instead: "give its steps names",
      });
    }
  }
  return faults;
}

/** Adds lines of inner functions to the frame around. */
function outer(frames: readonly Frame[], count: number): void {
  const around = frames.at(-1);
  if (around) around.inner += count;
}

/** `words name<T>(parameters): Type`, up to a body; type literals may stand in the result. */
const functionHead = new RegExp(
  String.raw`(?:^|[;{}\n])\s*((?:[\w$.[\]#*]+\s+)*[\w$.[\]#]+)\s*(?:<[^;{}]*>)?` +
    String.raw`\([^;]*\)\s*(?::\s*[^;{}=]+(?:\{[^{}]*\}[^;{}=]*)*)?$`,
);
const notFunctions = /^(?:if|for|while|switch|catch|with|return|else if|for await)$/;

/** Whether the brace at `at` opens a function's body: after `=>`, or after its parameters. */
function opensFunction(code: string, at: number): boolean {
  const before = code.slice(Math.max(0, at - 400), at).trimEnd();
  if (before.endsWith("=>")) return true;
  const head = functionHead.exec(before);
  if (!head) return /\)\s*$/.test(before) && /\bfunction\b[^;]*$/.test(before);
  return !notFunctions.test(head[1]!.trim());
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

function lineOf(starts: readonly number[], offset: number): number {
  let low = 0;
  let high = starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle]! <= offset) low = middle;
    else high = middle;
  }
  return low + 1;
}

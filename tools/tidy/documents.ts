/**
 * What stands written in two places and must agree: links of the documents, error codes and
 * docs/errors.md, limits and their use, requirement ids and the tests that cite them.
 */
import { posix } from "node:path";
import { lineAt } from "./source.ts";
import { isTest, programs } from "./table.ts";
import type { Fault, Tree } from "./tree.ts";

export function checkDocuments(tree: Tree): Fault[] {
  return [
    ...checkLinks(tree),
    ...checkErrorCodes(tree),
    ...checkLimits(tree),
    ...checkLiterals(tree),
    ...checkRequirements(tree),
  ];
}

// ---- links ----

/** CHANGELOG and decisions tell history: paths in their text may be gone, links may not. */
const historical = /^CHANGELOG\.md$|^docs\/decisions\//;

function checkLinks(tree: Tree): Fault[] {
  const faults: Fault[] = [];
  for (const [path, text] of tree.texts) {
    if (!path.endsWith(".md")) continue;
    const plain = text.replace(/```[\s\S]*?```/g, (block) => block.replace(/[^\n]/g, " "));
    for (const match of plain.matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g)) {
      const problem = linkProblem(tree, path, match[1]!);
      if (problem) faults.push(linkFault(path, plain, match.index, problem));
    }
    if (historical.test(path)) continue;
    for (const match of plain.matchAll(/`((?:src|docs|tools|test|images)\/[\w./-]+)`/g)) {
      const target = match[1]!;
      if (tree.paths.has(target) || tree.paths.has(`${target.replace(/\/$/, "")}/`)) continue;
      faults.push(linkFault(path, plain, match.index, `${target} does not exist`));
    }
  }
  return faults;
}

function linkFault(file: string, text: string, offset: number, what: string): Fault {
  const instead = "name what is there, or make it";
  return { file, line: lineAt(text, offset), rule: "link", what, instead };
}

function linkProblem(tree: Tree, from: string, link: string): string | undefined {
  if (/^[a-z][a-z+.-]*:/i.test(link)) return undefined;
  const [file, anchor] = link.split("#", 2);
  const target = file ? posix.join(posix.dirname(from), decodeURI(file)) : from;
  if (!tree.paths.has(target) && !tree.paths.has(`${target.replace(/\/$/, "")}/`)) {
    return `${link} points to nothing`;
  }
  const text = tree.texts.get(target);
  if (!anchor || !target.endsWith(".md") || text === undefined) return undefined;
  return anchors(text).has(anchor) ? undefined : `${link}: no such heading`;
}

/** The anchors that a Markdown file's headings get. */
function anchors(text: string): Set<string> {
  const found = new Set<string>();
  for (const match of text.matchAll(/^#{1,6}\s+(.*)$/gm)) {
    const slug = match[1]!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replace(/\s/g, "-");
    let unique = slug;
    for (let n = 1; found.has(unique); n++) unique = `${slug}-${n}`;
    found.add(unique);
  }
  for (const match of text.matchAll(/<a (?:id|name)="([^"]+)"/g)) found.add(match[1]!);
  return found;
}

// ---- error codes ----

const errorsFile = "src/base/errors.ts";
const errorsDocument = "docs/errors.md";

function checkErrorCodes(tree: Tree): Fault[] {
  const source = tree.sources.find(({ path }) => path === errorsFile);
  if (!source) return [];
  const start = source.withStrings.indexOf("errorCodes = {");
  const table = source.withStrings.slice(start, source.withStrings.indexOf("} as const", start));
  const codes = [...table.matchAll(/^\s*"?([a-z][a-z0-9-]*)"?:\s*\{/gm)].map((match) => ({
    code: match[1]!,
    line: lineAt(source.withStrings, start + match.index + match[0].indexOf(match[1]!)),
  }));
  const told = documentedCodes(tree.texts.get(errorsDocument) ?? "");
  const faults: Fault[] = [];
  for (const { code, line } of codes) {
    const fault = (what: string, instead: string): void => {
      faults.push({ file: errorsFile, line, rule: "errors", what, instead });
    };
    if (!told.has(code)) fault(`${code} is not in ${errorsDocument}`, "give it a row there");
    if (!raised(tree, code)) fault(`nothing raises ${code}`, "remove it");
  }
  for (const [code, line] of told) {
    if (codes.some((known) => known.code === code)) continue;
    const what = `${code} is not in ${errorsFile}`;
    faults.push({ file: errorsDocument, line, rule: "errors", what, instead: "remove the row" });
  }
  return faults;
}

/** Codes of the table whose header has a column `code`, each with its line. */
function documentedCodes(text: string): Map<string, number> {
  const codes = new Map<string, number>();
  let column = -1;
  for (const [index, line] of text.split("\n").entries()) {
    const cells = line.startsWith("|") ? line.split("|").map((cell) => cell.trim()) : [];
    if (cells.length === 0) column = -1;
    else if (column < 0) column = cells.indexOf("code");
    else {
      for (const match of (cells[column] ?? "").matchAll(/`([a-z][a-z0-9-]*)`/g)) {
        codes.set(match[1]!, index + 1);
      }
    }
  }
  return codes;
}

function raised(tree: Tree, code: string): boolean {
  return tree.sources.some(
    ({ path, withStrings }) =>
      path.startsWith("src/") &&
      path !== errorsFile &&
      !isTest(path) &&
      withStrings.includes(`"${code}"`),
  );
}

// ---- limits ----

const limitsFile = "src/base/limits.ts";

function checkLimits(tree: Tree): Fault[] {
  const source = tree.sources.find(({ path }) => path === limitsFile);
  if (!source) return [];
  const faults: Fault[] = [];
  const used = tree.sources
    .filter(({ path }) => path.startsWith("src/") && path !== limitsFile && !isTest(path))
    .map(({ code }) => code)
    .join("\n");
  let explained = false;
  for (const [index, line] of source.text.split("\n").entries()) {
    const key = /^ {2}(\w+):/.exec(line)?.[1];
    if (!key) {
      explained = /^\s*\/?\*/.test(line) || (explained && /^\s{3,}|^\s*[\])}]/.test(line));
      continue;
    }
    const fault = (what: string, instead: string): void => {
      faults.push({ file: limitsFile, line: index + 1, rule: "limits", what, instead });
    };
    if (!explained) fault(`${key} has no reason`, "say in a comment above it why so much");
    if (!new RegExp(`\\blimits\\.${key}\\b`).test(used)) {
      fault(`nothing keeps to limits.${key}`, "use it where it holds, or remove it");
    }
  }
  return faults;
}

const literalTimes: readonly RegExp[] = [
  /\b\w*(?:Ms|Seconds|_MS|[tT]imeout)\s*[:=]\s*[\d_]{3,}(?:\s*\*\s*[\d_]+)*\b/g,
  /\bsetTimeout\([^;\n]*,\s*[\d_]{2,}\s*\)/g,
  /\bAbortSignal\.timeout\(\s*[\d_]+/g,
  /\b(?:pause|within)\(\s*[\d_]{2,}/g,
];

function checkLiterals(tree: Tree): Fault[] {
  return tree.sources.flatMap(({ path, code }) => {
    const exempt = !path.startsWith("src/") || isTest(path) || path.startsWith("src/sim/");
    if (exempt || path === limitsFile || programs.includes(path)) return [];
    return literalTimes.flatMap((form) =>
      [...code.matchAll(form)].map((match) => ({
        file: path,
        line: lineAt(code, match.index),
        rule: "limits",
        what: `a time written out: ${match[0].trim()}`,
        instead: `give it a name and a reason in ${limitsFile}`,
      })),
    );
  });
}

// ---- requirements ----

const requirementsFile = "docs/requirements.md";

function checkRequirements(tree: Tree): Fault[] {
  const text = tree.texts.get(requirementsFile) ?? "";
  const cited = citedIds(tree);
  const seen = new Set<string>();
  const faults: Fault[] = [];
  for (const match of text.matchAll(/^\|\s*([A-Z]+-?\d[\w.-]*)\s*\|/gm)) {
    const id = match[1]!;
    const fault = (what: string, instead: string): void => {
      const line = lineAt(text, match.index);
      faults.push({ file: requirementsFile, line, rule: "requirements", what, instead });
    };
    if (seen.has(id)) fault(`${id} stands twice`, "keep one row");
    seen.add(id);
    if (!cited.has(id)) fault(`no test cites ${id}`, "name it in the title of its test");
  }
  return faults;
}

/** Ids in titles and comments of tests; those of tidy itself speak of made-up ones. */
function citedIds(tree: Tree): Set<string> {
  const ids = new Set<string>();
  for (const { path, text } of tree.sources) {
    if (!isTest(path) || path.startsWith("tools/")) continue;
    for (const match of text.matchAll(/(?<![\w-])[A-Z]+-?\d+(?:\.\d+)*[a-z]?(?![\w-])/g)) {
      ids.add(match[0]);
    }
  }
  return ids;
}

/**
 * Who imports whom: the table of table.ts, no cycles, no barrels, no re-export, no dead file,
 * stand-alone programs alone. Every relative import names a file that exists, with its `.ts`.
 */
import { posix } from "node:path";
import type { Import, Source } from "./source.ts";
import {
  entryPoints,
  fileName,
  folderOf,
  folders,
  isCodec,
  isPort,
  isPure,
  isTest,
  mainSimulator,
  programs,
  pureNode,
  stageShapes,
  testPackages,
} from "./table.ts";
import type { Fault, Tree } from "./tree.ts";

type Edge = { readonly to: string; readonly by: Import };

export function checkImports(tree: Tree): Fault[] {
  const faults: Fault[] = [];
  const edges = new Map<string, Edge[]>();
  for (const source of tree.sources) {
    const own: Edge[] = [];
    for (const by of source.imports) {
      const fault = (rule: string, what: string, instead: string): void => {
        faults.push({ file: source.path, line: by.line, rule, what, instead });
      };
      if (by.kind === "re-export") {
        fault("re-export", `re-exports ${by.from}`, "import it from its own file");
      }
      const to = by.from.startsWith(".")
        ? posix.join(posix.dirname(source.path), by.from)
        : undefined;
      if (to === undefined) checkPackage(source, by.from, fault);
      else if (!tree.paths.has(to)) {
        fault("import", `${by.from} does not exist`, "name the file with its .ts");
      } else {
        own.push({ to, by });
        checkEdge(source, to, by, fault);
      }
    }
    edges.set(source.path, own);
  }
  faults.push(...placeless(tree), ...cycles(edges), ...dead(tree, edges));
  return faults;
}

type Report = (rule: string, what: string, instead: string) => void;

function checkPackage(source: Source, name: string, fault: Report): void {
  if (!source.path.startsWith("src/")) return;
  if (name.startsWith("node:")) {
    if (isPure(source.path) && !pureNode.includes(name)) {
      fault("pure", `pure code imports ${name}`, "hand the value in, give the effect out as data");
    }
    return;
  }
  const folder = folderOf(source.path);
  if (folder === undefined) return;
  const bare = name.startsWith("@") ? name.split("/").slice(0, 2).join("/") : name.split("/")[0]!;
  const allowed = [...(folders[folder]?.packages ?? [])];
  if (isTest(source.path)) allowed.push(...testPackages);
  if (programs.includes(source.path)) {
    fault("program", `a stand-alone program imports ${name}`, "use node: modules only");
  } else if (!allowed.includes(bare)) {
    fault(
      "table",
      `src/${folder} may not import the package ${bare}`,
      `its packages: ${allowed.join(", ") || "none"}; wrap it where it is at home`,
    );
  }
}

function checkEdge(source: Source, to: string, by: Import, fault: Report): void {
  if (by.kind === "program") {
    if (!programs.includes(to) && !entryPoints.includes(to)) {
      const instead = "name it in programs of tools/tidy/table.ts";
      fault("program", `${to} is run as a program of its own`, instead);
    }
    return;
  }
  if (!source.path.startsWith("src/")) return;
  if (isTest(to) && !isTest(source.path)) {
    fault("table", `imports the test ${to}`, "move what is shared into a file of its own");
    return;
  }
  if (programs.includes(source.path)) {
    fault("program", `a stand-alone program imports ${by.from}`, "use node: modules only");
    return;
  }
  if (!to.startsWith("src/")) {
    if (isTest(source.path) && to.startsWith("test/samples/")) return;
    fault("table", `${to} is outside src/`, "what programs need lies in src/");
    return;
  }
  const from = folderOf(source.path);
  const target = folderOf(to);
  if (from === undefined || target === undefined) return;
  if (mayImport(source.path, from, to, target)) return;
  if (to === stageShapes && by.typeOnly && source.path.startsWith("src/ci/")) return;
  fault(
    "table",
    `src/${from} may not import ${to}`,
    `it may: ${folders[from]?.may.join(", ") || "nothing"}; let main hand it in`,
  );
}

function mayImport(path: string, from: string, to: string, target: string): boolean {
  if (from === target) return true;
  if (isTest(path) && target === "sim") return true;
  const file = to.replace(/^src\//, "");
  for (const may of folders[from]?.may ?? []) {
    if (may === "*" && (target !== "sim" || path === mainSimulator)) return true;
    if (may === "*-port.ts" && isPort(file)) return true;
    if (may === "codec" && isCodec(file)) return true;
    if (may === file || may === target || file.startsWith(`${may}/`)) return true;
  }
  return false;
}

/** Files under src/ that no row of the table holds, and barrels. */
function placeless(tree: Tree): Fault[] {
  const faults: Fault[] = [];
  for (const { path } of tree.sources) {
    if (path.startsWith("src/") && folderOf(path) === undefined) {
      faults.push({
        file: path,
        line: 1,
        rule: "table",
        what: "no folder of the import table holds this file",
        instead: "put it where architecture.md has a place for it",
      });
    }
    if (/^index\.[a-z]+$/.test(fileName(path))) {
      faults.push({
        file: path,
        line: 1,
        rule: "barrel",
        what: "index files hide where things are",
        instead: "name the file after what it holds, import that",
      });
    }
  }
  return faults;
}

/** Import cycles, each told once, at its first file by name (Tarjan's strongly connected sets). */
function cycles(edges: ReadonlyMap<string, readonly Edge[]>): Fault[] {
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const faults: Fault[] = [];
  const visit = (path: string): void => {
    order.set(path, order.size);
    low.set(path, order.get(path)!);
    stack.push(path);
    for (const { to, by } of edges.get(path) ?? []) {
      if (by.kind === "program") continue;
      if (!order.has(to)) {
        visit(to);
        low.set(path, Math.min(low.get(path)!, low.get(to)!));
      } else if (stack.includes(to)) low.set(path, Math.min(low.get(path)!, order.get(to)!));
    }
    if (low.get(path) !== order.get(path)) return;
    const set = stack.splice(stack.indexOf(path)).toSorted();
    const first = set[0]!;
    const own = edges.get(first)?.find((edge) => set.includes(edge.to));
    if (!own || (set.length === 1 && own.to !== first)) return;
    faults.push({
      file: first,
      line: own.by.line,
      rule: "cycle",
      what: `imports run in a circle: ${set.join(", ")}`,
      instead: "move what both need below them, or hand it in",
    });
  };
  for (const path of edges.keys()) if (!order.has(path)) visit(path);
  return faults;
}

/** Files under src/ that no program and no other file uses; `sim` may be used by tests alone. */
function dead(tree: Tree, edges: ReadonlyMap<string, readonly Edge[]>): Fault[] {
  const alive = new Set<string>();
  const visit = (path: string): void => {
    if (alive.has(path)) return;
    alive.add(path);
    for (const { to } of edges.get(path) ?? []) visit(to);
  };
  for (const path of entryPoints) visit(path);
  visit(mainSimulator);
  for (const [path, own] of edges) {
    if (!isTest(path)) continue;
    for (const { to } of own) if (to.startsWith("src/sim/")) visit(to);
  }
  return tree.sources
    .filter(({ path }) => path.startsWith("src/") && !isTest(path) && !alive.has(path))
    .map(({ path }) => ({
      file: path,
      line: 1,
      rule: "dead-file",
      what: "no program comes to this file",
      instead: "use it, remove it, or name it as an entry point in tools/tidy/table.ts",
    }));
}

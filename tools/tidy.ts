/**
 * Architecture as a test: import table, banned calls, sizes, names, dead files, links, limits,
 * error codes, requirement ids. One line a fault: `file:line: rule: what → what to do`; exit 1
 * if there is one. Files longer than is good are only named. The rules are in tools/tidy/.
 * Usage: node tools/tidy.ts [ROOT]
 */
import { join } from "node:path";
import { checkCalls } from "./tidy/calls.ts";
import { checkDocuments } from "./tidy/documents.ts";
import { checkImports } from "./tidy/imports.ts";
import { checkShape } from "./tidy/shape.ts";
import { readTree } from "./tidy/tree.ts";
import type { Fault } from "./tidy/tree.ts";

const line = (fault: Fault): string =>
  `${fault.file}:${fault.line}: ${fault.rule}: ${fault.what} → ${fault.instead}`;

const tree = readTree(process.argv[2] ?? join(import.meta.dirname, ".."));
const shape = checkShape(tree);
const faults = [
  ...checkImports(tree),
  ...checkCalls(tree),
  ...shape.faults,
  ...checkDocuments(tree),
].sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line);
for (const warning of shape.warnings) console.error(line(warning));
for (const fault of faults) console.log(line(fault));
console.log(`tidy: ${tree.sources.length} source files, ${faults.length} faults`);
process.exitCode = faults.length === 0 ? 0 : 1;

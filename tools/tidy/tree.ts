/**
 * What tidy looks at: the files of the tree as text, read once, and the faults it finds. Files
 * that git would not keep (node_modules, what tests leave) are not looked at.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readSource } from "./source.ts";
import type { Source } from "./source.ts";

export type Fault = {
  readonly file: string;
  readonly line: number;
  readonly rule: string;
  /** What is wrong. */
  readonly what: string;
  /** What to do about it. */
  readonly instead: string;
};

export type Tree = {
  /** Every path of the tree, with `/`, relative to its root; folders end in `/`. */
  readonly paths: ReadonlySet<string>;
  /** Text files that the rules read. */
  readonly texts: ReadonlyMap<string, string>;
  readonly sources: readonly Source[];
};

const skipped = new Set([".git", "node_modules", "coverage", "dist", "stamps"]);
const textual = /\.(?:ts|md|json|ya?ml|sh|html|css|js|txt)$|^\.?[\w./-]*\/[\w-]+$|^[\w-]+$/;
const largestText = 400_000;

/** Builds the tree from texts, e.g. of a test. */
export function treeOf(files: Readonly<Record<string, string>>): Tree {
  const texts = new Map(Object.entries(files));
  const paths = new Set<string>();
  for (const path of texts.keys()) {
    paths.add(path);
    for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
      paths.add(path.slice(0, at + 1));
    }
  }
  const sources = [...texts]
    .filter(([path]) => /^(?:src|test|tools)\/.*\.ts$/.test(path))
    .map(([path, text]) => readSource(path, text));
  return { paths, texts, sources };
}

export function readTree(root: string): Tree {
  const files: Record<string, string> = {};
  const others: string[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const path = `${folder}${entry.name}`;
      if (entry.isDirectory()) {
        if (!skipped.has(entry.name) && !entry.name.startsWith("staging.")) walk(`${path}/`);
      } else if (entry.isFile()) {
        const readable = textual.test(path) && statSync(join(root, path)).size <= largestText;
        if (readable) files[path] = readFileSync(join(root, path), "utf8");
        else others.push(path);
      }
    }
  };
  walk("");
  const tree = treeOf(files);
  return { ...tree, paths: new Set([...tree.paths, ...others]) };
}

/**
 * A client's start: what `help` loads, by name and not by a clock, and who may write what Node
 * keeps compiled.
 */
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../base/command.ts";
import { cacheFolder } from "./compile-cache.js";

const tree = join(import.meta.dirname, "../..");
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "rackyard-help-"));
  writeFileSync(
    join(directory, "hook.mjs"),
    `import { appendFileSync } from "node:fs";
     import { registerHooks } from "node:module";
     registerHooks({ load(url, context, next) {
       if (url.startsWith("file:")) appendFileSync(process.env.LOADED, url + "\\n");
       return next(url, context);
     } });`,
  );
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function loadedBy(...words: string[]): Promise<string[]> {
  const list = join(directory, words.join("-"));
  writeFileSync(list, "");
  const args = ["--import", join(directory, "hook.mjs"), join(tree, "src/main/rackyard.ts")];
  await run(process.execPath, [...args, ...words], {
    env: { ...(process.env as Record<string, string>), LOADED: list },
  });
  const paths = readFileSync(list, "utf8").trim().split("\n");
  const named = paths.map((url) => relative(tree, decodeURIComponent(new URL(url).pathname)));
  return named.map((path) => path.replace(/^node_modules\/([^/]+)\/.*/, "package $1"));
}

test("issue 6, §0: help loads the commands' words, and one package", async () => {
  const loaded = await loadedBy("help");
  expect(loaded).toContain("src/main/rackyard.ts");
  expect(new Set(loaded.filter((path) => path.startsWith("package ")))).toEqual(
    new Set(["package commander"]),
  );
  const own = /^src\/(main\/(rackyard|main|compile-cache|[a-z-]*commands|version)\.ts|cli\/)/;
  const base = /^src\/(base\/(errors|limits|ids|assert|files)|model\/roles)\.ts$/;
  const others = loaded.filter((path) => path.startsWith("src/"));
  expect(others.filter((path) => !own.test(path) && !base.test(path))).toEqual([]);
  expect(others.filter((path) => /lease-run|rack-files/.test(path))).toEqual([]);
  expect(loaded.length).toBeLessThanOrEqual(40);
});

/** All above it must be closed too, which /tmp is not: one below the tree, if that is. */
function homeFor(name: string): string {
  const home = join(tree, "node_modules", `.${name}-${process.pid}`);
  mkdirSync(home, { mode: 0o755 });
  return home;
}

test("issue 6, §0: the compile cache lies where its user alone writes, or nowhere", () => {
  const home = homeFor("cache-home");
  try {
    const folder = cacheFolder(home);
    if (folder === undefined) {
      expect(existsSync(join(home, ".cache"))).toBe(false); // somebody else may write above
      return;
    }
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    chmodSync(join(home, ".cache"), 0o777);
    expect(cacheFolder(home)).toBeUndefined();
    chmodSync(join(home, ".cache"), 0o755);
    if (process.getuid?.() === 0) {
      chownSync(join(home, ".cache", "rackyard"), 65_534, 65_534);
      expect(cacheFolder(home)).toBeUndefined();
    }
    rmSync(join(home, ".cache"), { recursive: true });
    symlinkSync(directory, join(home, ".cache"));
    expect(cacheFolder(home)).toBeUndefined();
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});

test("issue 6, §0: a folder that others may write keeps nothing", () => {
  chmodSync(directory, 0o777);
  expect(cacheFolder(directory)).toBeUndefined();
  expect(existsSync(join(directory, ".cache"))).toBe(false);
});

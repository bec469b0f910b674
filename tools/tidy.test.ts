/** The program itself: what it prints, and its exit code. The rules: tidy/rules.test.ts. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { run } from "../src/base/command.ts";

const roots: string[] = [];
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

function plant(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), "rackyard-tidy-"));
  roots.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const tidy = (root: string) =>
  run(process.execPath, [join(import.meta.dirname, "tidy.ts"), root], { accept: "any" });

const entry = "/**\n * The entry.\n */\nrun();\n";

test("a clean tree passes, node_modules are not looked at", async () => {
  const root = plant({ "src/main/rackyard.ts": entry, "node_modules/a/index.ts": "any" });
  expect(await tidy(root)).toMatchObject({
    exitCode: 0,
    stdout: "tidy: 1 source files, 0 faults\n",
  });
});

test("issue 3, row 14: a planted sleep is named with file, line and substitute, exit 1", async () => {
  const planted = ['import { test } from "vitest";', "test(name, async () => {"];
  const root = plant({
    "src/main/rackyard.ts": entry,
    "src/main/a.test.ts": [...planted, "  await new Promise((f) => setTimeout(f, 9));", "});"].join(
      "\n",
    ),
  });
  const { exitCode, stdout } = await tidy(root);
  expect(exitCode).toBe(1);
  expect(stdout).toBe(
    "src/main/a.test.ts:3: sleep: a test sleeps (setTimeout): setTimeout( → wait for the condition: " +
      "until() of src/base/wait.ts, an event, or a simulated clock\ntidy: 2 source files, 1 faults\n",
  );
});

/** Each rule of tidy against a planted violation, and against what must pass. */
import { describe, expect, test } from "vitest";
import { checkCalls } from "./calls.ts";
import { checkDocuments } from "./documents.ts";
import { checkImports } from "./imports.ts";
import { checkShape } from "./shape.ts";
import { readSource } from "./source.ts";
import { treeOf } from "./tree.ts";
import type { Fault } from "./tree.ts";

const head = "/**\n * A role.\n */\n";
const main = { "src/main/rackyard.ts": `${head}import "../base/a.ts";\n` };

/** Faults as `file:line rule`, of all rules, for a tree of these texts. */
function faults(files: Record<string, string>): string[] {
  const tree = treeOf(files);
  const all: Fault[] = [
    ...checkImports(tree),
    ...checkCalls(tree),
    ...checkShape(tree).faults,
    ...checkDocuments(tree),
  ];
  return all.map(({ file, line, rule }) => `${file}:${line} ${rule}`);
}

/** One file's faults, in a tree where main comes to it. */
function inFile(path: string, body: string, others: Record<string, string> = {}): string[] {
  const reach = `${head}import "../${path.replace("src/", "")}";\n`;
  const tree =
    path.endsWith(".test.ts") || path.startsWith("test/") ? {} : { "src/main/rackyard.ts": reach };
  return faults({ ...tree, ...others, [path]: head + body }).filter((fault) =>
    fault.startsWith(path),
  );
}

describe("the scanner", () => {
  const blanked = (text: string): string => readSource("a.ts", text).code;

  test.each([
    ["a line comment", "a // b\nc", "a     \nc"],
    ["a block comment over lines", "a /* b\n b */ c", "a     \n      c"],
    ["a string with a quote in it", `f("a\\"b", 'c')`, `f("    ", ' ')`],
    ["a template with code in it", "`a ${b + `c${d}`} e`", "`  ${b + ` ${d}`}  `"],
    ["an object inside a template's code", "`${f({ a: 1 })} x`", "`${f({ a: 1 })}  `"],
    ["a regular expression with quotes", `x = /"[/']/g; y`, "x = /     /g; y"],
    ["a division", "a / b / c", "a / b / c"],
  ])("blanks %s", (_what, text, expected) => {
    expect(blanked(text)).toBe(expected);
  });

  test("finds imports of every form, none in a string or a comment", () => {
    const source = readSource(
      "a.ts",
      [
        'import a from "./a.ts";',
        'import type { B,\n C } from "../b.ts";',
        'import "./c.ts";',
        'const d = await import("./d.ts");',
        'export { e } from "./e.ts";',
        'export * from "./f.ts";',
        'new URL("./g.ts", import.meta.url);',
        '// import "./no.ts"',
        'const text = `import "./no.ts"`;',
      ].join("\n"),
    );
    expect(source.imports.map(({ kind, from, line }) => `${line} ${kind} ${from}`)).toEqual([
      "1 import ./a.ts",
      "2 import ../b.ts",
      "4 import ./c.ts",
      "5 import ./d.ts",
      "6 re-export ./e.ts",
      "7 re-export ./f.ts",
      "8 program ./g.ts",
    ]);
  });
});

describe("who imports whom", () => {
  const target = (path: string): Record<string, string> => ({ [path]: head });

  test.each([
    ["src/model/a.ts", "../base/limits.ts", "src/base/limits.ts"],
    ["src/base/a.ts", "../model/b.ts", "src/model/b.ts"],
    ["src/git/a.ts", "../ssh/b.ts", "src/ssh/b.ts"],
    ["src/lease/holder/a.ts", "../broker/b.ts", "src/lease/broker/b.ts"],
    ["src/ci/executor/a.ts", "../archive/b.ts", "src/ci/archive/b.ts"],
    ["src/ci/layout/a.ts", "../../git/b.ts", "src/git/b.ts"],
    ["src/ci/builds/a.ts", "../scheduler.ts", "src/ci/scheduler.ts"],
    ["src/hypervisor/a.ts", "../testenv/b.ts", "src/testenv/b.ts"],
    ["src/testenv/a.ts", "../ci/layout/b.ts", "src/ci/layout/b.ts"],
    ["src/cli/a.ts", "../api/server.ts", "src/api/server.ts"],
    ["src/main/demo/a.ts", "../../store/b.ts", "src/store/b.ts"],
    ["src/main/a.ts", "../sim/b-port.ts", "src/sim/b-port.ts"],
    ["src/sim/a.ts", "../hypervisor/execute.ts", "src/hypervisor/execute.ts"],
    ["src/base/a.ts", "../../tools/b.ts", "tools/b.ts"],
  ])("%s may not import %s", (path, from, to) => {
    expect(inFile(path, `import "${from}";\n`, target(to))).toContain(`${path}:4 table`);
  });

  test.each([
    ["src/model/a.ts", "../base/assert.ts", "src/base/assert.ts"],
    ["src/gerrit/a.ts", "../ssh/b.ts", "src/ssh/b.ts"],
    ["src/ci/builds/a.ts", "../../lease/holder/b.ts", "src/lease/holder/b.ts"],
    ["src/ci/scheduler.ts", "./executor/b.ts", "src/ci/executor/b.ts"],
    ["src/ci/scheduler.ts", "../review/review-port.ts", "src/review/review-port.ts"],
    ["src/testenv/deep/er/a.ts", "../../../hypervisor/cell/b.ts", "src/hypervisor/cell/b.ts"],
    ["src/cli/a.ts", "../api/client.ts", "src/api/client.ts"],
    ["src/main/sim/command.ts", "../../sim/world.ts", "src/sim/world.ts"],
    ["src/git/a.test.ts", "../sim/world.ts", "src/sim/world.ts"],
    ["src/sim/a.ts", "../hypervisor/hypervisor-port.ts", "src/hypervisor/hypervisor-port.ts"],
    ["test/live/a.test.ts", "../../src/testenv/b.ts", "src/testenv/b.ts"],
  ])("%s may import %s", (path, from, to) => {
    expect(inFile(path, `import "${from}";\n`, target(to))).toEqual([]);
  });

  test.each([
    ["src/git/a.ts", "hono", "table"],
    ["src/lease/ledger/a.ts", "zod", "table"],
    ["src/model/a.ts", "kysely", "table"],
    ["src/model/a.ts", "node:fs", "pure"],
    ["src/lease/ledger/a.ts", "node:timers", "pure"],
    ["src/hypervisor/plan.ts", "node:os", "pure"],
    ["src/testenv/gate-program.ts", "zod", "program"],
  ])("%s may not import the module %s", (path, name, rule) => {
    expect(inFile(path, `import "${name}";\n`)).toContain(`${path}:4 ${rule}`);
  });

  test.each([
    ["src/store/a.ts", "kysely"],
    ["src/redfish/a.ts", "hono/cors"],
    ["src/api/a.ts", "@hono/node-server/serve-static"],
    ["src/git/a.test.ts", "vitest"],
    ["src/git/a.ts", "node:fs"],
    ["src/git/a.ts", "zod"],
    ["src/model/a.ts", "node:crypto"],
  ])("%s may import the module %s", (path, name) => {
    expect(inFile(path, `import "${name}";\n`)).toEqual([]);
  });

  test("a stage takes the shapes of a build as types, and nothing else of another stage", () => {
    const shapes = { "src/ci/builds/build-ports.ts": head };
    const typed = 'import type { A } from "../builds/build-ports.ts";\n';
    const value = 'import { a } from "../builds/build-ports.ts";\n';
    expect(inFile("src/ci/executor/a.ts", typed, shapes)).toEqual([]);
    expect(inFile("src/ci/executor/a.ts", value, shapes)).toEqual(["src/ci/executor/a.ts:4 table"]);
    expect(inFile("src/git/a.ts", typed.replace("..", "../ci"), shapes)).toEqual([
      "src/git/a.ts:4 table",
    ]);
  });

  test("a cycle is told once, with its files", () => {
    const found = faults({
      ...main,
      "src/base/a.ts": `${head}import "./b.ts";\n`,
      "src/base/b.ts": `${head}import "./c.ts";\n`,
      "src/base/c.ts": `${head}import type { A } from "./a.ts";\n`,
    });
    expect(found).toEqual(["src/base/a.ts:4 cycle"]);
  });

  test("dead files, barrels, re-exports, lost imports and unnamed programs are faults", () => {
    const found = faults({
      ...main,
      "src/base/a.ts": `${head}export { b } from "./b.ts";\nimport "./gone.ts";\n`,
      "src/base/b.ts": head,
      "src/base/unused.ts": head,
      "src/base/unused.test.ts": 'import "./unused.ts";\n',
      "src/lost/a.ts": head,
      "src/main/index.ts": `${head}new URL("../base/b.ts", import.meta.url);\n`,
    });
    expect(found.toSorted()).toEqual([
      "src/base/a.ts:4 re-export",
      "src/base/a.ts:5 import",
      "src/base/unused.ts:1 dead-file",
      "src/lost/a.ts:1 dead-file",
      "src/lost/a.ts:1 table",
      "src/main/index.ts:1 barrel",
      "src/main/index.ts:1 dead-file",
      "src/main/index.ts:4 program",
    ]);
  });
});

describe("banned calls", () => {
  test.each([
    ["src/model/a.ts", "const now = Date.now();", "pure"],
    ["src/lease/ledger/a.ts", "const now = new Date();", "pure"],
    ["src/ci/pipeline/a.ts", "const die = Math.random();", "pure"],
    ["src/hypervisor/carve-plan.ts", "setTimeout(f, ms);", "pure"],
    ["src/ipmi/codec.ts", "async function f(): Promise<void> {}", "pure"],
    ["src/model/a.ts", "process.cwd();", "pure"],
    ["src/git/a.ts", 'import { spawn } from "node:child_process";', "process"],
    ["src/base/a.ts", "execFileSync(name);", "process"],
    ["src/base/a.ts", "run(name, { shell: true });", "process"],
    ["src/cli/a.ts", 'console.log("hello");', "output"],
    ["src/git/a.ts", "process.stdout.write(text);", "output"],
    ["src/git/a.ts", "process.exit(1);", "exit"],
    ["src/git/a.ts", "const home = process.env.HOME;", "environment"],
    ["src/git/a.ts", "const a = b as any;", "any"],
    ["src/git/a.ts", "let a: any[] = [];", "any"],
    ["src/git/a.ts", `// ${["@", "ts"].join("")}-ignore`, "words"],
    ["test/live/a.test.ts", "test.only(name, f);", "test"],
    ["src/git/a.test.ts", 'vi.mock("./b.ts");', "test"],
  ])("%s: %s", (path, line, rule) => {
    expect(inFile(path, `${line}\n`)).toEqual([`${path}:4 ${rule}`]);
  });

  test.each([
    ["src/git/a.test.ts", "await new Promise((r) => setTimeout(r, 500));"],
    ["test/live/a.test.ts", "await sleep(1000);"],
    ["test/live/support/b.ts", 'import { setTimeout } from "node:timers/promises";'],
    ["src/git/a.test.ts", "await pause(20);"],
    ["test/scenarios/a.test.ts", "setInterval(f, 10);"],
  ])("issue 3, row 14: tidy refuses a planted sleep: %s: %s", (path, line) => {
    expect(inFile(path, `${line}\n`)).toContain(`${path}:4 sleep`);
  });

  test.each([
    ["src/git/a.ts", 'const text = "Date.now() and console.log";'],
    ["src/git/a.ts", "// console.log, execSync( and any"],
    ["src/cli/a.ts", "process.stdout.write(text);"],
    ["src/model/a.ts", "const at = new Date(nowMs).toISOString();"],
    ["src/base/command.ts", 'import { spawn } from "node:child_process";'],
    ["src/git/a.test.ts", "await until(() => seen, { timeoutMs: 5_000, what });"],
    ["src/git/a.ts", "const company: Company = many as Anything;"],
  ])("lets pass in %s: %s", (path, line) => {
    expect(inFile(path, `${line}\n`)).toEqual([]);
  });

  test("the example's name, registries' hosts and one machine's paths stand nowhere", () => {
    const host = ["deb", "debian", "org"].join(".");
    const path = ["", "opt", "rk"].join("/");
    const example = ["tiny", "rack"].join("");
    expect(
      faults({
        ...main,
        "src/base/a.ts": `${head}// like ${example}-node\n`,
        "images/debian-12/recipe": `URL=http://${host}/debian\n`,
        "docs/operating.md": `PATH=${path}/bin\n`,
        rackyard: `registry=${["https://registry", "npmjs", "org"].join(".")}\n`,
      }),
    ).toEqual([
      "src/base/a.ts:4 words",
      "images/debian-12/recipe:1 words",
      "docs/operating.md:1 words",
    ]);
  });
});

describe("sizes and names", () => {
  test("files, functions and lines are no longer than is good", () => {
    const body = "  call();\n";
    const long = `export function long(): void {\n${body.repeat(69)}}\n`;
    const half = body.repeat(40);
    const inner = `  const f = () => {\n${half}  };\n`;
    const nested = `export function open(): { a: number } {\n${half}${inner}}\n`;
    expect(inFile("src/git/a.ts", long)).toEqual(["src/git/a.ts:4 size"]);
    expect(inFile("src/git/a.ts", long.replace(body, ""))).toEqual([]);
    expect(inFile("src/git/a.ts", nested)).toEqual([]);
    expect(inFile("src/git/a.ts", `const a = {\n${"  b: 1,\n".repeat(90)}};\n`)).toEqual([]);
    expect(inFile("src/git/a.ts", "call();\n".repeat(598))).toEqual(["src/git/a.ts:1 size"]);
    expect(inFile("src/ci/scheduler.ts", "call();\n".repeat(298))).toEqual([
      "src/ci/scheduler.ts:1 size",
    ]);
    expect(inFile("src/git/a.ts", `// ${"x".repeat(98)}\n`)).toEqual(["src/git/a.ts:4 columns"]);
  });

  test("a file above 350 lines is named, and no fault", () => {
    const tree = treeOf({ "src/git/a.ts": head + "call();\n".repeat(400) });
    expect(checkShape(tree).warnings.map(({ what }) => what)).toEqual([
      "403 lines (good: 350, never more than 600)",
    ]);
  });

  test.each(["src/git/utils.ts", "src/git/aB.ts", "src/git/a_b.ts", "src/git/core.test.ts"])(
    "%s is no name",
    (path) => {
      expect(inFile(path, "")).toEqual([`${path}:1 name`]);
    },
  );

  test("a folder holds at most 25 files beside their tests, and each says what it is", () => {
    const files: Record<string, string> = {};
    for (let n = 0; n < 26; n++) files[`tools/a${n}.ts`] = n === 3 ? "call();\n" : head;
    expect(faults(files)).toEqual(["tools/a3.ts:1 header", "tools:1 size"]);
  });
});

describe("what is written in two places", () => {
  test("links and paths of documents point to something", () => {
    const text = [
      "[good](docs/a.md#two-words) [gone](docs/gone.md) [folder](docs/) [web](https://x.y/z)",
      "[heading](docs/a.md#none) `src/base/a.ts` `src/base/gone.ts` `src/<folder>/x.ts`",
      "```\n[not](read.md)\n```",
    ].join("\n");
    const files = {
      ...main,
      "src/base/a.ts": head,
      "README.md": text,
      "docs/a.md": "# Two words\n",
    };
    expect(faults(files)).toEqual(["README.md:1 link", "README.md:2 link", "README.md:2 link"]);
    expect(
      faults({ ...files, "README.md": "", "docs/decisions/1.md": "`src/base/gone.ts`" }),
    ).toEqual([]);
  });

  test("error codes stand in the table, in the document and in the code that raises them", () => {
    const codes = '  usage: { exit: 64 },\n  "no-row": { exit: 1 },\n  silent: { exit: 1 },\n';
    const errors = `${head}export const errorCodes = {\n${codes}} as const;\n`;
    const document =
      "| input | exit code | code | shown |\n|---|---|---|---|\n| x | 64 | `usage`, `silent` | here |\n| x | 1 | `gone` | `shown` |\n";
    const found = faults({
      "src/main/rackyard.ts": `${head}import "../base/errors.ts";\nfail("usage");\nfail("no-row");\n`,
      "src/base/errors.ts": errors,
      "docs/errors.md": document,
    });
    expect(found).toEqual(
      ["src/base/errors.ts:6 errors", "src/base/errors.ts:7 errors", "docs/errors.md:4 errors"].map(
        (fault) => fault.replace("errors.ts:6", "errors.ts:6"),
      ),
    );
  });

  test("a limit has a reason and is kept; times are not written out", () => {
    const kept = "  /** Why. */\n  usedMs: 1,\n  besideMs: 2,\n\n";
    const wrong = "  // --- title\n  bareMs: 3,\n  /** Why. */\n  unusedMs: 4,\n";
    const limits = `${head}export const limits = {\n${kept}${wrong}};\n`;
    const uses = "limits.usedMs + limits.besideMs + limits.bareMs;\n";
    const literals = "run({ timeoutMs: 5_000 });\nsetTimeout(f, 300);\n";
    const found = faults({
      "src/main/rackyard.ts": `${head}import "../base/limits.ts";\n${uses}${literals}`,
      "src/base/limits.ts": limits,
    });
    expect(found.toSorted()).toEqual([
      "src/base/limits.ts:10 limits",
      "src/base/limits.ts:12 limits",
      "src/main/rackyard.ts:6 limits",
      "src/main/rackyard.ts:7 limits",
    ]);
  });

  test("every requirement is cited by a test, whole", () => {
    const found = faults({
      "docs/requirements.md":
        "| id | what | section |\n|---|---|---|\n| L1 | a | 2 |\n| L12 | b | 2 |\n| H-3.1 | c | 2 |\n| F-1a | d | 3 |\n| L1 | e | 2 |\n",
      "src/git/a.test.ts": '// L12 and H-3.11 and F-1\ntest("F-1a, L1: works", f);\n',
    });
    expect(found).toEqual([
      "docs/requirements.md:5 requirements",
      "docs/requirements.md:7 requirements",
    ]);
  });
});

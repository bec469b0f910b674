import fc from "fast-check";
import { expect, test } from "vitest";
import { chooseEvidence, searchEvidence } from "./evidence.ts";

function searchWhole(file: string, isConsole: boolean, lines: string[]) {
  const found = searchEvidence(file, isConsole);
  for (const line of lines) found.push(line);
  return found.found();
}

/** Without the lines around. */
function search(file: string, isConsole: boolean, lines: string[]) {
  return searchWhole(file, isConsole, lines).map(({ context: _context, ...place }) => place);
}

test.each([
  ["kernel-panic", "[ 2.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x7f"],
  ["init-killed", "Attempted to kill init!"],
  ["oops", "Oops: 0002 [#1] SMP"],
  ["out-of-memory", "Out of memory: Killed process 12 (x)"],
  ["no-boot-device", "No bootable device."],
  ["ipxe-error", "Connection timed out (http://ipxe.org/4c0a6092)"],
  ["rackyard-fail", "@rackyard fail no disk"],
  ["disk-full", "cp: error writing 'x': No space left on device"],
])("L-4 rule %s finds its line, with its number", (rule, line) => {
  expect(search("rack/console-te1-n0.log", false, ["", line, "after"])).toEqual([
    { file: "rack/console-te1-n0.log", line: 2, text: line, rule },
  ]);
});

test("L-4 a panic that names init counts once", () => {
  const line = "Kernel panic - not syncing: Attempted to kill init!";
  expect(search("rack/c.log", false, [line])).toHaveLength(1);
  expect(search("rack/c.log", false, [line, "boots again", line])).toMatchObject([{ line: 1 }]);
});

test("L-4 silence after the last phase is evidence where nothing else is", () => {
  const lines = ["@rackyard phase=network", "noise"];
  expect(search("rack/c.log", false, lines)).toMatchObject([{ rule: "silence", line: 1 }]);
  expect(search("rack/c.log", false, [...lines, "@rackyard up"])).toEqual([]);
  expect(search("rack/c.log", false, [...lines, "Oops: 1"])).toMatchObject([{ rule: "oops" }]);
});

test("L-4 the job's own errors count in its console alone, the last one of them", () => {
  const lines = ["2026-11-24 08:00:00.000 | error: first", "error: second"];
  expect(search("console.log", true, lines)).toMatchObject([{ line: 2, text: "error: second" }]);
  expect(search("rack/c.log", false, lines)).toEqual([]);
});

test("L-4 time stamps, colours and control characters are not quoted", () => {
  const line = "2026-11-24 08:00:00.000 | \u001b[31merror:\u001b[0m bad\u0007";
  expect(search("console.log", true, [line])[0]?.text).toBe("error: bad");
});

test("L-4 machines' consoles come first; never more than ten, never over 200 characters", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(
          fc.constantFrom("console.log", "rack/a.log", "rack/b.log"),
          fc.array(fc.oneof(fc.string(), fc.constant(`Oops: ${"x".repeat(500)}`))),
        ),
        { maxLength: 20 },
      ),
      (files) => {
        const all = files.flatMap(([file, lines]) => search(file, file === "console.log", lines));
        const chosen = chooseEvidence(all);
        expect(chosen.length).toBeLessThanOrEqual(10);
        for (const evidence of chosen) expect(evidence.text.length).toBeLessThanOrEqual(200);
        const own = chosen.findIndex((evidence) => evidence.file === "console.log");
        if (own >= 0) {
          expect(chosen.slice(own).every((evidence) => evidence.file === "console.log")).toBe(true);
        }
      },
    ),
  );
});

test("section 10 the cause of a panic is the line before it, quoted with three lines around", () => {
  const lines = ["a", "b", "c", "mount: no root device", "", "Kernel panic - not syncing: x", "d"];
  expect(chooseEvidence(searchWhole("rack/c.log", false, lines))).toEqual([
    {
      file: "rack/c.log",
      line: 4,
      text: "mount: no root device",
      rule: "panic-cause",
      context: {
        from: 2,
        lines: ["b", "c", "mount: no root device", "Kernel panic - not syncing: x", "d"],
      },
    },
    {
      file: "rack/c.log",
      line: 6,
      text: "Kernel panic - not syncing: x",
      rule: "kernel-panic",
      context: {
        from: 3,
        lines: ["c", "mount: no root device", "", "Kernel panic - not syncing: x", "d"],
      },
    },
  ]);
});

test("section 10 of a traceback its last line is quoted, of several the last one's", () => {
  const lines = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in <module>',
    "KeyError: 'first'",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "Traceback (most recent call last):",
    '  File "b.py", line 2, in <module>',
    "    main()",
    "ValueError: no such rack",
    "the end",
  ].map((line) => `2026-11-24 08:00:00.000 | ${line}`);
  const [found] = chooseEvidence(searchWhole("console.log", true, lines));
  expect(found).toMatchObject({ line: 10, text: "ValueError: no such rack", rule: "traceback" });
  expect(found?.context).toMatchObject({ from: 7 });
  expect(found?.context?.lines.at(-1)).toBe("the end");
});

test("a place behind skipped lines keeps its number; evidence of ten places stays small", () => {
  const found = searchEvidence("rack/c.log", false);
  found.push("begin");
  found.skip(1_000);
  found.push("Oops: 1");
  expect(found.found()).toMatchObject([{ line: 1_002, context: { from: 1_002 } }]);
  const many = Array.from({ length: 30 }, () =>
    searchWhole("rack/c.log", false, [
      "x".repeat(5_000),
      "Oops: " + "y".repeat(5_000),
      "z".repeat(5_000),
    ]),
  ).flat();
  expect(JSON.stringify(chooseEvidence(many)).length).toBeLessThan(8_000);
});

import fc from "fast-check";
import { expect, test } from "vitest";
import { chooseEvidence, searchEvidence } from "./evidence.ts";

function search(file: string, isConsole: boolean, lines: string[]) {
  const found = searchEvidence(file, isConsole);
  for (const line of lines) found.push(line);
  return found.found();
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
  expect(search("rack/console-te1-n0.log", false, ["boot", line, "after"])).toEqual([
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

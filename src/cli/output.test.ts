import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { pairs } from "./fleet.ts";
import { agoText, bytesText, openOutput, spanText, timeText } from "./output.ts";

function caught(json: boolean, isTTY: boolean, env: Record<string, string> = {}) {
  const text = { out: "", err: "" };
  const out = openOutput(
    { json },
    {
      stdout: { write: (data) => (text.out += String(data)), isTTY },
      stderr: { write: (data) => (text.err += data), isTTY },
    },
    env,
  );
  return { out, text };
}

test("surface.md §2 with --json a result is one line of JSON, and talk is silent", () => {
  const { out, text } = caught(true, false);
  out.result({ a: 1 }, () => "for people");
  out.talk("waiting");
  expect(text).toEqual({ out: '{"a":1}\n', err: "" });
});

test("surface.md §2 results go to stdout, talk to stderr", () => {
  const { out, text } = caught(false, false);
  out.result({ a: 1 }, () => "for people");
  out.talk("waiting");
  expect(text).toEqual({ out: "for people\n", err: "waiting\n" });
});

test("surface.md §2 colours on a terminal only, and not where NO_COLOR or CI say so", () => {
  expect(caught(false, true).out.style("red", "x")).not.toBe("x");
  expect(caught(false, false).out.style("red", "x")).toBe("x");
  expect(caught(false, true, { NO_COLOR: "" }).out.style("red", "x")).toBe("x");
  expect(caught(false, true, { CI: "true" }).out.style("red", "x")).toBe("x");
});

test("tables are aligned by what is seen, not by the codes of colours", () => {
  const { out } = caught(false, true);
  const text = out.table(
    ["name", "state"],
    [
      [out.style("green", "a"), "ready"],
      ["longer", "x"],
    ],
  );
  const plain = stripVTControlCharacters(text).split("\n");
  expect(plain).toEqual(["NAME    STATE", "a       ready", "longer  x"]);
  expect(out.table(["name"], [])).toContain("none");
});

test("spans and sizes read as people say them", () => {
  expect([900, 12_000, 300_000, 7_500_000].map(spanText)).toEqual([
    "0.9 s",
    "12 s",
    "5 min",
    "2 h 5 min",
  ]);
  expect(agoText("2030-01-01T00:00:00Z", Date.parse("2030-01-01T00:00:05Z"))).toBe("5.0 s ago");
  expect(agoText("2030-01-01T00:01:00Z", Date.parse("2030-01-01T00:00:00Z"))).toBe("in 60 s");
  expect([12, 2_048, 5_242_880].map(bytesText)).toEqual(["12 B", "2.0 KiB", "5.0 MiB"]);
});

test("surface.md §2 on a terminal a table's last column ends at its edge, in a pipe it is whole", () => {
  const rows = [["1", "x".repeat(60)]];
  const write = (): boolean => true;
  const text = (isTTY: boolean): string =>
    openOutput({ json: false }, { stdout: { write, isTTY, columns: 40 }, stderr: { write } })
      .table(["n", "text"], rows)
      .split("\n")[1] ?? "";
  expect(text(true)).toBe(`1  ${"x".repeat(36)}…`);
  expect(text(false)).toBe(`1  ${"x".repeat(60)}`);
});

test("one thing is shown a field a line, its parts a line each, never as JSON", () => {
  const record = {
    id: "here:1",
    gone: null,
    labels: [],
    machines: { count: 2, memoryMiB: 256 },
    why: [
      { code: "te-leased", text: "here:1 is leased" },
      { code: "ahead", text: "1 earlier" },
    ],
    list: [{ name: "te1-n0", macs: ["00:1", "00:2"] }],
  };
  expect(pairs(caught(false, false).out, record).split("\n")).toEqual([
    "id        here:1",
    "labels    none",
    "machines  count 2, memoryMiB 256",
    "why       here:1 is leased",
    "          1 earlier",
    "list      name te1-n0, macs 00:1 00:2",
  ]);
});

test("times for people: to the second, the day where it is another one", () => {
  const now = Date.parse("2026-11-24T10:00:00.000Z");
  expect(timeText("2026-11-24T10:38:36.002Z", now)).toBe("10:38:36 UTC");
  expect(timeText("2026-11-25T00:38:36.002Z", now)).toBe("2026-11-25 00:38:36 UTC");
  expect(spanText(90 * 86_400_000)).toBe("90 days");
});

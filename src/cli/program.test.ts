import { expect, test } from "vitest";
import { numberOf, secondsOf, wholeId } from "./arguments.ts";
import { openProgram } from "./program.ts";
import type { Input } from "./program.ts";

function sample() {
  const calls: { words: string; input: Input; json: boolean; state: string }[] = [];
  const program = openProgram("0.1.0");
  const add = (words: string, more: { args?: string; takesCommand?: boolean } = {}): void =>
    program.add(words, {
      summary: `Do ${words}`,
      example: `rackyard ${words} example`,
      options: [["--limit <n>", "how many"]],
      ...more,
      run: ({ globals }, input) => {
        calls.push({ words, input, json: globals.json, state: globals.state });
        return Promise.resolve(words === "thing no" ? 1 : undefined);
      },
    });
  program.noun("thing", "Things");
  add("thing list");
  add("thing show", { args: "<name>" });
  add("thing no");
  add("lend", { takesCommand: true });
  add("lend list");
  const text = { out: "", err: "" };
  const run = (...argv: string[]): Promise<number> => {
    text.out = text.err = "";
    return program.run(argv, {
      env: {},
      signal: new AbortController().signal,
      streams: {
        stdout: { write: (data) => (text.out += String(data)) },
        stderr: { write: (data) => (text.err += data) },
      },
    });
  };
  return { calls, run, text };
}

test("surface.md §2 options of all commands may stand before and after the words", async () => {
  const { calls, run } = sample();
  expect(await run("--json", "thing", "list", "--state", "/x", "--limit", "3")).toBe(0);
  expect(await run("thing", "list", "--json")).toBe(0);
  expect(calls[0]).toMatchObject({ json: true, state: "/x", input: { options: { limit: "3" } } });
  expect(calls[1]).toMatchObject({ json: true, state: "/var/lib/rackyard" });
  expect(await run("thing", "no")).toBe(1);
});

test("surface.md §2 usage faults are exit 64, told once, with what to do", async () => {
  const { run, text } = sample();
  for (const words of [
    ["nonsense"],
    ["thing", "lst"],
    ["thing", "show"],
    ["thing", "list", "-x"],
  ]) {
    expect(await run(...words)).toBe(64);
    expect(text.err).toMatch(/^error: .*\(usage\)\n/);
    expect(text.err.match(/error:/g)).toHaveLength(1);
  }
  expect(await run("thing", "list", "surplus")).toBe(64);
});

test("surface.md §2 help everywhere, each with an example, is exit 0 on stdout", async () => {
  const { run, text } = sample();
  for (const words of [["help"], ["help", "thing"], ["thing", "list", "--help"], []]) {
    expect(await run(...words)).toBe(0);
    expect(text.out).toContain("Usage: rackyard");
  }
  await run("help", "thing", "list");
  expect(text.out).toContain("Example:\n  rackyard thing list example");
  await run("help", "thing");
  expect(text.out).toContain("Examples:\n  rackyard thing list example\n  rackyard thing show");
  await run("lend", "list", "--help");
  expect(text.out.split("Global Options:")[1]).not.toContain("--limit");
});

test("surface.md §2 what follows -- is a command, whatever its words are", async () => {
  const { calls, run } = sample();
  expect(await run("lend", "--limit", "2", "--", "list", "--json", "--help")).toBe(0);
  expect(calls[0]).toMatchObject({
    words: "lend",
    json: false,
    input: { options: { limit: "2" }, rest: ["list", "--json", "--help"] },
  });
  await expect(run("thing", "list", "--", "x")).rejects.toMatchObject({ code: "usage" });
});

test("arguments: numbers, times and short ids, or a fault of usage", async () => {
  expect(["4", "4,2", "http://x/changes/4"].map(numberOf)).toEqual([4, 4, 4]);
  expect(() => numberOf("x")).toThrow(/no change/);
  expect(["90", "30m", "2h", "7d"].map((text) => secondsOf(text, "--for"))).toEqual([
    90, 1_800, 7_200, 604_800,
  ]);
  expect(() => secondsOf("soon", "--for")).toThrow(/no time/);
  const ids = ["aaaa1111-1111-4111-8111-111111111111", "aaaa2222-1111-4111-8111-111111111111"];
  const among = () => Promise.resolve(ids.map((id) => ({ id })));
  expect(await wholeId("aaaa1", "build", among)).toBe(ids[0]);
  await expect(wholeId("aaaa", "build", among)).rejects.toMatchObject({ code: "usage" });
  await expect(wholeId("ffff", "build", among)).rejects.toMatchObject({ code: "not-found" });
  await expect(wholeId("; rm", "build", among)).rejects.toMatchObject({ code: "usage" });
});

import { expect, test } from "vitest";
import { openOutput } from "./output.ts";
import { terminalText } from "./terminal-text.ts";

const red = "\u001b[31mred\u001b[0m";

test.each([
  ["\u001b]0;not your title\u0007after", "after"],
  ["\u001b]52;c;bm90IHlvdXJz\u001b\\after", "after"],
  ["\u001b]0;never ended\nnext line", "0;never ended\nnext line"],
  ["\u001b[2J\u001b[1;1Hfalse line", "false line"],
  ["\u001bPq\u001b\\\u001bcafter", "after"],
  ["\u009b2Jafter\u0008\u007f", "2Jafter"],
  ["over\rwritten\r\n\ttab", "overwritten\n\ttab"],
  ["user\u202e txt.exe", "user txt.exe"],
  [`a ${red} word é ٣ 😀`, `a ${red} word é ٣ 😀\u001b[0m`],
  ["\u001b[31mnot taken back", "\u001b[31mnot taken back\u001b[0m"],
])("case terminal-sequences: %j on a terminal is %j", (written, shown) => {
  expect(terminalText(written)).toBe(shown);
});

test("case terminal-sequences: whatever a command prints; a pipe gets it as it is", () => {
  const written = "\u001b]0;title\u0007line";
  for (const isTTY of [true, false]) {
    const said: string[] = [];
    const stream = { isTTY, write: (data: string | Uint8Array) => void said.push(String(data)) };
    const out = openOutput({ json: false }, { stdout: stream, stderr: stream }, {});
    out.record({}, () => written);
    out.result({}, () => out.table(["a", "b"], [["x", written]]));
    out.write(written);
    out.talk(written);
    expect(said).toHaveLength(4);
    for (const text of said) expect(text.includes("\u001b]")).toBe(!isTTY);
  }
});

/**
 * What other people wrote, on its way to a terminal: colours pass, nothing else that a terminal
 * obeys (ECMA-48: titles, clipboard, cursor, clearing) and no marks that turn the order of letters.
 * Files and pipes get the bytes as they are.
 */

const ESC = String.fromCodePoint(0x1b);
const BEL = String.fromCodePoint(0x07);
/** All of C0 but tab and newline, DEL, C1. */
const controls = [
  [0x00, 0x08],
  [0x0b, 0x1f],
  [0x7f, 0x9f],
]
  .map((range) => range.map((code) => String.fromCodePoint(code)).join("-"))
  .join("");
const orders = "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069";

const parts = [
  `(${ESC}\\[[0-9;:]*m)`, // colours: kept
  `${ESC}[\\]PX^_][^\\n${BEL}${ESC}]*(?:${BEL}|${ESC}\\\\)`, // a string of its own, with its end
  `${ESC}\\[[0-?]*[ -/]*[@-~]`,
  `${ESC}[ -/]*[0-~]`,
  `[${controls}${orders}]`,
];
const obeyed = new RegExp(parts.join("|"), "g");

export function terminalText(text: string): string {
  const clean = text
    .replaceAll(/\r\n/g, "\n")
    .replaceAll(obeyed, (_, colour?: string) => colour ?? "");
  // A colour that was not taken back must not reach the next line.
  return clean.includes(ESC) && !clean.endsWith(`${ESC}[0m`) ? `${clean}${ESC}[0m` : clean;
}

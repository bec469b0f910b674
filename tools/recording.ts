/**
 * Records a command's lines as they come and draws them as an SVG in which each appears when it
 * did, time running four times as fast: the recording in the README. No line is made up.
 * Usage: node tools/recording.ts OUT.svg COMMAND…
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";

const SPEED = 4;
const LINE_HEIGHT = 19;
const CHARACTER_WIDTH = 8.4;
const [out, program, ...words] = process.argv.slice(2);
if (out === undefined || program === undefined) {
  console.error("usage: node tools/recording.ts OUT.svg COMMAND…");
  process.exit(64);
}

type Line = { readonly atMs: number; readonly text: string };
const lines: Line[] = [{ atMs: 0, text: `$ ${[program, ...words].join(" ")}` }];
const began = performance.now();
const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
for (const stream of [child.stdout, child.stderr]) {
  createInterface({ input: stream }).on("line", (text) => {
    lines.push({ atMs: performance.now() - began, text });
    console.log(text);
  });
}
const [status] = (await once(child, "close")) as [number];
await writeFile(out, draw(lines));
process.exitCode = status;

function draw(all: readonly Line[]): string {
  const columns = Math.max(80, ...all.map(({ text }) => text.length));
  const width = Math.round(columns * CHARACTER_WIDTH + 32);
  const height = all.length * LINE_HEIGHT + 32;
  const rows = all.map(({ atMs, text }, index) => {
    const delay = (atMs / 1000 / SPEED).toFixed(2);
    const shown = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    const y = 28 + index * LINE_HEIGHT;
    const kind = index === 0 ? ' class="typed"' : "";
    return `<text x="16" y="${y}"${kind} style="animation-delay:${delay}s">${shown}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img"
 aria-label="A recording of ${program}">
<style>
rect { fill: #14171c } text { fill: #d5dae1; font: 14px ui-monospace, monospace; white-space: pre;
 opacity: 0; animation: appear .01s linear forwards } .typed { fill: #7fd1a0 }
@keyframes appear { to { opacity: 1 } }
@media (prefers-reduced-motion: reduce) { text { opacity: 1; animation: none } }
</style>
<rect width="100%" height="100%" rx="8"/>
${rows.join("\n")}
</svg>
`;
}

/**
 * The last bytes of a long console: two segments on disk, the older of which goes when
 * the newer is full. Our own lines that so go out are kept aside. At the end all of it
 * moves behind the console's head, after a line that says what is missing.
 */
import { constants } from "node:fs";
import { open, readdir, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { limits } from "../../base/limits.ts";
import { stampLine } from "./console-line.ts";
import type { ConsoleLine, writeAt } from "./console-line.ts";

export type Tail = {
  /** Writes the first of these lines, as many as fit where it is; gives their number. */
  write(lines: readonly ConsoleLine[]): Promise<number>;
  /** Writes gap, own lines and tail into `file` from `position`; gives where it ends. */
  moveTo(file: FileHandle, position: number, atMs: number): Promise<number>;
  close(): Promise<void>;
};

type Segment = {
  readonly path: string;
  readonly number: number;
  readonly file: FileHandle;
  size: number;
  lines: number;
  own: string[];
};

export function openTail(folder: string, tailBytes: number, write: typeof writeAt): Tail {
  const room = tailBytes / 2;
  let older: Segment | undefined;
  let newer: Segment | undefined;
  let resumed = false;
  let goneLines = 0;
  let goneBytes = 0;
  let ownGone: string[] = [];

  /** `tail.N`, N counting up: the two that there are say which is the older. */
  async function openSegment(number: number): Promise<Segment> {
    const path = join(folder, `tail.${number}`);
    const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o644);
    const { size } = await file.stat();
    return { path, number, file, size, lines: 0, own: [] };
  }

  async function ready(): Promise<Segment> {
    if (newer) return newer;
    const numbers = (await readdir(folder))
      .flatMap((name) => /^tail\.(\d+)$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((x, y) => x - y)
      .slice(-2);
    resumed = numbers.length > 0;
    if (numbers.length === 2) older = await openSegment(numbers[0]!);
    newer = await openSegment(numbers.at(-1) ?? 0);
    return newer;
  }

  /** The next segment's turn: what the oldest has goes first, so that there is room. */
  async function turn(after: Segment): Promise<Segment> {
    if (older) {
      await older.file.close();
      await rm(older.path, { force: true });
      goneLines += older.lines;
      goneBytes += older.size;
      ownGone = lastOf([...ownGone, ...older.own]);
      older = undefined;
    }
    newer = await openSegment(after.number + 1);
    older = after;
    return newer;
  }

  return {
    async write(lines) {
      let segment = await ready();
      const first = lines[0]!;
      if (segment.size > 0 && segment.size + first.bytes > room) segment = await turn(segment);
      let { size } = segment;
      let count = 0;
      // the first in any case: one line may be longer than a segment
      do size += lines[count++]!.bytes;
      while (count < lines.length && size + lines[count]!.bytes <= room);
      const piece = lines.slice(0, count);
      const text = piece.map((line) => line.text).join("");
      await write(segment.file, Buffer.from(text), segment.size);
      segment.size = size;
      segment.lines += count;
      segment.own.push(...piece.filter((line) => line.own).map((line) => line.text));
      return count;
    },
    async moveTo(file, position, atMs) {
      await ready();
      let at = position;
      const say = async (text: string): Promise<void> => {
        await write(file, Buffer.from(text), at);
        at += Buffer.byteLength(text);
      };
      if (goneBytes > 0 || resumed) {
        const least = resumed ? "at least " : "";
        const gone = `${least}${goneLines} lines (${goneBytes} bytes) are left out here`;
        await say(`${stampLine(`… the console is too long to keep whole: ${gone} …`, atMs)}\n`);
        await say(ownGone.join(""));
      }
      const buffer = Buffer.alloc(256 * 1024);
      for (const segment of [older, newer]) {
        if (!segment) continue;
        for (let from = 0; from < segment.size;) {
          const want = Math.min(buffer.length, segment.size - from);
          const { bytesRead } = await segment.file.read(buffer, 0, want, from);
          if (bytesRead === 0) break;
          await write(file, buffer.subarray(0, bytesRead), at);
          at += bytesRead;
          from += bytesRead;
        }
      }
      return at;
    },
    async close() {
      await older?.file.close();
      await newer?.file.close();
    },
  };
}

/** As many of the last as are kept. */
function lastOf(texts: readonly string[]): string[] {
  let size = 0;
  return texts
    .toReversed()
    .filter((text) => (size += text.length) <= limits.buildConsoleOwnBytes)
    .toReversed();
}

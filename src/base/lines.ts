/**
 * Cuts a byte stream into lines of UTF-8, safe against characters split between chunks.
 * A line longer than the limit is cut there and the cut is marked; nothing is unbounded.
 */

export type LineSplitter = { push(chunk: Uint8Array): void; end(): void };

export function openLineSplitter(limitBytes: number, onLine: (line: string) => void): LineSplitter {
  let parts: Uint8Array[] = [];
  let size = 0;
  let dropped = 0;

  const tell = (bytes: Buffer): void => onLine(bytes.toString("utf8").replace(/\r$/, ""));
  const keep = (bytes: Uint8Array): void => {
    const room = Math.max(0, limitBytes - size);
    if (room > 0) parts.push(bytes.subarray(0, room));
    size += Math.min(room, bytes.length);
    dropped += Math.max(0, bytes.length - room);
  };
  const flush = (): void => {
    const line = Buffer.concat(parts);
    if (dropped === 0) tell(line);
    else {
      const whole = wholeCharacters(line);
      const lost = dropped + line.length - whole.length;
      onLine(`${whole.toString("utf8")}… (${lost} bytes of this line dropped)`);
    }
    parts = [];
    size = 0;
    dropped = 0;
  };

  return {
    push(chunk) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        // almost all lines: whole in one chunk and short
        if (size === 0 && dropped === 0 && at - from <= limitBytes) tell(bytes.subarray(from, at));
        else {
          keep(chunk.subarray(from, at));
          flush();
        }
        from = at + 1;
      }
      if (from < chunk.length) keep(chunk.slice(from));
    },
    end() {
      if (size > 0 || dropped > 0) flush();
    },
  };
}

/** Without the bytes of a character that the cut went through (UTF-8: up to three). */
function wholeCharacters(bytes: Buffer): Buffer {
  let at = bytes.length - 1;
  for (let back = 0; back < 3 && at > 0 && (bytes[at]! & 0xc0) === 0x80; back++) at--;
  const first = bytes[at] ?? 0;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
  return at + length > bytes.length ? bytes.subarray(0, at) : bytes;
}

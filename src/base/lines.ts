/**
 * Cuts a byte stream into lines of UTF-8, safe against characters split between chunks.
 * A line longer than the limit is cut there and the cut is marked; nothing is unbounded.
 */

export type LineSplitter = { push(chunk: Uint8Array): void; end(): void };

export function openLineSplitter(limitBytes: number, onLine: (line: string) => void): LineSplitter {
  let parts: Uint8Array[] = [];
  let size = 0;
  let dropped = 0;

  const keep = (bytes: Uint8Array): void => {
    const room = Math.max(0, limitBytes - size);
    if (room > 0) parts.push(bytes.subarray(0, room));
    size += Math.min(room, bytes.length);
    dropped += Math.max(0, bytes.length - room);
  };
  const flush = (): void => {
    const text = Buffer.concat(parts).toString("utf8").replace(/\r$/, "");
    onLine(dropped > 0 ? `${text}… (${dropped} bytes of this line dropped)` : text);
    parts = [];
    size = 0;
    dropped = 0;
  };

  return {
    push(chunk) {
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        keep(chunk.subarray(from, at));
        flush();
        from = at + 1;
      }
      if (from < chunk.length) keep(chunk.slice(from));
    },
    end() {
      if (size > 0 || dropped > 0) flush();
    },
  };
}

/**
 * Reads a tar stream as GNU tar writes it (ustar, GNU long names; pax paths and sizes too), one
 * entry after another, in bounded memory. Names are bytes: two that differ only in what is no
 * UTF-8 are two names. That, and that a header of a stranger's choice is never held in memory
 * whatever its size, is why no package is used. Layout: tar(5), "struct posix_header".
 *
 *     0 name[100]  100 mode uid gid  124 size[12]  136 mtime  148 chksum[8]  156 typeflag
 *   157 linkname[100]  257 magic[6]  345 prefix[155]  500 pad
 */

export type TarEntry = {
  /** As in the archive. */
  readonly name: Buffer;
  readonly type: TarType;
  readonly bytes: number;
  /** To be read before the next entry, or not at all. */
  readonly body: AsyncIterable<Buffer>;
};

export type TarType = "file" | "folder" | "link" | "other";

/** The stream is no tar, or ends in the middle of one. */
export class TarError extends Error {}

const BLOCK = 512;
/** A long name or a pax header; the kernel's paths have 4 KiB. */
const HEADER_BYTES = 64 * 1024;

/** Ends at the archive's end, a block of zeros; throws TarError where the stream ends before. */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const input = openInput(source);
  let longName: Buffer | undefined;
  let pax: ReadonlyMap<string, Buffer> = new Map();
  try {
    for (;;) {
      const header = await input.take(BLOCK);
      if (header.every((byte) => byte === 0)) return;
      checkSum(header);
      const flag = String.fromCharCode(header[156]!);
      const size = numberAt(header, 124, 12);
      if (flag === "L" || flag === "x") {
        if (size > HEADER_BYTES) throw new TarError(`a header of ${size} bytes`);
        const text = (await input.take(padded(size))).subarray(0, size);
        if (flag === "L") longName = untilNul(text);
        else pax = paxRecords(text);
        continue;
      }
      if (flag === "K" || flag === "g") {
        await input.skip(padded(size));
        continue;
      }
      const bytes = pax.has("size") ? Number(pax.get("size")!.toString("latin1")) : size;
      if (!Number.isSafeInteger(bytes)) throw new TarError("an entry without a size");
      const name = pax.get("path") ?? longName ?? shortName(header);
      longName = undefined;
      pax = new Map();
      const body = input.body(bytes);
      yield { name, type: typeOf(flag), bytes, body: body.chunks() };
      await body.skip();
    }
  } finally {
    await input.end();
  }
}

function openInput(source: AsyncIterable<Uint8Array>) {
  const iterator = source[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);

  /** Up to `wanted` bytes, at least one. */
  async function some(wanted: number): Promise<Buffer> {
    while (rest.length === 0) {
      const next = await iterator.next();
      if (next.done) throw new TarError("the stream ends in the middle");
      const { buffer, byteOffset, byteLength } = next.value;
      rest = Buffer.from(buffer, byteOffset, byteLength);
    }
    const piece = rest.subarray(0, wanted);
    rest = rest.subarray(piece.length);
    return piece;
  }

  async function skip(bytes: number): Promise<void> {
    for (let left = bytes; left > 0;) left -= (await some(left)).length;
  }

  return {
    skip,
    async take(bytes: number): Promise<Buffer> {
      const pieces: Buffer[] = [];
      for (let left = bytes; left > 0;) {
        const piece = await some(left);
        pieces.push(piece);
        left -= piece.length;
      }
      return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
    },
    body(bytes: number) {
      let left = bytes;
      return {
        async *chunks(): AsyncGenerator<Buffer> {
          while (left > 0) {
            const piece = await some(left);
            left -= piece.length;
            yield piece;
          }
        },
        skip: () => skip(left + padded(bytes) - bytes),
      };
    },
    end: async (): Promise<void> => void (await iterator.return?.()),
  };
}

function padded(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

function checkSum(header: Buffer): void {
  let sum = 8 * 32; // the sum's own field counts as blanks
  for (const [index, byte] of header.entries()) if (index < 148 || index >= 156) sum += byte;
  if (sum !== numberAt(header, 148, 8)) throw new TarError("the stream is no tar");
}

/** Octal digits, or base 256 behind a set first bit (GNU, for 8 GiB and more). */
function numberAt(header: Buffer, at: number, length: number): number {
  const field = header.subarray(at, at + length);
  if ((field[0]! & 0x80) !== 0) {
    return field.reduce((sum, byte, index) => sum * 256 + (index === 0 ? byte & 0x7f : byte), 0);
  }
  const text = untilNul(field).toString("latin1").trim();
  return /^[0-7]*$/.test(text) ? Number.parseInt(text || "0", 8) : Number.NaN;
}

function shortName(header: Buffer): Buffer {
  const name = untilNul(header.subarray(0, 100));
  const isUstar = header.subarray(257, 263).equals(Buffer.from("ustar\0"));
  const prefix = isUstar ? untilNul(header.subarray(345, 500)) : Buffer.alloc(0);
  return prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from("/"), name]);
}

/** `LENGTH KEY=VALUE\n`, the length in bytes and of the whole (POSIX pax). */
function paxRecords(text: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>();
  for (let at = 0; at < text.length;) {
    const blank = text.indexOf(0x20, at);
    const length = Number(text.subarray(at, blank).toString("latin1"));
    const equals = text.indexOf(0x3d, blank);
    const end = at + length;
    if (blank < 0 || equals < 0 || !(length > 0) || equals > end || end > text.length) {
      throw new TarError("a pax header that is none");
    }
    const key = text.subarray(blank + 1, equals).toString("latin1");
    records.set(key, text.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

function untilNul(field: Buffer): Buffer {
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end));
}

function typeOf(flag: string): TarType {
  if (flag === "0" || flag === "\0" || flag === "7") return "file";
  if (flag === "5") return "folder";
  return flag === "1" || flag === "2" ? "link" : "other";
}

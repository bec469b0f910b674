/**
 * Randomness as a port: ids, tokens, jitter. The simulator's comes from a seed.
 */
import { randomBytes, randomUUID } from "node:crypto";
import type { Uuid } from "./ids.ts";

export type Random = {
  bytes(count: number): Buffer;
  uuid4(): Uuid;
  /** RFC 9562 §5.7: sorts by time; for records of events. */
  uuid7(nowMs: number): Uuid;
  /** 0 ≤ x < 1 */
  fraction(): number;
};

export const systemRandom: Random = {
  bytes: (count) => randomBytes(count),
  uuid4: () => randomUUID(),
  uuid7: (nowMs) => uuid7(nowMs, randomBytes(10)),
  fraction: () => randomBytes(4).readUInt32BE() / 2 ** 32,
};

function uuid7(nowMs: number, random: Buffer): Uuid {
  const bytes = Buffer.alloc(16);
  bytes.writeUIntBE(nowMs, 0, 6);
  random.copy(bytes, 6);
  bytes[6] = (bytes[6]! & 0x0f) | 0x70;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [8, 12, 16, 20, 32]
    .map((end, index, ends) => hex.slice(index === 0 ? 0 : ends[index - 1], end))
    .join("-");
}

/** A secret of 256 bits with its prefix, e.g. `ry_…` (surface.md §6), base64url. */
export function makeToken(random: Random, prefix: string): string {
  return prefix + random.bytes(32).toString("base64url");
}

/**
 * Shapes of ids and names, and ids computed from others. Pure: nothing random is made here
 * (base/random.ts does). Ids that people or paths shorten are UUID v4, records of events v7
 * (surface.md §5); a domain's is v5 of the host and its name (te-host.md §0).
 */
import { createHash, createHmac } from "node:crypto";
import { assert } from "./assert.ts";

export type Uuid = string;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** RFC 9562 §5.5: name-based UUID (SHA-1) of `name` within `namespace`, itself a UUID. */
export function uuid5(namespace: Uuid, name: string): Uuid {
  assert(isUuid(namespace), `not a UUID: ${namespace}`);
  const bytes = createHash("sha1")
    .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
    .update(name, "utf8")
    .digest()
    .subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return uuidText(bytes);
}

function uuidText(bytes: Buffer): Uuid {
  const hex = bytes.toString("hex");
  return [8, 12, 16, 20, 32]
    .map((end, index, ends) => hex.slice(index === 0 ? 0 : ends[index - 1], end))
    .join("-");
}

/** A UUID with the shape of v4 whose bits come from `secret` and `name`: the same, the same id. */
export function keyedUuid(secret: Uint8Array, name: string): Uuid {
  const bytes = createHmac("sha256", secret).update(name, "utf8").digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return uuidText(bytes);
}

/** The first eight digits, as people and tap names use them. */
export function shortId(id: Uuid): string {
  return id.slice(0, 8);
}

export function sha256Hex(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/**
 * The reset certificate's form (H-8.2): canonical JSON, signed by the host's Ed25519 key. The
 * host signs, broker and clients verify; both import this. Pure: the key comes as a value.
 * Canonical is RFC 8785: members sorted by UTF-16 code units, ECMAScript's own numbers and
 * strings, no blanks.
 */
import { createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { assert } from "../base/assert.ts";

/** RFC 8785 text of a JSON value; members that are `undefined` are left out. */
export function canonicalJson(value: unknown): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") {
    return JSON.stringify(value);
  }
  if (typeof value === "number") {
    assert(Number.isFinite(value), "canonical JSON has no infinite numbers");
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  assert(typeof value === "object", `canonical JSON cannot hold a ${typeof value}`);
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(",")}}`;
}

const PREFIX = "ed25519:";

/** The certificate with its member `signature` (`ed25519:` and base64). */
export function signCertificate<T extends object>(
  unsigned: T,
  privateKey: KeyObject,
): T & { signature: string } {
  const signature = sign(null, signedBytes(unsigned), privateKey).toString("base64");
  return { ...unsigned, signature: PREFIX + signature };
}

/** Whether the certificate bears a signature by this key (SPKI PEM) over all its members. */
export function verifyCertificate(certificate: object, publicKeyPem: string): boolean {
  const signature: unknown = Reflect.get(certificate, "signature");
  if (typeof signature !== "string" || !signature.startsWith(PREFIX)) return false;
  try {
    const bytes = Buffer.from(signature.slice(PREFIX.length), "base64");
    return verify(null, signedBytes(certificate), createPublicKey(publicKeyPem), bytes);
  } catch {
    return false; // no key, or not one of this kind
  }
}

function signedBytes(certificate: object): Buffer {
  const { signature: _, ...unsigned } = certificate as { signature?: unknown };
  return Buffer.from(canonicalJson(unsigned), "utf8");
}

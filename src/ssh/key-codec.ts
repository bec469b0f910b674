/**
 * SSH keys as text and bytes: public keys (RFC 4253 §6.6, RFC 8709), OpenSSH's private key file
 * (PROTOCOL.key), fingerprints. Pure; keys are made in keys.ts, and only there.
 *
 * A string on the wire is its length (uint32, big endian) and its bytes; an mpint a string with
 * a leading zero byte where its first bit is set.
 */
import { createHash, createPublicKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { assert, present } from "../base/assert.ts";

/** `ssh-ed25519 AAAA…` of a key, private or public; Ed25519 and RSA. */
export function publicKeyLine(key: KeyObject): string {
  const blob = publicBlob(key);
  return `${blobType(blob)} ${blob.toString("base64")}`;
}

/** OpenSSH's own form of an Ed25519 private key, without passphrase; ends with a newline. */
export function opensshPrivateKey(key: KeyObject, comment: string): string {
  const { d, x } = key.export({ format: "jwk" });
  const seed = Buffer.from(present(d, "private part"), "base64url");
  const point = Buffer.from(present(x, "public part"), "base64url");
  const blob = publicBlob(key);
  const check = createHash("sha256").update(seed).digest().subarray(0, 4);
  const secret = Buffer.concat([
    check,
    check,
    wireString("ssh-ed25519"),
    wireString(point),
    wireString(Buffer.concat([seed, point])),
    wireString(comment),
  ]);
  const padding = Buffer.from([1, 2, 3, 4, 5, 6, 7].slice(0, (8 - (secret.length % 8)) % 8));
  const file = Buffer.concat([
    Buffer.from("openssh-key-v1\0"),
    wireString("none"),
    wireString("none"),
    wireString(""),
    uint32(1),
    wireString(blob),
    wireString(Buffer.concat([secret, padding])),
  ]);
  const lines = file.toString("base64").match(/.{1,70}/g) ?? [];
  const rule = (word: string): string => `-----${word} OPENSSH PRIVATE KEY-----`;
  return [rule("BEGIN"), ...lines, rule("END"), ""].join("\n");
}

/** `SHA256:…` as ssh shows it, of a line `type base64 [comment]`. */
export function fingerprint(publicLine: string): string {
  const blob = Buffer.from(present(publicLine.split(" ")[1], "key"), "base64");
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}

function publicBlob(key: KeyObject): Buffer {
  const jwk = (key.type === "private" ? createPublicKey(key) : key).export({ format: "jwk" });
  if (key.asymmetricKeyType === "ed25519") {
    const point = Buffer.from(present(jwk.x, "public part"), "base64url");
    return Buffer.concat([wireString("ssh-ed25519"), wireString(point)]);
  }
  assert(key.asymmetricKeyType === "rsa", `no SSH form for ${key.asymmetricKeyType} here`);
  return Buffer.concat([
    wireString("ssh-rsa"),
    mpint(Buffer.from(present(jwk.e, "exponent"), "base64url")),
    mpint(Buffer.from(present(jwk.n, "modulus"), "base64url")),
  ]);
}

function blobType(blob: Buffer): string {
  return blob.subarray(4, 4 + blob.readUInt32BE(0)).toString("latin1");
}

function wireString(value: string | Buffer): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function mpint(bytes: Buffer): Buffer {
  return wireString(bytes[0]! & 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

import { generateKeyPairSync } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalJson, signCertificate, verifyCertificate } from "./certificate.ts";

test("H-8.2 canonical JSON sorts by UTF-16 units and writes numbers as RFC 8785 shows", () => {
  const numbers = [333333333.3333333, 1e30, 4.5, 2e-3, 0.000000000000000000000000001];
  expect(canonicalJson({ numbers, literals: [null, true, false] })).toBe(
    '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27]}',
  );
  // RFC 8785 §3.2.3: order by UTF-16 code units, not by code points
  expect(canonicalJson({ "\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\ud83d\ude00": 5 })).toBe(
    '{"\\r":2,"1":4,"\u20ac":1,"\ud83d\ude00":5,"\ufb33":3}',
  );
});

test("H-8.2 canonical JSON reads back as the same value, in whatever order it was given", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = canonicalJson(value);
      expect(canonicalJson(JSON.parse(text))).toBe(text);
    }),
  );
});

test("L5 a certificate verifies by its host's key alone, and not once anything is changed", () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const other = generateKeyPairSync("ed25519").publicKey;
  const pem = (key: typeof publicKey): string =>
    key.export({ type: "spki", format: "pem" }).toString();
  const signed = signCertificate({ schema: "reset/1", te: 3, epoch: 412, disks: [] }, privateKey);
  expect(verifyCertificate(signed, pem(publicKey))).toBe(true);
  expect(verifyCertificate(JSON.parse(JSON.stringify(signed)) as object, pem(publicKey))).toBe(
    true,
  );
  expect(verifyCertificate(signed, pem(other))).toBe(false);
  expect(verifyCertificate({ ...signed, epoch: 413 }, pem(publicKey))).toBe(false);
  expect(verifyCertificate({ ...signed, extra: 1 }, pem(publicKey))).toBe(false);
  expect(verifyCertificate({ ...signed, signature: "ed25519:AAAA" }, pem(publicKey))).toBe(false);
  expect(verifyCertificate(signed, "no key")).toBe(false);
});

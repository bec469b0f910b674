import * as fc from "fast-check";
import { expect, test } from "vitest";
import { readImageHeader } from "./header-codec.ts";

const MiB = 1024 * 1024;
const max = 100 * MiB;
const none = new Uint8Array(0);

/** Golden: `qemu-img create -f qcow2 x 10M` (QEMU 7.2), its first bytes. */
const golden3 = Buffer.from(
  "514649fb00000003000000000000000000000000000000100000000000a00000" +
    "0000000000000001000000000003000000000000000100000000000100000000" +
    "0000000000000000000000000000000000000000000000000000000000000000" +
    "00000004000000700000000000000000" +
    "6803f85700000010000064697274792062697400000000000000000000000000",
  "hex",
);
/** Golden: the same with `compat=0.10`. */
const golden2 = Buffer.concat([golden3.subarray(0, 72), Buffer.alloc(200)]);
golden2.writeUInt32BE(2, 4);

const look = (bytes: Uint8Array, tail: Uint8Array = none) =>
  readImageHeader(bytes, tail, bytes.length, max);
const changed = (write: (bytes: Buffer) => void, from = golden3): Buffer => {
  const bytes = Buffer.alloc(4096);
  from.copy(bytes);
  write(bytes);
  return bytes;
};

test("H-7.5 qcow2 of version 2 and 3 is taken, with its virtual size", () => {
  const header = { format: "qcow2", virtualBytes: 10 * MiB };
  expect(look(golden3)).toEqual({ ok: true, header });
  expect(look(golden2)).toEqual({ ok: true, header });
});

test("H-7.5 raw is taken at its file's size", () => {
  const bytes = Buffer.alloc(4096, 7);
  expect(look(bytes)).toEqual({ ok: true, header: { format: "raw", virtualBytes: 4096 } });
});

const dangerous: [string, Buffer][] = [
  ["a backing file", changed((b) => b.writeBigUInt64BE(512n, 8))],
  ["a backing file's length alone", changed((b) => b.writeUInt32BE(9, 16))],
  ["encryption (AES)", changed((b) => b.writeUInt32BE(1, 32))],
  ["encryption (LUKS)", changed((b) => b.writeUInt32BE(2, 32))],
  ["internal snapshots", changed((b) => b.writeUInt32BE(1, 60))],
  ["the corrupt flag", changed((b) => b.writeBigUInt64BE(2n, 72))],
  ["an external data file", changed((b) => b.writeBigUInt64BE(4n, 72))],
  ["an unknown incompatible bit", changed((b) => b.writeBigUInt64BE(1n << 40n, 72))],
  ["a backing format's extension", changed((b) => b.writeUInt32BE(0xe2792aca, 112))],
  ["a data file's extension", changed((b) => b.writeUInt32BE(0x44415441, 112))],
  ["an encryption extension", changed((b) => b.writeUInt32BE(0x0537be77, 112))],
  ["a backing file, version 2", changed((b) => b.writeBigUInt64BE(512n, 8), golden2)],
];
test.each(dangerous)("H-7.5 qcow2 with %s is image-dangerous", (_, bytes) => {
  expect(look(bytes)).toMatchObject({ ok: false, code: "image-dangerous" });
});

test("H-7.5 harmless incompatible bits are taken: dirty, compression type, extended L2", () => {
  expect(look(changed((b) => b.writeBigUInt64BE(1n | 8n | 16n, 72)))).toMatchObject({ ok: true });
});

const foreign: [string, Buffer, Uint8Array][] = [
  ["VMDK", Buffer.from("KDMV\x01\0\0\0"), none],
  ["VMDK", Buffer.from("# Disk DescriptorFile\nversion=1\n"), none],
  ["VHD", Buffer.from("conectix\0\0"), none],
  ["VHD", Buffer.alloc(4096), Buffer.concat([Buffer.from("conectix"), Buffer.alloc(504)])],
  ["VHDX", Buffer.from("vhdxfile"), none],
  ["VDI", Buffer.concat([Buffer.alloc(64), Buffer.from("7f10dabe", "hex")]), none],
  ["QED", Buffer.from("QED\0aaaa"), none],
  ["LUKS", Buffer.from("4c554b53babe0001", "hex"), none],
  ["parallels", Buffer.from("WithoutFreeSpace"), none],
  ["parallels", Buffer.from("WithouFreSpacExt"), none],
  ["qcow", Buffer.from("514649fb0000000100000000", "hex"), none],
];
test.each(foreign)("H-7.5 a raw image with the signature of %s is refused", (name, head, tail) => {
  const answer = look(head, tail);
  expect(answer).toMatchObject({ ok: false, code: "image-format" });
  expect(answer).toHaveProperty("detail", expect.stringContaining(name));
});

test("H-7.5 a disk larger than allowed is image-too-large, raw and qcow2", () => {
  const large = changed((b) => b.writeBigUInt64BE(BigInt(max) + 1n, 24));
  expect(look(large)).toMatchObject({ ok: false, code: "image-too-large" });
  expect(readImageHeader(Buffer.alloc(512), none, max + 1, max)).toMatchObject({
    code: "image-too-large",
  });
  const huge = changed((b) => b.writeBigUInt64BE(2n ** 64n - 1n, 24));
  expect(look(huge)).toMatchObject({ ok: false, code: "image-too-large" });
});

test("H-7.5 malformed qcow2 headers are image-format", () => {
  for (const bytes of [
    golden3.subarray(0, 60),
    golden3.subarray(0, 90),
    changed((b) => b.writeUInt32BE(4, 4)),
    changed((b) => b.writeUInt32BE(0, 20)),
    changed((b) => b.writeUInt32BE(63, 20)),
    changed((b) => b.writeUInt32BE(0xffffffff, 100)),
    changed((b) => b.writeBigUInt64BE(0n, 24)),
    Buffer.alloc(0),
  ]) {
    expect(look(bytes)).toMatchObject({ ok: false, code: "image-format" });
  }
});

test("H-7.5 no bytes throw, and whatever is taken as qcow2 names no other file", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 400 }),
      fc.array(fc.tuple(fc.nat(399), fc.nat(255)), { maxLength: 8 }),
      (tail, edits) => {
        expect(typeof look(tail, tail).ok).toBe("boolean");
        const bytes = changed((b) => edits.forEach(([at, value]) => b.writeUInt8(value, at)));
        const answer = look(bytes);
        const taken = answer.ok && answer.header.format === "qcow2";
        const plain = bytes.readBigUInt64BE(8) === 0n && bytes.readUInt32BE(32) === 0;
        const own = bytes.readUInt32BE(4) === 2 || !(bytes.readBigUInt64BE(72) & 6n);
        expect(!taken || (plain && own)).toBe(true);
      },
    ),
    { numRuns: 2_000 },
  );
});

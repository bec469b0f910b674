/**
 * Reads the first bytes of a disk image before any program opens it (H-7.5): what it is, how
 * large its disk, and whether it is dangerous. Pure; nothing is probed later: the format found
 * here is given everywhere. Opening files and asking qemu-img is inspection.ts's.
 *
 * qcow2 (QEMU docs/interop/qcow2), big endian:
 *   0 magic "QFI\xfb"  4 version  8 backing offset (8)  16 backing size  20 cluster bits
 *   24 virtual size (8)  32 crypt method  36 L1 size  40 L1 offset (8)  48 refcount offset (8)
 *   56 refcount clusters  60 snapshots  64 snapshots offset (8)
 *   version 3: 72 incompatible (8)  80 compatible (8)  88 autoclear (8)  96 order  100 length
 *   then header extensions: type (4), length (4), data padded to 8; type 0 ends
 */

export type ImageFormat = "qcow2" | "raw";

export type ImageHeader = { readonly format: ImageFormat; readonly virtualBytes: number };

export type HeaderRefusal = {
  readonly code: "image-dangerous" | "image-format" | "image-too-large";
  /** A sentence: what was found. */
  readonly detail: string;
};

export type HeaderAnswer =
  | { readonly ok: true; readonly header: ImageHeader }
  | ({ readonly ok: false } & HeaderRefusal);

/** So much of a file's beginning (and end) is looked at. */
export const headBytes = 64 * 1024;
export const tailBytes = 512;

const MAGIC = 0x51_46_49_fb;
const incompatible = { dirty: 1n, corrupt: 2n, dataFile: 4n, compression: 8n, extendedL2: 16n };
/** Bits that change how clusters are read, not which files; QEMU 7.2 knows both. */
const harmless = incompatible.dirty | incompatible.compression | incompatible.extendedL2;
const extensions = { backingFormat: 0xe2_79_2a_ca, dataFile: 0x44_41_54_41, crypt: 0x05_37_be_77 };

/** Signatures of formats that are refused, where a "raw" file bears them (H-7.5). */
const signatures: readonly { name: string; at: number; bytes: Buffer }[] = [
  { name: "VMDK", at: 0, bytes: Buffer.from("KDMV") },
  { name: "VMDK", at: 0, bytes: Buffer.from("COWD") },
  { name: "VMDK", at: 0, bytes: Buffer.from("# Disk DescriptorFile") },
  { name: "VHD", at: 0, bytes: Buffer.from("conectix") },
  { name: "VHDX", at: 0, bytes: Buffer.from("vhdxfile") },
  { name: "VDI", at: 64, bytes: Buffer.from("7f10dabe", "hex") },
  { name: "QED", at: 0, bytes: Buffer.from("QED\0") },
  { name: "LUKS", at: 0, bytes: Buffer.from("LUKS\xba\xbe", "latin1") },
  { name: "parallels", at: 0, bytes: Buffer.from("WithoutFreeSpace") },
  { name: "parallels", at: 0, bytes: Buffer.from("WithouFreSpacExt") },
  { name: "qcow", at: 0, bytes: Buffer.from("QFI\xfb\0\0\0\x01", "latin1") },
  { name: "bochs", at: 0, bytes: Buffer.from("Bochs Virtual HD Image") },
  { name: "cloop", at: 0, bytes: Buffer.from("#!/bin/sh\n#V2.0 Format") },
  { name: "dmg", at: 0, bytes: Buffer.from("koly") },
];
const footers: readonly { name: string; bytes: Buffer }[] = [
  { name: "VHD", bytes: Buffer.from("conectix") },
  { name: "dmg", bytes: Buffer.from("koly") },
];

/**
 * Looks at an image: its first bytes (up to {@link headBytes}), its last (up to
 * {@link tailBytes}) and its size; `maxVirtualBytes` is what the machine's disk or the
 * configuration allows.
 */
export function readImageHeader(
  head: Uint8Array,
  tail: Uint8Array,
  fileBytes: number,
  maxVirtualBytes: number,
): HeaderAnswer {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (fileBytes === 0) return refuse("image-format", "the image is empty");
  if (bytes.length >= 8 && bytes.readUInt32BE(0) === MAGIC && bytes.readUInt32BE(4) !== 1) {
    return readQcow2(bytes, maxVirtualBytes);
  }
  const other = foreignName(bytes, Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength));
  if (other !== undefined) return refuse("image-format", `the image is ${other}, not qcow2 or raw`);
  if (fileBytes > maxVirtualBytes) return tooLarge(fileBytes, maxVirtualBytes);
  return { ok: true, header: { format: "raw", virtualBytes: fileBytes } };
}

function foreignName(head: Buffer, tail: Buffer): string | undefined {
  const bears = signatures.find(({ at, bytes }) =>
    head.subarray(at, at + bytes.length).equals(bytes),
  );
  if (bears) return bears.name;
  return footers.find(({ bytes }) => tail.subarray(0, bytes.length).equals(bytes))?.name;
}

function readQcow2(bytes: Buffer, maxVirtualBytes: number): HeaderAnswer {
  if (bytes.length < 72) return refuse("image-format", "the qcow2 header is cut short");
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    return refuse("image-format", `qcow2 version ${version} is not known`);
  }
  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21) {
    return refuse("image-format", `qcow2 cluster bits are ${clusterBits}, not 9 to 21`);
  }
  if (bytes.readBigUInt64BE(8) !== 0n || bytes.readUInt32BE(16) !== 0) {
    return refuse("image-dangerous", "the qcow2 image names a backing file");
  }
  if (bytes.readUInt32BE(32) !== 0) return refuse("image-dangerous", "the image is encrypted");
  if (bytes.readUInt32BE(60) !== 0) {
    return refuse("image-dangerous", "the qcow2 image holds internal snapshots");
  }
  const extra = version === 3 ? readVersion3(bytes) : readExtensions(bytes, 72);
  if (extra) return extra;
  const virtualBytes = Number(bytes.readBigUInt64BE(24));
  if (virtualBytes === 0) return refuse("image-format", "the qcow2 image has a disk of no size");
  if (virtualBytes > maxVirtualBytes) return tooLarge(virtualBytes, maxVirtualBytes);
  return { ok: true, header: { format: "qcow2", virtualBytes } };
}

function readVersion3(bytes: Buffer): HeaderAnswer | undefined {
  if (bytes.length < 104) return refuse("image-format", "the qcow2 header is cut short");
  const bits = bytes.readBigUInt64BE(72);
  if (bits & incompatible.corrupt) {
    return refuse("image-dangerous", "the qcow2 image is marked corrupt");
  }
  if (bits & incompatible.dataFile) {
    return refuse("image-dangerous", "the qcow2 image keeps its data in another file");
  }
  const unknown = bits & ~harmless;
  if (unknown !== 0n) {
    return refuse("image-dangerous", `unknown incompatible bits 0x${unknown.toString(16)}`);
  }
  const length = bytes.readUInt32BE(100);
  if (length < 104 || length > bytes.length) {
    return refuse("image-format", `the qcow2 header says it has ${length} bytes`);
  }
  return readExtensions(bytes, length);
}

function readExtensions(bytes: Buffer, from: number): HeaderAnswer | undefined {
  for (let at = from; at + 8 <= bytes.length;) {
    const type = bytes.readUInt32BE(at);
    const length = bytes.readUInt32BE(at + 4);
    if (type === 0) return undefined;
    if (type === extensions.backingFormat) {
      return refuse("image-dangerous", "the qcow2 image names a backing format");
    }
    if (type === extensions.dataFile) {
      return refuse("image-dangerous", "the qcow2 image names a data file");
    }
    if (type === extensions.crypt) return refuse("image-dangerous", "the image is encrypted");
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

function tooLarge(virtualBytes: number, maxVirtualBytes: number): HeaderAnswer {
  return refuse(
    "image-too-large",
    `the image's disk has ${virtualBytes} bytes, ${maxVirtualBytes} are allowed`,
  );
}

function refuse(code: HeaderRefusal["code"], detail: string): HeaderAnswer {
  return { ok: false, code, detail };
}

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  encodePacket,
  flushPacket,
  longestPacketBytes,
  openPacketDecoder,
  packetText,
} from "./pkt-line-codec.ts";
import type { Packet } from "./pkt-line-codec.ts";

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const decode = (bytes: string | Uint8Array): Packet[] =>
  openPacketDecoder().push(Buffer.from(bytes as string));

describe("pkt-line (gitprotocol-common(5))", () => {
  // the examples of the manual page
  test.each([
    ["0006a\n", "a\n"],
    ["0005a", "a"],
    ["000bfoobar\n", "foobar\n"],
    ["0004", ""],
  ])("golden bytes %j", (wire, payload) => {
    expect(text(encodePacket(payload))).toBe(wire);
    expect(decode(wire)).toEqual([
      { kind: "data", payload: Uint8Array.from(Buffer.from(payload)) },
    ]);
  });

  test("golden bytes of a receive-pack's first words to a hook", () => {
    const wire = "001aversion=1\0push-options0000";
    const [first, second] = decode(wire);
    expect(packetText(first!)).toBe("version=1\0push-options");
    expect(second).toEqual({ kind: "flush" });
    expect(text(flushPacket)).toBe("0000");
  });

  test("flush, delimiter and end are told apart; a text is counted in bytes", () => {
    expect(decode("000000010002").map((packet) => packet.kind)).toEqual([
      "flush",
      "delimiter",
      "response-end",
    ]);
    expect(text(encodePacket("é")).slice(0, 4)).toBe("0006");
    expect(packetText({ kind: "flush" })).toBeUndefined();
  });

  test.each(["0003", "fff1", "00g5", "-001", "zzzz"])("%j is refused", (wire) => {
    expect(() => decode(wire)).toThrow(RangeError);
  });

  test("the longest packet passes, one byte more does not", () => {
    expect(encodePacket(Buffer.alloc(longestPacketBytes - 4)).length).toBe(longestPacketBytes);
    expect(() => encodePacket(Buffer.alloc(longestPacketBytes - 3))).toThrow(RangeError);
  });

  test("any packets, cut anywhere, come out as they went in", () => {
    const payload = fc.uint8Array({ maxLength: 40 });
    fc.assert(
      fc.property(fc.array(payload, { maxLength: 8 }), fc.array(fc.nat(200)), (payloads, cuts) => {
        const wire = Buffer.concat(payloads.map((one) => encodePacket(one)));
        const places = [0, ...cuts.map((cut) => Math.min(cut, wire.length)), wire.length];
        places.sort((one, other) => one - other);
        const decoder = openPacketDecoder();
        const found = places.flatMap((from, n) => decoder.push(wire.subarray(from, places[n + 1])));
        expect(found).toEqual(payloads.map((one) => ({ kind: "data", payload: one })));
        expect(decoder.pendingBytes).toBe(0);
      }),
    );
  });

  test("random bytes never do more than be refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        try {
          decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(RangeError);
        }
      }),
    );
  });
});

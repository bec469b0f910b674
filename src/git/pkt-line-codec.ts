/**
 * git's pkt-line (gitprotocol-common(5)): four hex digits of the whole length, then the payload.
 *
 *     0        4                length
 *     +--------+----------------+         0000  flush     0001  delimiter     0002  response end
 *     | length |  payload …     |         0004  an empty payload; 0003 is nothing
 *     +--------+----------------+         longest: fff0 (65,520 bytes with the length)
 *
 * Pure: bytes in, packets out. What travels in packets is read by others.
 */

export type Packet =
  | { readonly kind: "data"; readonly payload: Uint8Array }
  | { readonly kind: "flush" }
  | { readonly kind: "delimiter" }
  | { readonly kind: "response-end" };

export const longestPacketBytes = 65_520;
const LENGTH_DIGITS = 4;

export const flushPacket: Uint8Array = Buffer.from("0000", "latin1");

/** One data packet; a text goes as UTF-8. Throws RangeError for what is too long. */
export function encodePacket(payload: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(payload as string);
  const length = bytes.length + LENGTH_DIGITS;
  if (length > longestPacketBytes) throw new RangeError(`a packet of ${length} bytes is too long`);
  return Buffer.concat([Buffer.from(length.toString(16).padStart(LENGTH_DIGITS, "0")), bytes]);
}

export type PacketDecoder = {
  /** Packets that are complete with this chunk. Throws RangeError for a malformed length. */
  push(chunk: Uint8Array): Packet[];
  /** Bytes that wait for the rest of their packet. */
  readonly pendingBytes: number;
};

export function openPacketDecoder(): PacketDecoder {
  let pending = Buffer.alloc(0);
  return {
    get pendingBytes() {
      return pending.length;
    },
    push(chunk) {
      pending = Buffer.concat([pending, chunk]);
      const packets: Packet[] = [];
      let at = 0;
      while (pending.length - at >= LENGTH_DIGITS) {
        const length = readLength(pending.subarray(at, at + LENGTH_DIGITS).toString("latin1"));
        const special = specials[length];
        if (special) {
          packets.push(special);
          at += LENGTH_DIGITS;
          continue;
        }
        if (pending.length - at < length) break;
        packets.push({
          kind: "data",
          payload: Uint8Array.from(pending.subarray(at + LENGTH_DIGITS, at + length)),
        });
        at += length;
      }
      pending = pending.subarray(at);
      return packets;
    },
  };
}

/** The text of a data packet, without the newline that may end it; undefined for the others. */
export function packetText(packet: Packet): string | undefined {
  if (packet.kind !== "data") return undefined;
  return Buffer.from(packet.payload).toString("utf8").replace(/\n$/, "");
}

const specials: readonly (Packet | undefined)[] = [
  { kind: "flush" },
  { kind: "delimiter" },
  { kind: "response-end" },
];

function readLength(digits: string): number {
  const length = /^[0-9a-f]{4}$/i.test(digits) ? Number.parseInt(digits, 16) : 3;
  if (length === 3 || length > longestPacketBytes) {
    throw new RangeError(`${JSON.stringify(digits)} is no length of a packet`);
  }
  return length;
}

/**
 * An Ethernet frame with a DHCPDISCOVER (RFC 2131) as a machine sends one when it boots: what a
 * probe lets the DHCP server see. Pure.
 */
import { assert } from "../base/assert.ts";

/** Broadcast is asked for, so that the answer goes to nobody in particular. */
export function discoverFrame(mac: string, xid: number): Buffer {
  assert(/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/.test(mac), `not a MAC address: ${mac}`);
  const chaddr = Buffer.from(mac.replaceAll(":", ""), "hex");
  const message = dhcpMessage(chaddr, xid);
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(68, 0);
  udp.writeUInt16BE(67, 2);
  udp.writeUInt16BE(8 + message.length, 4); // its checksum stays 0: none, as IPv4 allows
  const ip = ipHeader(udp.length + message.length);
  const ethernet = Buffer.concat([Buffer.alloc(6, 0xff), chaddr, Buffer.from([0x08, 0x00])]);
  return Buffer.concat([ethernet, ip, udp, message]);
}

function dhcpMessage(chaddr: Buffer, xid: number): Buffer {
  const bootp = Buffer.alloc(236);
  bootp.set([1, 1, 6, 0]);
  bootp.writeUInt32BE(xid, 4);
  bootp.writeUInt16BE(0x8000, 10);
  bootp.set(chaddr, 28);
  const cookie = [0x63, 0x82, 0x53, 0x63];
  const options = [53, 1, 1, 55, 3, 1, 3, 26, 255];
  return Buffer.concat([bootp, Buffer.from([...cookie, ...options])]);
}

/** 0.0.0.0 → 255.255.255.255, UDP. */
function ipHeader(payload: number): Buffer {
  const header = Buffer.alloc(20);
  header.set([0x45, 0x10]);
  header.writeUInt16BE(20 + payload, 2);
  header.set([64, 17], 8);
  header.fill(0xff, 16, 20);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  header.writeUInt16BE(~sum & 0xffff, 10);
  return header;
}

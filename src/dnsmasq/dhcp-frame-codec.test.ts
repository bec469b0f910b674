/** A machine's DHCPDISCOVER as bytes, and the line by which dnsmasq says that it answered. */
import { expect, test } from "vitest";
import { discoverFrame } from "./dhcp-frame-codec.ts";
import { isOffer } from "./dnsmasq-leases.ts";

const mac = "02:0b:d0:69:7e:59";

test("H-2.2 the frame is broadcast from the MAC, with whole headers and the message of RFC 2131", () => {
  const frame = discoverFrame(mac, 0x01020304);
  expect(frame.toString("hex", 0, 14)).toBe("ffffffffffff020bd0697e590800");
  const ip = frame.subarray(14, 34);
  expect(ip.readUInt16BE(2)).toBe(frame.length - 14);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += ip.readUInt16BE(at);
  expect((sum & 0xffff) + (sum >>> 16)).toBe(0xffff); // RFC 791: with its checksum, all ones
  const udp = frame.subarray(34, 42);
  expect([udp.readUInt16BE(0), udp.readUInt16BE(2)]).toEqual([68, 67]);
  expect(udp.readUInt16BE(4)).toBe(frame.length - 34);
  const message = frame.subarray(42);
  expect(message.toString("hex", 0, 12)).toBe("010106000102030400008000");
  expect(message.toString("hex", 28, 34)).toBe("020bd0697e59");
  expect(message.toString("hex", 236, 243)).toBe("63825363350101");
  expect(() => discoverFrame("02:0b", 1)).toThrow(/not a MAC/);
});

test("an offer is the probe's with its MAC and its address alone", () => {
  const line = `dnsmasq-dhcp[8860]: 16909060 DHCPOFFER(br-ctlplane) 10.99.0.254 ${mac}`;
  const own = { mac, ip: "10.99.0.254" };
  expect(isOffer(line, own)).toBe(true);
  expect(isOffer(line, { ...own, ip: "10.99.0.25" })).toBe(false);
  expect(isOffer(line.replace(mac, "02:0b:d0:69:7e:58"), own)).toBe(false);
  expect(isOffer(line.replace("OFFER", "ACK"), own)).toBe(false);
});

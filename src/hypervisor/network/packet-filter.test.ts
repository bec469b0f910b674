/** H-2.6a: what a DHCP packet must be to reach dnsmasq, as nft's rules. */
import { expect, test } from "vitest";
import { AssertionError } from "../../base/assert.ts";
import { dhcpRuleset } from "./packet-filter.ts";

const mac = "00:11:22:33:44:55";
const rules = (macs: readonly string[]): string[] =>
  dhcpRuleset(macs)
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => /(accept|drop)$/.test(line));

test("frame and chaddr agree, for each client; the type stands first and is no DECLINE", () => {
  const own = rules([mac, mac]);
  expect(own.pop()).toBe("drop");
  expect(own).toHaveLength(4);
  for (const rule of own) {
    expect(rule).toContain(`ether saddr ${mac} `);
    expect(rule).toContain("@th,288,48 0x001122334455 "); // chaddr
    expect(rule).toContain("@th,256,32 0x0 "); // giaddr
  }
  expect(own.map((rule) => /@th,1984,24 0x3501(\d\d) accept$/.exec(rule)?.[1])).toEqual([
    "01", // DISCOVER
    "03", // REQUEST
    "07", // RELEASE
    "08", // INFORM
  ]);
});

test("without clients nothing passes; what is no MAC asserts", () => {
  expect(rules([])).toEqual(["drop"]);
  expect(() => dhcpRuleset([`${mac} accept`])).toThrow(AssertionError);
});

/** Issue 6, section 9: an asker's word opens no rack to another's node, seed or the host. */
import { expect, test } from "vitest";
import { admitAddresses } from "./holder-addresses.ts";

const nodes = new Set(["10.99.4.180"]);
const admit = (...addresses: string[]) => admitAddresses(addresses, "10.99.4.0/24", nodes);

test("a node of this host, and whoever is outside of the test network", () => {
  const addresses = ["10.99.4.180", "192.0.2.7", "10.99.5.180", "2001:db8::7"];
  expect(admit(...addresses)).toEqual({ admitted: addresses, refused: [] });
});

test.each([
  ["another's node, or one that is not there", "10.99.4.181"],
  ["another rack's seed", "10.99.4.12"],
  ["the host", "10.99.4.1"],
  ["the machine", "10.99.4.2"],
  ["a network", "10.99.4.180/24"],
  ["a network around the test network", "10.99.0.0/16"],
  ["no address", "10.99.4.180,10.99.4.12"],
])("%s is refused, the others stay: %s", (_what, address) => {
  expect(admit("10.99.4.180", address)).toEqual({ admitted: ["10.99.4.180"], refused: [address] });
});

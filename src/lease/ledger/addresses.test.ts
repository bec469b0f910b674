import { expect, test } from "vitest";
import { isInside } from "./addresses.ts";

test.each([
  ["10.99.0.0", "10.99.0.0/24", true],
  ["10.99.0.255", "10.99.0.0/24", true],
  ["10.99.1.0", "10.99.0.0/24", false],
  ["10.98.255.255", "10.99.0.0/24", false],
  ["10.99.128.1", "10.99.0.0/16", true],
  ["192.0.2.1", "0.0.0.0/0", true],
  ["192.0.2.1", "192.0.2.1/32", true],
  ["192.0.2.2", "192.0.2.1/32", false],
  ["not an address", "10.99.0.0/24", false],
])("%s in %s: %s", (address, cidr, inside) => {
  expect(isInside(address, cidr)).toBe(inside);
});

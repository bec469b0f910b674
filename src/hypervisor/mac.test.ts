/** Issue 6, section 9: MACs cannot be computed from what `/v1/hosts` shows. */
import { expect, test } from "vitest";
import { macAddress } from "./mac.ts";

test("H-2.6a the same for ever with its key, another with another key, NIC or machine", () => {
  const mac = macAddress("key", 3, "seed", 0);
  expect(mac).toMatch(/^00(:[0-9a-f]{2}){5}$/);
  expect(macAddress("key", 3, "seed", 0)).toBe(mac);
  const others = [
    macAddress("other", 3, "seed", 0),
    macAddress("key", 3, "seed", 1),
    macAddress("key", 3, 0, 0),
    macAddress("key", "node", "3"),
  ];
  expect(new Set([mac, ...others]).size).toBe(5);
});

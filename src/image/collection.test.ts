import { expect, test } from "vitest";
import { imagesToRemove } from "./collection.ts";

const images = [
  { digest: "young", bytes: 10, usedAtMs: 3 },
  { digest: "old", bytes: 5, usedAtMs: 1 },
  { digest: "used", bytes: 50, usedAtMs: 0 },
  { digest: "middle", bytes: 10, usedAtMs: 2 },
];
const inUse = new Set(["used"]);

test("H-7.7 below 80 % nothing goes", () => {
  expect(imagesToRemove(images, inUse, { usedBytes: 80, totalBytes: 100 })).toEqual([]);
});

test("H-7.7 above it the least recently used go, down to 70 %, never what is used", () => {
  expect(imagesToRemove(images, inUse, { usedBytes: 82, totalBytes: 100 })).toEqual([
    "old",
    "middle",
  ]);
  expect(imagesToRemove(images, inUse, { usedBytes: 99, totalBytes: 100 })).toEqual([
    "old",
    "middle",
    "young",
  ]);
});

/** Issue 6, section 9: the state directory is closed; QEMU's account has ways of its own. */
import { expect, test } from "vitest";
import { guestPath, statePath } from "./guest-files.ts";

const state = "/root/of some body/state";

test.each([
  ["te/disks/seed_1.qcow2", "/run/rackyard-guests/te-disks/seed_1.qcow2"],
  ["te/nodes/a/config.img", "/run/rackyard-guests/te-nodes/a/config.img"],
  ["images/sha256/00ff", "/run/rackyard-guests/images-sha256/00ff"],
])("%s is %s to QEMU, and back", (path, seen) => {
  expect(guestPath(state, `${state}/${path}`)).toBe(seen);
  expect(statePath(state, seen)).toBe(`${state}/${path}`);
});

test.each([
  "/usr/share/x",
  `${state}/te/keys/te1.json`,
  `${state}/te/disks`,
  `${state}/te/disks2/x`,
])("%s has no other way", (path) => {
  expect(guestPath(state, path)).toBe(path);
});

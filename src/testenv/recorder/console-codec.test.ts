import * as fc from "fast-check";
import { expect, test } from "vitest";
import { readConsoleLine } from "./console-codec.ts";

test.each([
  ["@rackyard up", { kind: "up" }],
  ["[    1.5] @rackyard up\r", { kind: "up" }],
  ["@rackyard phase=network", { kind: "phase", phase: "network" }],
  ["\u001b[1;32m@rackyard phase=net", { kind: "phase", phase: "net" }],
  ["@rackyard fail no address on eth0", { kind: "fail", detail: "no address on eth0" }],
  ["SeaBIOS (version 1.16.2-debian-1.16.2-1)", { kind: "phase", phase: "firmware" }],
  ["iPXE (http://ipxe.org) 00:03.0 CA00 PCI2.10", { kind: "phase", phase: "ipxe" }],
  ["[    0.000000] Linux version 6.1.0-56-cloud-amd64", { kind: "phase", phase: "kernel" }],
  ["[    1.200000] Run /init as init process", { kind: "phase", phase: "init" }],
  ["node login: ", { kind: "phase", phase: "login" }],
  ["echo '@rackyard up' somewhere", undefined],
  ["x@rackyard up", undefined],
  ["@rackyard upwards", undefined],
  ["@rackyard", undefined],
  ["", undefined],
])("H-11.2 %j", (line, mark) => expect(readConsoleLine(line)).toEqual(mark));

test("H-11.2 any line is harmless, and a mark is short", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const mark = readConsoleLine(`@rackyard phase=${text}`) ?? readConsoleLine(text);
      expect(JSON.stringify(mark ?? "").length).toBeLessThan(600);
    }),
  );
});

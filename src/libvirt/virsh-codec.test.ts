/** H-4.3, H-4.4: the framing of a long-lived virsh, against its own bytes, cut anywhere. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "../base/assert.ts";
import { commandLine, encodeCommand, faultOf, openAnswerReader } from "./virsh-codec.ts";

/** As virsh 9.0 prints it for `list --all` of its test driver. */
const stdout =
  "virsh # list --all\n 1   test   running\nvirsh # echo N1\nN1virsh # echo --err N1\nvirsh # ";

describe("framing", () => {
  test("H-4.3 a command is followed by both echoes", () => {
    expect(encodeCommand("list --all", "N1")).toBe("list --all\necho N1\necho --err N1\n");
  });

  test("H-4.3 the answer lies before the marks, at every split point of both streams", () => {
    const stderr = "error: N1\n";
    for (let cut = 0; cut <= stdout.length; cut++) {
      for (let errCut = 0; errCut <= stderr.length; errCut++) {
        const reader = openAnswerReader("list --all", "N1");
        reader.out(stdout.slice(0, cut));
        reader.err(stderr.slice(0, errCut));
        const early = reader.answer();
        reader.out(stdout.slice(cut));
        reader.err(stderr.slice(errCut));
        const answer = { output: " 1   test   running\n", errors: [] };
        if (early) expect(early).toEqual(answer);
        expect(reader.answer()).toEqual(answer);
      }
    }
  });

  test("H-4.3 one mark alone is no answer", () => {
    const reader = openAnswerReader("list --all", "N1");
    reader.out(stdout);
    expect(reader.answer()).toBeUndefined();
    reader.err("error: N1\n");
    expect(reader.answer()).toBeDefined();
  });

  test("H-4.3 what is left of the answer before is passed over, wherever that one was cut", () => {
    const left = "virsh # echo --err N0\n";
    for (let cut = 0; cut <= left.length + "virsh # ".length; cut++) {
      const reader = openAnswerReader("list --all", "N1");
      reader.out(`${left}${stdout}`.slice(cut));
      reader.err("error: N1\n");
      expect(reader.answer()?.output).toBe(" 1   test   running\n");
    }
  });

  test("H-4.3 any other error is a failure; a lost and found connection is none", () => {
    const reader = openAnswerReader("domstate x", "N2");
    reader.out("virsh # domstate x\n\nvirsh # echo N2\nN2");
    reader.err("error: Reconnected to the hypervisor\nerror: failed to get domain 'x'\n");
    reader.err("error: N2\n");
    expect(reader.answer()?.errors).toEqual(["failed to get domain 'x'"]);
  });

  test("H-4.3 random bytes in the answer and random cuts change nothing", () => {
    const nonce = "f3a9c2d1e4b5";
    fc.assert(
      fc.property(
        fc.string({ unit: "binary", maxLength: 80 }).filter((text) => !text.includes(nonce)),
        fc.array(fc.nat(400), { maxLength: 8 }),
        (body, cuts) => {
          const all = `virsh # dumpxml u\n${body}virsh # echo ${nonce}\n${nonce}virsh # `;
          const reader = openAnswerReader("dumpxml u", nonce);
          let from = 0;
          for (const cut of [...cuts].sort((a, b) => a - b)) {
            reader.out(all.slice(from, cut));
            from = Math.max(from, Math.min(cut, all.length));
          }
          reader.out(all.slice(from));
          reader.err(`error: ${nonce}\n`);
          expect(reader.answer()).toEqual({ output: body, errors: [] });
        },
      ),
    );
  });
});

describe("arguments", () => {
  test.each([
    ["a blank", "a b"],
    ["a newline", "start\ndestroy"],
    ["a semicolon", "a;b"],
    ["a quote", "a'b"],
    ["a dollar", "$HOME"],
    ["a backslash", "a\\b"],
    ["nothing", ""],
  ])("H-4.4 %s asserts", (_what, word) => {
    expect(() => commandLine(["start", word])).toThrow(AssertionError);
  });

  test("H-4.4 UUIDs, paths, options and URIs pass", () => {
    const line = commandLine(["define", "/tmp/a_b/1.xml", "--all", "urn:rackyard:te:1"]);
    expect(line).toBe("define /tmp/a_b/1.xml --all urn:rackyard:te:1");
  });
});

test.each([
  ["no-domain", ["failed to get domain 'x'"]],
  ["is-on", ["Domain is already active"]],
  [
    "is-on",
    ["Failed to start domain", "Requested operation is not valid: domain is already running"],
  ],
  ["is-off", ["Failed to destroy", "Requested operation is not valid: domain is not running"]],
  [
    "no-connection",
    ["Failed to connect socket to '/run/libvirt/libvirt-sock': Connection refused"],
  ],
  ["other", ["internal error: process exited while connecting to monitor"]],
] as const)("H-4.3 virsh's words mean %s", (fault, errors) => {
  expect(faultOf(errors)).toBe(fault);
});

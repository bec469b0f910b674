import fc from "fast-check";
import { posix } from "node:path";
import { expect, test } from "vitest";
import { run } from "../base/command.ts";
import {
  checkProjectName,
  isObjectId,
  isProjectName,
  isRefName,
  refNameFault,
} from "./project-name.ts";

test.each([
  "app",
  "group/app",
  "platform/prebuilts/gcc/linux-x86/host/glibc-4.8",
  "_infra/x",
  "my-tool",
  "x.y_z+1",
  "A1",
])("%j names a project", (name) => expect(isProjectName(name)).toBe(true));

test.each([
  "",
  "/",
  "/app",
  "app/",
  "a//b",
  "..",
  "../app",
  "a/../b",
  "a/./b",
  ".git",
  "a/.git",
  "app.git",
  "app.lock",
  "app.GIT/x",
  "-app",
  "a b",
  "a\nb",
  "a\0b",
  "a%2fb",
  "a\\b",
  "é",
  "a..b",
  "foo.lock",
  "x.git/y",
  "x/foo.lock/y",
  Array.from({ length: 21 }, () => "a").join("/"),
  "a/".repeat(20) + "a",
  "a".repeat(101),
  `${"a".repeat(90)}/${"b".repeat(90)}/${"c".repeat(90)}`,
])("%j names no project", (name) => {
  expect(isProjectName(name)).toBe(false);
  expect(() => checkProjectName(name)).toThrow(/is no name of a project/);
});

test("a name that passes stays below its folder, whatever it is", () => {
  const part = fc.string({
    unit: fc.constantFrom(...Array.from("ab.-_/~%\\ \0\n")),
    maxLength: 12,
  });
  fc.assert(
    fc.property(part, (name) => {
      if (!isProjectName(name)) return;
      expect(posix.normalize(`/state/git/${name}.git`)).toBe(`/state/git/${name}.git`);
    }),
  );
});

const caseNames = [
  "dependabot/npm_and_yarn/@types/node-18.0.1",
  "user@host",
  "fix(scope)",
  "a=b",
  "v1.0,rc",
  "it's",
  "ünï/cöde",
];

test.each(["master", "stable/x", "release-1.0", "a_b", "v1", "wip#2", "1%", ...caseNames])(
  "%j is a branch",
  (name) => expect(isRefName(name)).toBe(true),
);

test.each([
  "",
  "-x",
  ".x",
  "a..b",
  "a//b",
  "a/.b",
  "a/",
  "/a",
  "a.",
  "a.lock",
  "a.lock/b",
  "a b",
  "a~1",
  "a^",
  "a:b",
  "a?",
  "a*",
  "a[",
  "a\\b",
  "a@{1}",
  "@",
  "HEAD",
  "a\u007f",
  "a\u00a0b",
  "a\u202eb",
  "a\u200bb",
  "\ud800",
  "refs/heads/x",
  "a".repeat(201),
  "ü".repeat(101),
])("%j is no branch, and the reason is told", (name) => {
  expect(isRefName(name)).toBe(false);
  expect(refNameFault(name)).toBeTruthy();
});

test("git takes every name that passes", async () => {
  const part = fc.string({ unit: "grapheme", maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(part, async (name) => {
      if (!isRefName(name)) return;
      const checked = await run("git", ["check-ref-format", `refs/heads/${name}`]);
      expect(checked.exitCode).toBe(0);
    }),
    { numRuns: 60 },
  );
});

test("an object's name is all of its digits", () => {
  expect(isObjectId("a".repeat(40))).toBe(true);
  expect(isObjectId("a".repeat(64))).toBe(true);
  for (const text of ["a".repeat(39), "A".repeat(40), "HEAD", "--all", `${"a".repeat(40)}\n`]) {
    expect(isObjectId(text)).toBe(false);
  }
});

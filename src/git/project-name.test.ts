import fc from "fast-check";
import { posix } from "node:path";
import { expect, test } from "vitest";
import { checkProjectName, isBranchName, isObjectId, isProjectName } from "./project-name.ts";

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
  "a/".repeat(20) + "a",
  "a".repeat(101),
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

test.each(["master", "stable/x", "release-1.0", "a_b", "v1", "wip#2"])("%j is a branch", (name) => {
  expect(isBranchName(name)).toBe(true);
});

test.each([
  "",
  "-x",
  ".x",
  "a..b",
  "a//b",
  "a/.b",
  "a/",
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
  "refs/heads/x",
  "a".repeat(201),
])("%j is no branch", (name) => expect(isBranchName(name)).toBe(false));

test("an object's name is all of its digits", () => {
  expect(isObjectId("a".repeat(40))).toBe(true);
  expect(isObjectId("a".repeat(64))).toBe(true);
  for (const text of ["a".repeat(39), "A".repeat(40), "HEAD", "--all", `${"a".repeat(40)}\n`]) {
    expect(isObjectId(text)).toBe(false);
  }
});

import { expect, test } from "vitest";
import { findChangeId, printable, subjectOf } from "./change-message.ts";

const ID = `I${"0123456789abcdef".repeat(3).slice(0, 40)}`;

test.each([
  ["Add a\n\nBody.\n", "Add a"],
  ["\n\nAdd a\nand b\n\nBody.", "Add a and b"],
  ["", "(no subject)"],
  [`${"x".repeat(300)}\n`, `${"x".repeat(199)}…`],
  ["Red \u001b[31malert\u202e\n", "Red ?[31malert?"],
])("the subject of %j", (message, subject) => expect(subjectOf(message)).toBe(subject));

test.each([
  [`Add a\n\nChange-Id: ${ID}\n`, "found"],
  [`Add a\n\nBody.\n\nSigned-off-by: D <d@x>\nChange-Id: ${ID}\nX: y\n\n`, "found"],
  [`Add a\n\nchange-id: ${ID.toUpperCase()}\n`, "found"],
  [`Add a\n\nChange-Id: ${ID}  \n`, "found"],
  [`Add a\n\nChange-Id: ${ID}\nChange-Id: ${ID}\n`, "found"],
  [`Add a\n\nChange-Id: ${ID}\nChange-Id: I${"f".repeat(40)}\n`, "several"],
  [`Add a\n\nChange-Id: ${ID}\n\nMore.\n`, "above"],
  [`Add a\n\nChange-Id: ${ID.slice(0, 40)}\n`, "missing"],
  [`Add a\n\nChange-Id: ${ID}0\n`, "missing"],
  [`Add a\n\n  Change-Id: ${ID}\n`, "missing"],
  ["", "missing"],
])("the Change-Id of %j: %s", (message, kind) => {
  const found = findChangeId(message);
  expect(found.kind).toBe(kind);
  if (found.kind === "found") expect(found.changeId).toBe(ID);
});

test("what a terminal would obey is shown as ?", () => {
  expect(printable("a\u0007b\u009bc")).toBe("a?b?c");
});
